"""Numbers from records: scores and deviations with intervals, the table, pruning, classes and their similarity."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
