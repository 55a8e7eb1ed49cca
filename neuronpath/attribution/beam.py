"""Beam search: the best few paths go on from each layer (docs/method.md §3).

Each path of the beam has ramps of its own over the same images, so that the engine is that of one path, W times, and
what it keeps from layer to layer is passed on from a path to those that continue it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from .candidates import Frontier
from .choice import Choice, choose
from .engine import Problem, Ramp, search_ramps
from .forward import gather_neurons
from .searches import Beam


def beam_search(problem: Problem, beam: Beam) -> tuple[Tensor, list[Choice]]:
    """The JAS (B,) of the best of the finished paths, and what it has in each layer.

    In every layer each path kept scores its candidates, and the `beam.width` best pairs (path, candidate) are kept, or
    as many as there are. Equal scores go to the path that was the better one, then to the lowest neuron. The finished
    paths are compared by their JAS. The margin of a layer is that of the path's own neuron over the best other beside
    the same prefix, below 0 where it was not the best there (`choice.margins`).

    Costs a search of one path in layer 0 and `beam.width` of them from there on; for N > 1 the path's layers are run
    again in each layer.
    """
    paths: list[Sequence[Ramp]] = [search_ramps(problem, branching=True)]
    sums, layers = [torch.zeros_like(problem.plain.hidden[0][..., 0])], list[Choice]()  # Σ of w̄, (B, N) per path
    for layer, h in enumerate(problem.plain.hidden):
        frontiers = [Frontier(ramps, layer, S, h, 1, problem.rows) for ramps, S in zip(paths, sums, strict=True)]
        parents, step = beam.over.scores(frontiers, beam.width).best(beam.width)
        layers = [*(_of(earlier, parents) for earlier in layers), step]
        branches = [_branches(ramps, parents) for ramps in zip(*paths, strict=True)]
        chosen = step.chosen.split(1, 1)  # (B, 1) per path
        paths = list(zip(*branches, strict=True))
        sums = [
            S + gather_neurons(h, neuron).sum(-1) for S, neuron in zip(_passed_on(sums, parents), chosen, strict=True)
        ]
        for ramps, neuron in zip(paths, chosen, strict=True):
            for ramp in ramps:
                ramp.extend(neuron)
    G = [reduce(torch.add, (ramp.finish() for ramp in ramps)) for ramps in paths]
    scores = torch.stack([(S * g).mean(1) for S, g in zip(sums, G, strict=True)], 1)  # (B, W)
    best = choose(scores, 1)[0]
    found = [_of(layer, best).map(lambda x: x[:, 0]) for layer in layers]
    return scores.gather(1, best)[:, 0], [replace(layer, chosen=layer.chosen[:, None]) for layer in found]


def _of(layer: Choice, paths: Tensor) -> Choice:
    """What these of the paths of each image, (B, W), have in `layer`."""
    return layer.map(lambda x: x.gather(1, paths))


def _branches(ramps: Sequence[Ramp], parents: Tensor) -> list[Ramp]:
    """Of `ramps`, one per path, those of the paths that continue the `parents` (B, W)."""
    chosen = [_passed_on(neurons, parents) for neurons in zip(*(ramp.chosen for ramp in ramps), strict=True)]
    kept = {name: [getattr(ramp, name) for ramp in ramps] for name in ramps[0].kept}
    passed = {name: _passed_on(x, parents) for name, x in kept.items() if x[0] is not None}
    return [
        ramps[0].branch([layer[w] for layer in chosen], {name: x[w] for name, x in passed.items()})
        for w in range(parents.shape[1])
    ]


def _passed_on(tensors: Sequence[Tensor], parents: Tensor) -> Tensor:
    """Of `tensors`, one per path and each image by image, those of the `parents` (B, W) of W paths: (W, …)."""
    B = len(parents)
    x = torch.stack(tuple(tensors)).unflatten(1, (B, -1))
    return x[parents.T, torch.arange(B, device=parents.device)].flatten(1, 2)
