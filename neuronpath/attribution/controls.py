"""Random controls: units whose weight is a path's, units drawn uniformly, noisy images (docs/method.md §5)."""

import hashlib
import os
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..models.staged import StagedModel
from .forward import plain_forward
from .matching import WITHIN
from .sites import NEURONS, Units

DRAWS = 5  # of the matched control
SIGMA = 0.05  # of the noise, in units of the range from black to white


def unit_weights(model: StagedModel, images: Tensor, units: Units = NEURONS) -> list[Tensor]:
    """How much every unit writes to the residual stream, (B, units) per site: of a neuron |h̄|·‖column of fc2.weight‖.

    |h̄| is the size of the sum over the neuron tokens; of a head the norm of its sum. Costs one forward of `images`
    (B, 3, height, width).
    """
    plain = plain_forward(model, images, units)
    return [site.written_sizes(values) for site, values in zip(plain.sites, plain.values, strict=True)]


def matched_draws(
    model: StagedModel,
    images: Tensor,
    paths: list[list[list[int]]],
    names: Sequence[str],
    *,
    seed: int,
    rows: int,
    units: Units = NEURONS,
) -> tuple[list[Tensor], list[list[list[float]]]]:
    """The matched control of `paths` (B, L, K) of `images` (B, 3, height, width) called `names`.

    DRAWS paths (B, L, K), and each image's `weight_ratios`. `model` should be in float64, or what is drawn depends on
    the batch size; at most `rows` rows at once. NonFiniteError for activations that are not finite.
    """
    parts = [unit_weights(model, part, units) for part in images.to(model.device, model.dtype).split(rows)]
    weights = [torch.cat(of_site).cpu() for of_site in zip(*parts, strict=True)]  # (B, units) per site
    if len(bad := (~torch.cat(weights, 1).isfinite()).any(1).nonzero()):
        raise NonFiniteError(int(bad[0].item()), "activations")
    drawn, ratios = [], []
    for own, path, name in zip(zip(*weights, strict=True), paths, names, strict=True):
        drawn.append(matched_paths(own, path, name, seed))
        ratios.append(weight_ratios(own, path, drawn[-1]))
    return list(torch.tensor(drawn).unbind(1)), ratios


def matched_paths(weights: Sequence[Tensor], path: list[list[int]], image: str, seed: int) -> list[list[list[int]]]:
    """DRAWS paths of units that weigh about as much as `path`'s: the matched control.

    For each unit of `path` (L lists of K) one of those whose `weights`, (H,) per layer, not negative, are within
    ±10 % of its own, uniformly, where there are any, else the nearest above or below; never one of `path`, and none
    twice in a draw. Each layer has a generator of its own, seeded by `seed`, `image` and the layer, so that nothing
    depends on batches.
    """
    layers = []
    for layer, (values, neurons) in enumerate(zip(weights, path, strict=True)):
        generator = random.Random(f"{seed}/{layer}/".encode() + os.fsencode(image))
        layers.append([_matched(values.numpy(), neurons, generator) for _ in range(DRAWS)])
    return [list(draw) for draw in zip(*layers, strict=True)]


def _matched(weights: np.ndarray, neurons: list[int], generator: random.Random) -> list[int]:
    free, drawn = np.ones(len(weights), bool), list[int]()
    free[neurons] = False
    for neuron in neurons:
        drawn.append(generator.choice(_alike(weights, weights[neuron], free)))
        free[drawn[-1]] = False
    return drawn


def _alike(weights: np.ndarray, own: float, free: np.ndarray) -> list[int]:
    """The `free` (H,) units to draw from, by index; of two as near the first."""
    near = free & (abs(weights - own) <= WITHIN * own)
    if near.any():
        return [int(unit) for unit in np.flatnonzero(near)]
    above, below = free & (weights > own), free & (weights < own)
    nearest = [int(np.where(above, weights, np.inf).argmin())] if above.any() else []
    return nearest + ([int(np.where(below, weights, -np.inf).argmax())] if below.any() else [])


def weight_ratios(weights: Sequence[Tensor], path: list[list[int]], draws: list[list[list[int]]]) -> list[list[float]]:
    """Per layer and draw the mean over `path`'s neurons of the weight of what was drawn for each over its own.

    `weights` (H,) per layer. A unit that weighs 0 is left out; a layer of which all do has no ratio, [].
    """
    found = []
    for layer, (tensor, neurons) in enumerate(zip(weights, path, strict=True)):
        values = tensor.tolist()
        of_draws = [
            [values[j] / values[n] for n, j in zip(neurons, draw[layer], strict=True) if values[n] > 0]
            for draw in draws
        ]
        found.append([sum(ratios) / len(ratios) for ratios in of_draws if ratios])
    return found


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
