"""As many quadrature nodes as an image needs: few, and more only where these are in doubt (docs/method.md §3)."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..models.staged import StagedModel
from .quadrature import Quadrature
from .search import NeuronPath, find_path
from .searches import Search, search_of

RULE = "gauss-radau"
#: Nodes that are tried in turn, by the name of the search: docs/search.md says how they were chosen.
NODES = {"layer": (4, 5, 9), "shortlist": (2, 3, 5), "exhaustive": (2, 3, 5)}


def find_path_auto(
    model: StagedModel, images: Tensor, targets: Tensor, *, search: Search | str = "layer", **options: Any
) -> NeuronPath:
    """`neuronpath.find_path` with few Gauss-Radau nodes, and with more for the images that these leave in doubt.

    An image is in doubt where in any layer the rule and a rule of lower degree on some of its nodes choose different
    neurons. It is searched again with the next of `NODES` until two rules in turn find the same path (K > 1: the same
    neurons per layer, in any order). All that is returned is the last rule's; `nodes` (B,) says which, and `converged`
    (B,) whether it and the one before agreed, 1 or 0, or -1 where there was none before.
    `options` and errors: as of `find_path`.
    """
    search = search_of(search)
    if search.name not in NODES:
        raise ValueError(f"search {search.name!r} has no nodes that adapt; choose from {', '.join(NODES)}")

    def find(which: Tensor, nodes: int) -> NeuronPath:
        rule = Quadrature(RULE, nodes)
        try:
            found = find_path(model, images[which], targets[which], rule, search=search, doubt=True, **options)
        except NonFiniteError as e:
            raise NonFiniteError(int(which[e.image]), e.what) from e
        return replace(found, nodes=torch.full_like(which, nodes), converged=torch.full_like(which, -1))

    first, *more = NODES[search.name]
    found = find(torch.arange(len(images), device=images.device), first)
    assert found.doubt is not None
    again = found.doubt.nonzero()[:, 0]
    for nodes in more:
        if not len(again):
            break
        before, finer = found.path[again], find(again, nodes)
        differs = (finer.path.sort(-1).values != before.sort(-1).values).flatten(1).any(1)
        finer = replace(finer, converged=(~differs).long())
        for field in fields(NeuronPath):
            if (column := getattr(found, field.name)) is not None:
                column[again] = getattr(finer, field.name)
        again = again[differs]
    return found
