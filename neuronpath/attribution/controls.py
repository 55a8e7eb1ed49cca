"""Random controls: units about as active as a path's, and units drawn uniformly (docs/method.md §5)."""

import os
import random

import numpy as np
from torch import Tensor

DRAWS, NEAREST = 5, 20  # of the matched control


def matched_paths(activations: Tensor, path: list[list[int]], image: str, seed: int) -> list[list[list[int]]]:
    """DRAWS paths of units about as active as `path`'s: the matched control.

    For each neuron of `path` (L lists of K) one of the NEAREST units in the rank of `activations` (L, H), uniformly;
    never one of `path`, and none twice in a draw. Each layer has a generator of its own, seeded by `seed`, `image`
    and the layer, so that nothing depends on batches.
    """
    layers = []
    for layer, (values, neurons) in enumerate(zip(activations, path, strict=True)):
        order = values.argsort(descending=True, stable=True).tolist()
        generator = random.Random(f"{seed}/{layer}/".encode() + os.fsencode(image))
        layers.append([_matched(order, neurons, generator) for _ in range(DRAWS)])
    return [list(draw) for draw in zip(*layers, strict=True)]


def _matched(order: list[int], neurons: list[int], generator: random.Random) -> list[int]:
    used, drawn = set(neurons), list[int]()
    for neuron in neurons:
        rank, reach = order.index(neuron), NEAREST + 2 * len(neurons)
        window = range(max(0, rank - reach), min(len(order), rank + reach + 1))
        nearest = sorted(window, key=lambda r: abs(r - rank))  # stable: of two as near, the more active first
        drawn.append(generator.choice([order[r] for r in nearest if order[r] not in used][:NEAREST]))
        used.add(drawn[-1])
    return drawn


def random_units(seed: int, label: int, depth: int, num_neurons: int, k: int) -> list[list[int]]:
    """Per layer `k` distinct units drawn uniformly. Not of the generators of `pruning.unit_draws`."""
    generators = (np.random.default_rng((seed, label, layer, 1)) for layer in range(depth))
    return [generator.choice(num_neurons, k, replace=False).tolist() for generator in generators]
