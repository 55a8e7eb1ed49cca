"""Rows, (image, node) pairs: how many are evaluated at once, which bounds the memory and changes no result."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .quadrature import Quadrature

CPU_FLOATS = 8 * 2**20
GPU_FLOATS = 2 * 2**30


def node_groups(
    quadrature: Quadrature, size: int, like: Tensor, whole: bool = False
) -> Iterable[tuple[Tensor, Tensor]]:
    """(nodes, weights) in groups of at most `size`, at least 1, on the device and in the dtype of `like`.

    Without the node α = 1, which has no row, unless all are wanted, the `whole` rule.
    """
    of_rule = (quadrature.nodes, quadrature.weights) if whole else quadrature.ramped
    nodes, weights = (torch.as_tensor(x).to(like) for x in of_rule)
    if not len(nodes):
        return []
    return zip(nodes.split(max(1, size)), weights.split(max(1, size)), strict=True)


def image_groups(quadrature: Quadrature, rows: int, *tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The images in groups whose nodes fit into `rows` together; one by one where not even one image's do."""
    size = max(1, rows // max(1, len(quadrature.ramped[0])))
    return zip(*(cast("tuple[Tensor, ...]", x.split(size)) for x in tensors), strict=True)


def default_rows(model: StagedModel, device: torch.device) -> int:
    """Rows (images × nodes) at once, a fixed function of the model's shape and the kind of device.

    On a CPU the hidden layer of all rows stays about the size of a cache; twice that for a mean head, so that the 20
    nodes of one image fit in at ViT-B and ViT-L sizes and their graph is not recomputed (`engine.ReverseRamp`). On a
    GPU the kept graph of a whole tail takes a few GiB.
    """
    config = model.config
    floats = model.tokens * config.mlp_dim
    if device.type == "cpu":
        return max(1, CPU_FLOATS * (1 if model.num_neuron_tokens == 1 else 2) // floats)
    return max(1, GPU_FLOATS // (floats * config.depth * 6))
