"""What the scripts run over a data set: extraction, edits, pruning, and the check before them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
