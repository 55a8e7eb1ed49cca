"""Pruning by class: which units a class's paths use most often, and the edit that zeroes others (docs/method.md §5)."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from ..models.staged import StagedModel

T = TypeVar("T")


def prune(model: StagedModel, retained: Tensor, draws: Tensor, proportion: float, depth: int) -> Tensor:
    """The edit (B, L, H) that zeroes, in the first `depth` layers, each unit whose draw is under `proportion`.

    retained (B, L, K): units that stay whatever their draw; draws (B, L, H) in [0, 1). Masks of one draw are nested in
    `proportion`: 0 leaves all units, 1 only the retained ones.
    """
    zeroed = (draws < proportion).to(retained.device).scatter(2, retained, False)
    zeroed[:, depth:] = False
    return (~zeroed).to(model.device, model.dtype)


def retained_units(paths: Sequence[list[list[int]]], k: int) -> list[list[int]]:
    """Per layer the `k` units most frequent in `paths` (n × L lists of neurons), ties by lowest index.

    ValueError naming the layer where fewer than `k` distinct units occur.
    """
    retained = []
    for layer, neurons in enumerate(zip(*paths, strict=True)):
        counts = Counter(neuron for chosen in neurons for neuron in chosen)
        ranked = sorted(counts, key=lambda neuron: (-counts[neuron], neuron))
        if len(ranked) < k:
            raise ValueError(f"layer {layer}: its paths hold {len(ranked)} distinct units, fewer than {k}")
        retained.append(ranked[:k])
    return retained


def unit_draws(seed: int, label: int, depth: int, num_neurons: int) -> np.ndarray:
    """(L, H) uniform in [0, 1), each layer from a generator of its own for (seed, label, layer)."""
    return np.stack([np.random.default_rng((seed, label, layer)).random(num_neurons) for layer in range(depth)])


def split(items: Sequence[T], fraction: float) -> tuple[list[T], list[T]]:
    """A class's images in order, as selection, the first ⌊fraction·n⌋, and evaluation; at least one in each."""
    first = min(max(1, int(fraction * len(items) + 1e-9)), len(items) - 1)
    return list(items[:first]), list(items[first:])
