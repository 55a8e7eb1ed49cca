"""The Influence Pattern baseline: per layer the neuron of largest gradient along the ramped image.

Source: docs/method.md §4.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .choice import choose
from .engine import Problem
from .forward import neuron_rows
from .objectives import Objective, objective_of
from .quadrature import PAPER, Quadrature
from .rows import default_rows, image_groups, node_groups
from .score import score_plain
from .search import check_finite


@dataclass(frozen=True)
class InfluencePath:
    """What is found for B images: one neuron in each of L layers."""

    path: Tensor  # (B, L, 1) int64
    score: Tensor  # (B,) its JAS on the unscaled image, in units of F
    margin: Tensor  # (B, L) as for a neuron path
    logits: Tensor  # (B, C) of the unperturbed forward


def influence_path(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature = PAPER,
    *,
    objective: Objective | str = "probability",
    internal_batch_size: int | None = None,
) -> InfluencePath:
    """Per layer l the arg max over j of Σ_k ω_k mean_t ∂F/∂h_j^l[t], and the JAS of the path that these make.

    The gradient is the total derivative of F with respect to the activations of layer l in the unclamped forward of
    α_k·x, x the normalised image, averaged over the neuron tokens t; nothing is multiplied by activations.

    Arguments as of `neuronpath.find_path`. Cost per image and node: one forward and one backward for all layers at
    once, and the score of one path.
    """
    objective = objective_of(objective)
    rows = internal_batch_size or default_rows(model, images.device)
    found = []
    for x, y in image_groups(quadrature, rows, images, targets):
        problem = Problem.of(model, x, y, quadrature, rows, objective=objective)
        influence = layer_influence(problem, x)
        path, margin = (torch.stack(parts, 1) for parts in zip(*(choose(i, 1) for i in influence), strict=True))
        found.append((path, score_plain(problem, path), margin, problem.plain.logits))
    result = InfluencePath(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    check_finite(result.margin, result.score)
    return result


def layer_influence(problem: Problem, images: Tensor) -> list[Tensor]:
    """Σ_k ω_k mean_t ∂F/∂h_j[t] of every layer, (B, H) each; `images` (B, 3, height, width) are those of `problem`."""
    model, quadrature, B = problem.model, problem.quadrature, len(images)
    parts = []
    for alpha, weight in node_groups(quadrature, problem.rows // B, images):
        scaled = alpha.repeat(B)[:, None, None, None] * images.repeat_interleave(len(alpha), 0)
        targets = problem.targets.repeat_interleave(len(alpha))
        parts.append(_written_gradients(problem, scaled, targets, weight))
    if quadrature.unramped:  # α = 1 is the plain forward
        plain = [neuron_rows(model, dz, layer).mean(1) for layer, dz in enumerate(problem.unramped.gradients)]
        parts.append(quadrature.unramped * torch.stack(plain))
    # fc2 is linear: its transpose is applied once, to the mean over tokens and nodes.
    total: Tensor = reduce(torch.add, parts)
    return [block.neuron_gradient(g) for g, block in zip(total, model.blocks, strict=True)]


@torch.enable_grad()
def _written_gradients(problem: Problem, images: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Of what each layer's neurons write: Σ_k ω_k mean_t of the total derivative of F, (L, B, D); a row per target."""
    model = problem.model
    z, written = model.embed(images), list[Tensor]()
    for layer, block in enumerate(model.blocks):
        a = block.attend(z, model.queries(layer))
        out = block.project(block.hidden(a)).to(z.dtype)
        if layer == 0:
            out = out.detach().requires_grad_()  # the backward pass ends here
        written.append(out)
        z = a + out
    gradients = torch.autograd.grad(problem.objective(model.read(z), targets).sum(), written)
    last = len(gradients) - 1
    means = [(g if layer == last else g[:, model.neuron_tokens]).mean(1) for layer, g in enumerate(gradients)]
    means = torch.stack(means).unflatten(1, (-1, len(weights)))  # (L, B, k, D)
    return torch.einsum("k,lbkd->lbd", weights, means)
