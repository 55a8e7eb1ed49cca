"""Paths through attention's heads, and through heads and neurons in turn (docs/method.md §10)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .choice import choose
from .forward import neuron_rows
from .objectives import Objective, objective_of
from .problem import Problem
from .quadrature import PAPER, Quadrature
from .rows import default_rows, image_groups
from .score import check_path, path_drop, score_plain
from .search import check_finite, largest_path, mean_size, progressive_search
from .searches import Greedy, greedy_of
from .sites import Units, sublayers, units_of


@dataclass(frozen=True)
class UnitPath:
    """What is found for B images: K units at each of S sites, best first. Of drops: F - F(the path at 0), clamped.

    S is L, and 2·L for heads and neurons in turn, attention before the FFN.
    """

    path: Tensor  # (B, S, K) int64
    score: Tensor  # (B,) its JAS, in units of F
    drop: Tensor  # (B,)
    activation: Tensor  # (B, S, K) of a neuron h̄, of a head the norm of what it writes; the mean over the neuron tokens
    margin: Tensor  # (B, S) as for a neuron path
    base_path: Tensor  # (B, S, K): the largest units
    base_score: Tensor
    base_drop: Tensor
    base_activation: Tensor
    gradient_path: Tensor  # (B, S, K): those of largest gradient × w̄
    gradient_score: Tensor
    gradient_drop: Tensor
    logits: Tensor  # (B, C) of the unperturbed forward


def find_head_path(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature = PAPER,
    k: int = 1,
    *,
    units: Units | str = "heads",
    search: Greedy | str = "shortlist",
    objective: Objective | str = "probability",
    internal_batch_size: int | None = None,
) -> UnitPath:
    """Each image's path of k heads per layer by Algorithm 1, every head alone beside the path, and two baselines.

    A head's write at a neuron token, its slice of attention times its slice of the last layer, is multiplied by a gate
    γ, whose stored value is 1. With S = |P| and G[t] = Σ_k ω_k Σ_{u∈P} ∂F/∂γ_u[t], all of the path's gates at α_k,
    JAS(P) = |P|·Σ_t G[t] / N. Of every layer that P covers the heads' writes at the neuron tokens are the stored ones;
    FFNs, and attention of the other tokens, are free.

    Baselines, every layer on its own: the largest heads, Σ_t |what it writes|; and by gradient × gate, Σ_t ∂F/∂γ[t] at
    the image itself. `units`: "heads", "neurons", or "both": every layer has two sites in turn, attention then FFN, and
    covered sites of both kinds are clamped. Neurons are found by `search`; their baselines are h̄ and h̄·∂F/∂h.

    Other arguments and errors as of `neuronpath.find_path`, UserError for an adapted model whose attention is of an
    unknown kind. Cost per image and node: for every head of every layer the rest of the network, forward and backward;
    at L = 12 with the CLS head about 132 block passes per head of a layer.
    """
    units, search, objective = units_of(units), greedy_of(search), objective_of(objective)
    most = min(units.counts(model))
    if not 1 <= k <= most:
        raise ValueError(f"k must be 1 to {most} (the {units.noun} of a layer), not {k}")
    rows = internal_batch_size or default_rows(model, images.device)
    found = []
    for x, y in image_groups(quadrature, rows, images, targets):
        problem = Problem.of(model, x, y, quadrature, rows, objective=objective, units=units)
        found.append(_find(problem, x, k, search))
    whole = UnitPath(*(torch.cat([getattr(part, f.name) for part in found]) for f in fields(UnitPath)))
    check_finite(whole.margin, whole.score + whole.base_score + whole.gradient_score)
    return whole


def score_head_path(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    path: Tensor,
    quadrature: Quadrature = PAPER,
    *,
    units: Units | str = "heads",
    objective: Objective | str = "probability",
    internal_batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The JAS of a path (B, l, K) of these units, (B,), and its drop F(1) - F(0), (B,): its gates 1, then 0, clamped.

    The path covers the first l sites, K distinct units in each. Arguments and errors as of `find_head_path`.
    With converged quadrature the JAS of heads is |P|·drop / N. Cost as of `neuronpath.score_path`, and one forward.
    """
    units, objective = units_of(units), objective_of(objective)
    check_path(model, len(images), path, units)
    rows = internal_batch_size or default_rows(model, images.device)
    found = []
    for x, y, p in image_groups(quadrature, rows, images, targets, path):
        problem = Problem.of(model, x, y, quadrature, rows, objective=objective, units=units)
        found.append((score_plain(problem, p), path_drop(problem, p)))
    scores, drops = (torch.cat(parts) for parts in zip(*found, strict=True))
    return scores, drops


def _find(problem: Problem, images: Tensor, k: int, search: Greedy) -> UnitPath:
    plain = problem.plain
    score, layers = progressive_search(problem, k, search)
    path = torch.stack([layer.chosen for layer in layers], 1)
    base, gradient = largest_path(plain, k), gradient_path(problem, images, k)
    return UnitPath(
        path=path,
        score=score,
        drop=path_drop(problem, path),
        activation=mean_size(plain, path),
        margin=torch.stack([layer.margin for layer in layers], 1),
        base_path=base,
        base_score=score_plain(problem, base),
        base_drop=path_drop(problem, base),
        base_activation=mean_size(plain, base),
        gradient_path=gradient,
        gradient_score=score_plain(problem, gradient),
        gradient_drop=path_drop(problem, gradient),
        logits=plain.logits,
    )


@torch.enable_grad()
def gradient_path(problem: Problem, images: Tensor, k: int) -> Tensor:
    """Per site the k units of largest Σ_t w̄[t]·∂F/∂w[t], (B, S, k), the total derivative at the problem's `images`.

    One forward and one backward for all sites.
    """
    model, plain = problem.model, problem.plain
    z, streams = model.embed(images), list[Tensor]()  # behind every site
    for sublayer in sublayers(model):
        z = sublayer.step(z, model.queries(sublayer.layer))
        if sublayer in plain.sites:
            z = z if streams else z.requires_grad_()
            streams.append(z)
    F = problem.objective(model.read(z), problem.targets)
    chosen = []
    for layer, dz in enumerate(torch.autograd.grad(F.sum(), streams)):
        site = plain.sites[layer]
        g = site.gradients(plain.values[layer], neuron_rows(model, dz, site.layer))
        chosen.append(choose((plain.hidden[layer] * g).sum(1), k)[0])
    return torch.stack(chosen, 1)
