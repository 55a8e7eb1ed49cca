"""NeuronPath: which few neurons carry a Vision Transformer's decision, layer by layer.

Letters, everywhere: B images · T tokens · N neuron tokens · D width · H FFN units per layer · L layers (0-based) ·
C classes · m integration nodes · K neurons kept per layer · R rows, images × nodes. F is the softmax probability of
the target class, or another `objective` of its logit; h̄ the activations of the unperturbed forward, w̄ those of one
neuron.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
