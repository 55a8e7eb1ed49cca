"""As many quadrature nodes as an image needs: four, and more only where a choice was close (docs/method.md §3)."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..models.vit import VisionTransformer
from .quadrature import Quadrature
from .search import NeuronPath, find_path

#: What `--quadrature` calls it, beside the rules.
AUTO = "auto"

NODES = (4, 8, 16)  # Gauss-Legendre, tried in turn
# Smallest margin of a path's layers under which an image is searched again: docs/search.md says how it was chosen.
THRESHOLD = 6e-4


def find_path_auto(
    model: VisionTransformer, images: Tensor, targets: Tensor, *, threshold: float = THRESHOLD, **options: Any
) -> NeuronPath:
    """`neuronpath.find_path` with four Gauss-Legendre nodes, and again with 8, then 16, where a margin was close.

    An image whose smallest margin is under `threshold` is searched again until two rules in turn find the same path
    (K > 1: the same neurons per layer, in any order). All that is returned is the last rule's; `nodes` (B,) says
    which, and `converged` (B,) whether it and the one before agreed, 1 or 0, or -1 where there was none before.
    `options` and errors: as of `find_path`. Cost: 4, 12 or 28 nodes per image in all.
    """

    def search(which: Tensor, nodes: int) -> NeuronPath:
        try:
            found = find_path(model, images[which], targets[which], Quadrature("gauss-legendre", nodes), **options)
        except NonFiniteError as e:
            raise NonFiniteError(int(which[e.image]), e.what) from e
        return replace(found, nodes=torch.full_like(which, nodes), converged=torch.full_like(which, -1))

    found = search(torch.arange(len(images), device=images.device), NODES[0])
    again = (found.margin.amin(1) < threshold).nonzero()[:, 0]
    for nodes in NODES[1:]:
        if not len(again):
            break
        before, finer = found.path[again], search(again, nodes)
        differs = (finer.path.sort(-1).values != before.sort(-1).values).flatten(1).any(1)
        finer = replace(finer, converged=(~differs).long())
        for field in fields(NeuronPath):
            if (column := getattr(found, field.name)) is not None:
                column[again] = getattr(finer, field.name)
        again = again[differs]
    return found
