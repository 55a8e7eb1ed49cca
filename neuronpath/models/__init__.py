"""The model and where its weights come from: one Vision Transformer, its configs, checkpoints, devices, training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
