"""Search for a path: layer-progressive by the Joint Attribution Score, or by the highest activation.

Source: Wang et al. 2025, Algorithm 1 as released and exactly (docs/method.md §3), and its Activation baseline (§4).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..models.staged import StagedModel
from .beam import beam_search
from .candidates import Frontier
from .choice import Choice, Shortlisted, choose
from .engine import Problem, search_ramps
from .forward import Plain, gather_neurons, plain_forward
from .objectives import Objective, objective_of
from .quadrature import PAPER, Quadrature
from .rows import default_rows, image_groups
from .score import score_plain
from .searches import Beam, Greedy, Search, Shortlist, search_of


@dataclass(frozen=True)
class NeuronPath:
    """What is found for B images: K neurons in each of L layers, best first."""

    path: Tensor  # (B, L, K) int64, the neuron path
    score: Tensor  # (B,) its JAS, in units of F
    activation: Tensor  # (B, L, K) h̄ of its neurons, the mean over the neuron tokens
    margin: Tensor  # (B, L) how clearly its K-th neuron beat the next, 0 (a tie) to 1; see `choose`, `beam_search`
    base_path: Tensor  # the same for the activation path
    base_score: Tensor
    base_activation: Tensor
    logits: Tensor  # (B, C) of the unperturbed forward
    search_rank: Tensor | None = None  # (B, L), `Shortlist` only: `Choice.rank`, `.scored` and `.stopped` of each layer
    search_scored: Tensor | None = None
    search_stopped: Tensor | None = None
    doubt: Tensor | None = None  # (B,), with `doubt` only: whether a lower rule chooses otherwise in any layer
    nodes: Tensor | None = None  # (B,), `adaptive` only: nodes of the rule that found it
    converged: Tensor | None = None  # (B,), `adaptive` only: 1 where two rules in turn agreed, 0 not, -1 untried
    greedy_score: Tensor | None = None  # (B,), `Beam` only: the JAS of the path that a beam of one finds

    @classmethod
    def cat(cls, parts: Sequence["NeuronPath"]) -> "NeuronPath":
        columns = [[getattr(part, f.name) for part in parts] for f in fields(cls)]
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


def find_path(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature = PAPER,
    k: int = 1,
    *,
    search: Search | str = "layer",
    objective: Objective | str = "probability",
    doubt: bool = False,
    internal_batch_size: int | None = None,
) -> NeuronPath:
    """Each image's neuron path and, beside it, its activation path, both with their JAS.

    With P the neurons found in layers 0..l-1, clamped and ramped, candidate j of layer l scores
    s_j = Σ_t (S[t] + w̄_j[t])·(G[t] + g_j[t]), g_j[t] = Σ_k ω_k ∂F/∂h_j[t]; the best k join P. `search` says where
    G and g_j are taken: `Exhaustive` ramps candidate j alone beside P, as Algorithm 1 does; `Layer` ramps the whole
    layer at once, the shortcut of the released code; `Shortlist` scores like `Exhaustive`, but only the best by an
    estimate, and fills `search_rank`, `search_scored` and `search_stopped`. `Beam` scores like one of these, keeps the
    best few paths instead of one, and returns the one of highest JAS of the finished, with `greedy_score` beside it.
    Their names stand for their defaults.
    F is the `objective` of the target: its probability (softmax), its logit, or that logit's logistic function
    ("sigmoid").

    With `doubt` the same gradients also tell, at next to no cost, where a rule of lower degree on some of the nodes
    (`Quadrature.lower`) would choose otherwise.

    images (B, 3, height, width) and targets (B,) class indices, on the model's device; a negative target stands
    for the predicted class. `internal_batch_size`: most rows (images × nodes × candidates) at once; it bounds the
    memory and does not change the result. Raises ValueError for a bad `k`, `search` or `objective`,
    NonFiniteError where a score is not finite. Cost for L = 12 with the CLS head, both paths and scores included:
    `Layer` about 156 block passes per image and node (`neuronpath.studies.cost`), and 114 more per candidate that is
    scored in every layer; a `Beam` that of its width from layer 1 on, and one greedy search for `greedy_score`.
    """
    search, objective = search_of(search), objective_of(objective)
    if not 1 <= k <= model.config.mlp_dim:
        raise ValueError(f"k must be 1 to {model.config.mlp_dim} (the neurons of a layer), not {k}")
    if isinstance(search, Shortlist) and search.most < k:
        raise ValueError(f"the most of a shortlist must be at least k = {k}, not {search.most}")
    if isinstance(search, Beam) and (k != 1 or search.width < 1 or doubt):
        raise ValueError("a beam needs a width of at least 1, k = 1, and no doubt")
    rows = internal_batch_size or default_rows(model, images.device)
    groups = image_groups(quadrature, rows, images, targets)
    problems = (Problem.of(model, x, y, quadrature, rows, apart=doubt, objective=objective) for x, y in groups)
    whole = NeuronPath.cat([_find(problem, k, search) for problem in problems])
    scores = [whole.score, whole.base_score, whole.greedy_score]
    check_finite(whole.margin, reduce(torch.add, (score for score in scores if score is not None)))
    return whole


def activation_path(model: StagedModel, images: Tensor, k: int = 1) -> Tensor:
    """Per layer the k neurons of highest h̄, summed over the neuron tokens and signed: (B, L, k)."""
    return largest_path(plain_forward(model, images), k)


def check_finite(margin: Tensor, score: Tensor) -> None:
    """NonFiniteError rather than NaN as the chosen neuron: margins (B, L), scores (B,). A GPU is asked once."""
    bad = (~torch.cat((margin, score[:, None]), 1).isfinite()).nonzero()
    if len(bad):
        image, layer = bad[0].tolist()
        raise NonFiniteError(image, f"scores of layer {min(layer, margin.shape[1] - 1)}")


def _find(problem: Problem, k: int, search: Search) -> NeuronPath:
    score, layers = progressive_search(problem, k, search.over if isinstance(search, Beam) else search)
    greedy_score = score if isinstance(search, Beam) else None
    if isinstance(search, Beam) and search.width > 1:
        score, layers = beam_search(problem, search)
    short = [layer for layer in layers if isinstance(layer, Shortlisted)]
    doubts = [layer.doubt for layer in layers if layer.doubt is not None]
    plain = problem.plain
    path, base = torch.stack([layer.chosen for layer in layers], 1), largest_path(plain, k)
    return NeuronPath(
        path=path,
        score=score,
        activation=mean_size(plain, path),
        margin=torch.stack([layer.margin for layer in layers], 1),
        base_path=base,
        base_score=score_plain(problem, base),
        base_activation=mean_size(plain, base),
        logits=plain.logits,
        search_rank=torch.stack([layer.rank for layer in short], 1) if short else None,
        search_scored=torch.stack([layer.scored for layer in short], 1) if short else None,
        search_stopped=torch.stack([layer.stopped for layer in short], 1) if short else None,
        doubt=reduce(torch.logical_or, doubts) if doubts else None,
        greedy_score=greedy_score,
    )


def progressive_search(problem: Problem, k: int, search: Greedy) -> tuple[Tensor, list[Choice]]:
    """The found path's score (B,), and what `search` chose in each layer."""
    ramps, hidden = search_ramps(problem), problem.plain.hidden
    S, layers = torch.zeros_like(hidden[0][..., 0]), []  # (B, N)
    quadrature = problem.quadrature
    lower = (quadrature.lower / quadrature.weights).tolist() if problem.apart else None
    for layer, h in enumerate(hidden):
        frontier = Frontier(ramps, layer, S, h, k, problem.rows, lower)
        choice = problem.plain.sites[layer].searched(search).select(frontier)
        for ramp in ramps:
            ramp.extend(choice.chosen)
        S = S + gather_neurons(h, choice.chosen).sum(-1)
        layers.append(choice)
    G = reduce(torch.add, (ramp.finish() for ramp in ramps))
    return problem.score(S, G), layers


def largest_path(plain: Plain, k: int) -> Tensor:
    """Per layer the k largest units, sizes summed over the neuron tokens: (B, L, k)."""
    return torch.stack([choose(plain.sizes(layer).sum(1), k)[0] for layer in range(len(plain.sites))], 1)


def mean_size(plain: Plain, path: Tensor) -> Tensor:
    """Of the path's units the size, the mean over the neuron tokens: (B, L, K); of neurons h̄."""
    return torch.stack([gather_neurons(plain.sizes(i), p).mean(1) for i, p in enumerate(path.unbind(1))], 1)
