"""The atlas: found paths, images and units as pages that open from disk. `page` holds what a browser runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
