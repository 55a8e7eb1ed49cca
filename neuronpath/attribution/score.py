"""The Joint Attribution Score of a given path (Wang et al. 2025, Definition 1, Eq. 2-3; docs/method.md §2)."""

from functools import reduce

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .engine import Problem, path_gradients
from .forward import gather_neurons, weigh, write
from .objectives import Objective, objective_of
from .quadrature import PAPER, Quadrature
from .rows import default_rows, image_groups
from .sites import NEURONS, Units, open_next, run


def score_path(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    path: Tensor,
    quadrature: Quadrature = PAPER,
    *,
    objective: Objective | str = "probability",
    internal_batch_size: int | None = None,
) -> Tensor:
    """JAS(P) = Σ_t S[t]·G[t] / N per image, with the neuron tokens of every layer that P covers clamped.

    S[t] = Σ_{n∈P} w̄_n[t] and G[t] = Σ_k ω_k Σ_{n∈P} ∂F/∂w_n[t] at α_k·w̄_P; F is the `objective` of the target.

    images (B, 3, height, width) and targets (B,) class indices (negative: the predicted class), on the model's
    device; path (B, l, K): K distinct neurons in each of the first l ≤ L layers. Returns (B,), in units
    of F. ValueError for a path of another shape or an unknown objective. Cost per image and node for l = L: L-1 blocks
    forward and backward (CLS head), a third of that (mean head).
    """
    objective = objective_of(objective)
    check_path(model, len(images), path)
    rows = internal_batch_size or default_rows(model, images.device)
    groups = image_groups(quadrature, rows, images, targets, path)
    return torch.cat(
        [score_plain(Problem.of(model, x, y, quadrature, rows, objective=objective), p) for x, y, p in groups]
    )


def score_plain(problem: Problem, path: Tensor) -> Tensor:
    """`score_path` where the plain forward is at hand."""
    weights = zip(problem.plain.hidden, path.unbind(1), strict=False)
    S = reduce(torch.add, (gather_neurons(h, p).sum(-1) for h, p in weights))
    return problem.score(S, path_gradients(problem, path))


@torch.no_grad()
def path_drop(problem: Problem, path: Tensor) -> Tensor:
    """F(1) - F(0), (B,): what F loses where a path (B, l, K) is at 0, its layers clamped. One forward."""
    plain, model, z = problem.plain, problem.model, problem.plain.entry
    for layer, units in enumerate(path.unbind(1)):
        site = plain.sites[layer]
        if layer:
            z = open_next(plain.sites[layer - 1], site, z)
        gone = weigh(gather_neurons(plain.hidden[layer], units), plain.directions(layer, units))
        z = write(model, z, site.layer, plain.written[layer] - gone)
    logits = plain.logits, run(site, z)
    whole, without = (problem.objective(x, problem.targets) for x in logits)
    return whole - without


def check_path(model: StagedModel, images: int, path: Tensor, units: Units = NEURONS) -> None:
    """ValueError for what is no path of these units, K distinct ones in each of the first sites."""
    counts = units.counts(model)
    L, most = len(counts), min(counts)
    if path.ndim != 3 or len(path) != images or not 1 <= path.shape[1] <= L or not 1 <= path.shape[2] <= most:
        shape = tuple(path.shape)
        raise ValueError(f"a path must be (images, layers, K) = ({images}, 1 to {L}, 1 to {most}), not {shape}")
    for layer, of_site in zip(path.unbind(1), counts, strict=False):
        if layer.min() < 0 or layer.max() >= of_site:
            low, high = path.min(), path.max()
            raise ValueError(f"a path's {units.noun} are 0 to {of_site - 1}, but this one holds {low} to {high}")
    if (path.sort(-1).values.diff(dim=-1) == 0).any():
        raise ValueError("a path names one unit twice in a layer")
