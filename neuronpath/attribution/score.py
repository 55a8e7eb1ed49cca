"""The Joint Attribution Score of a given path (Wang et al. 2025, Definition 1, Eq. 2-3; docs/method.md §2)."""

from functools import reduce

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .engine import Problem, path_gradients
from .forward import gather_neurons
from .objectives import Objective, objective_of
from .quadrature import PAPER, Quadrature
from .rows import default_rows, image_groups


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
    return (S * path_gradients(problem, path)).mean(1)


def check_path(model: StagedModel, images: int, path: Tensor) -> None:
    L, H = model.config.depth, model.config.mlp_dim
    if path.ndim != 3 or len(path) != images or not 1 <= path.shape[1] <= L or not 1 <= path.shape[2] <= H:
        shape = tuple(path.shape)
        raise ValueError(f"a path must be (images, layers, K) = ({images}, 1 to {L}, 1 to {H}), not {shape}")
    if path.min() < 0 or path.max() >= H:
        raise ValueError(f"a path's neurons are 0 to {H - 1}, but this one holds {path.min()} to {path.max()}")
    if (path.sort(-1).values.diff(dim=-1) == 0).any():
        raise ValueError("a path names one neuron twice in a layer")
