"""Random controls: units about as active as a path's, units drawn uniformly, noisy images (docs/method.md §5)."""

import hashlib
import os
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

DRAWS, NEAREST = 5, 20  # of the matched control
SIGMA = 0.05  # of the noise, in units of the range from black to white


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


def noisy(images: Tensor, names: Sequence[str], std: Sequence[float], seed: int, sigma: float = SIGMA) -> Tensor:
    """`images` (B, 3, height, width), normalised with `std` per channel, with Gaussian noise added.

    `sigma` in units of the range from black to white, which is 1 / std wide in a channel. Nothing is clipped. Each
    image has a generator of its own, seeded by `seed` and its name.
    """
    scale = torch.tensor([sigma / one for one in std], dtype=torch.float64).view(3, 1, 1)
    keys = [hashlib.sha256(f"{seed}/noise/".encode() + os.fsencode(name)).digest() for name in names]
    generators = (np.random.default_rng(int.from_bytes(key[:16], "big")) for key in keys)
    noise = [scale * torch.from_numpy(generator.standard_normal(images.shape[1:])) for generator in generators]
    return images + torch.stack(noise).to(images)
