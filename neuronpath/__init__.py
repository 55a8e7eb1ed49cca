"""NeuronPath: which few neurons carry a Vision Transformer's decision, layer by layer.

Letters, everywhere: B images · T tokens · N neuron tokens · D width · H FFN units per layer · L layers (0-based) ·
C classes · m integration nodes · K neurons kept per layer · R rows, images × nodes. F is the softmax probability of
the target class; h̄ the activations of the unperturbed forward, w̄ those of one neuron.
"""

from .adaptive import find_path_auto
from .checkpoint import load
from .edits import edit, enhance, gain, remove
from .influence import InfluencePath, influence_path
from .quadrature import Quadrature
from .score import score_path
from .search import NeuronPath, activation_path, find_path

__all__ = [
    "InfluencePath",
    "NeuronPath",
    "Quadrature",
    "activation_path",
    "edit",
    "enhance",
    "find_path",
    "find_path_auto",
    "gain",
    "influence_path",
    "load",
    "remove",
    "score_path",
]
