"""Search for a path: layer-progressive by the Joint Attribution Score, or by the highest activation.

Source: Wang et al. 2025, Algorithm 1 as released and exactly (docs/method.md §3), and its Activation baseline (§4).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from ..models.vit import VisionTransformer
from .candidates import (
    KAPPA,
    SEARCHES,
    SHORTLIST_MAX,
    Choice,
    choose,
    exact_scores,
    exhaustive,
    layer_scores,
    shortlist,
)
from .engine import ForwardPrefix, Plain, ReversePrefix, gather_neurons, plain_forward, prefixes, resolve_targets
from .quadrature import Quadrature
from .rows import default_rows, image_groups
from .score import PAPER, score_plain


@dataclass(frozen=True)
class NeuronPath:
    """What is found for B images: K neurons in each of L layers, best first."""

    path: Tensor  # (B, L, K) int64, the neuron path
    score: Tensor  # (B,) its JAS, in units of probability
    activation: Tensor  # (B, L, K) h̄ of its neurons, the mean over the neuron tokens
    margin: Tensor  # (B, L) how clearly its K-th neuron beat the next, 0 (a tie) to 1; see `choose`
    base_path: Tensor  # the same for the activation path
    base_score: Tensor
    base_activation: Tensor
    logits: Tensor  # (B, C) of the unperturbed forward
    search_rank: Tensor | None = None  # (B, L), `shortlist` only: `Choice.rank`, `.scored` and `.stopped` of each layer
    search_scored: Tensor | None = None
    search_stopped: Tensor | None = None
    nodes: Tensor | None = None  # (B,), `adaptive` only: nodes of the rule that found it
    converged: Tensor | None = None  # (B,), `adaptive` only: 1 where two rules in turn agreed, 0 not, -1 untried

    @classmethod
    def cat(cls, parts: list["NeuronPath"]) -> "NeuronPath":
        columns = [[getattr(part, f.name) for part in parts] for f in fields(cls)]
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))


def find_path(
    model: VisionTransformer,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature = PAPER,
    k: int = 1,
    search: str = "layer",
    internal_batch_size: int | None = None,
    shortlist_max: int = SHORTLIST_MAX,
    kappa: float = KAPPA,
) -> NeuronPath:
    """Each image's neuron path and, beside it, its activation path, both with their JAS.

    With P the neurons found in layers 0..l-1, clamped and ramped, candidate j of layer l scores
    s_j = Σ_t (S[t] + w̄_j[t])·(G[t] + g_j[t]), g_j[t] = Σ_k ω_k ∂F/∂h_j[t]; the best k join P. `search` says where
    G and g_j are taken: "exhaustive" ramps candidate j alone beside P, as Algorithm 1 does; "layer" ramps the whole
    layer at once, the shortcut of the released code; "shortlist" scores like "exhaustive", but only the best by an
    estimate, as many as the rule of `kappa` asks for and at most `shortlist_max` (`candidates.shortlist`), and fills
    `search_rank`, `search_scored` and `search_stopped`.

    images (B, 3, height, width) and targets (B,) class indices, on the model's device; a negative target stands
    for the predicted class. `internal_batch_size`: most rows (images × nodes × candidates) at once; it bounds the
    memory and does not change the result. Raises ValueError for a bad `k`, `search` or `shortlist_max`, NonFiniteError
    where a score is not finite. Cost for L = 12 with the CLS head, both paths and scores included: "layer" about 156
    block passes per image and node (`neuronpath.cost`), and 114 more per candidate that is scored in every layer.
    """
    if search not in SEARCHES:
        raise ValueError(f"search {search!r} is unknown; choose from {', '.join(SEARCHES)}")
    if not 1 <= k <= model.config.mlp_dim:
        raise ValueError(f"k must be 1 to {model.config.mlp_dim} (the neurons of a layer), not {k}")
    if shortlist_max < k:
        raise ValueError(f"shortlist_max must be at least k = {k}, not {shortlist_max}")
    rows = internal_batch_size or default_rows(model, images.device)
    groups = image_groups(quadrature, rows, images, targets)
    select = partial(_select_shortlist, most=shortlist_max, kappa=kappa) if search == "shortlist" else SELECT[search]
    whole = NeuronPath.cat([_find(model, plain_forward(model, x), y, quadrature, k, rows, select) for x, y in groups])
    NonFiniteError.check(whole.margin, whole.score + whole.base_score)
    return whole


def activation_path(model: VisionTransformer, images: Tensor, k: int = 1) -> Tensor:
    """Per layer the k neurons of highest h̄, summed over the neuron tokens and signed: (B, L, k)."""
    return _activation_path(plain_forward(model, images), k)


def _find(
    model: VisionTransformer, plain: Plain, targets: Tensor, quadrature: Quadrature, k: int, rows: int, select
) -> NeuronPath:
    targets = resolve_targets(targets, plain.logits)
    score, layers = _progressive_search(model, plain, targets, quadrature, k, rows, select)
    path = torch.stack([layer.chosen for layer in layers], 1)
    base = _activation_path(plain, k)
    return NeuronPath(
        path=path,
        score=score,
        activation=_mean_activation(plain, path),
        margin=_stack(layer.margin for layer in layers),
        base_path=base,
        base_score=score_plain(model, plain, targets, base, quadrature, rows),
        base_activation=_mean_activation(plain, base),
        logits=plain.logits,
        search_rank=_stack(layer.rank for layer in layers),
        search_scored=_stack(layer.scored for layer in layers),
        search_stopped=_stack(layer.stopped for layer in layers),
    )


def _stack(layers: Iterable[Tensor | None]) -> Tensor | None:
    layers = list(layers)
    return None if layers[0] is None else torch.stack(layers, 1)


def _progressive_search(model, plain, targets, quadrature, k, rows, select) -> tuple[Tensor, list[Choice]]:
    """The found path's score (B,), and what `select` chose in each layer."""
    parts = search_prefixes(model, plain, targets, quadrature, rows)
    S = torch.zeros_like(plain.hidden[0][..., 0])  # (B, N)
    layers = []
    for layer, h in enumerate(plain.hidden):
        choice = select(parts, layer, S, h, k, rows)
        for prefix in parts:
            prefix.extend(choice.chosen)
        S = S + gather_neurons(h, choice.chosen).sum(-1)
        layers.append(choice)
    G = sum(prefix.finish() for prefix in parts)
    return (S * G).mean(1), layers


def _select_layer(parts, layer, S, h, k, rows) -> Choice:
    return Choice(*choose(layer_scores(parts, layer, S, h), k))


def _select_shortlist(parts, layer, S, h, k, rows, most: int, kappa: float) -> Choice:
    estimates = layer_scores(parts, layer, S, h, whole_layer=False)
    return shortlist(estimates, k, partial(exact_scores, parts, S, h, rows), most, kappa)


def _select_exhaustive(parts, layer, S, h, k, rows) -> Choice:
    for prefix in parts:
        prefix.enter(layer)
    return Choice(*choose(exhaustive(len(h), h.shape[2], partial(exact_scores, parts, S, h, rows), h.device), k))


SELECT = {"layer": _select_layer, "exhaustive": _select_exhaustive}


def search_prefixes(model, plain, targets, quadrature, rows):
    if plain.hidden[0].shape[1] == 1 and plain.logits.device.type != "mps":  # whose attention has no forward mode
        return prefixes(ForwardPrefix, model, plain, targets, quadrature, rows)
    keep = len(targets) * quadrature.steps <= rows
    return prefixes(ReversePrefix, model, plain, targets, quadrature, rows, keep=keep)


def _activation_path(plain: Plain, k: int) -> Tensor:
    return torch.stack([choose(h.sum(1), k)[0] for h in plain.hidden], 1)


def _mean_activation(plain: Plain, path: Tensor) -> Tensor:
    """h̄ of the path's neurons, the mean over the neuron tokens: (B, L, K)."""
    return torch.stack([gather_neurons(h, p).mean(1) for h, p in zip(plain.hidden, path.unbind(1), strict=True)], 1)


class NonFiniteError(FloatingPointError):
    """Results that are not finite: `image` its index in the batch, `what` says which, such as "scores of layer 3"."""

    def __init__(self, image: int, what: str):
        super().__init__(f"image {image} of the batch: the {what} are not finite")
        self.image, self.what = image, what

    @classmethod
    def check(cls, margin: Tensor, score: Tensor) -> None:
        """Raise rather than let NaN be the chosen neuron: margins (B, L), scores (B,). A GPU is asked once."""
        bad = (~torch.cat((margin, score[:, None]), 1).isfinite()).nonzero()
        if len(bad):
            image, layer = bad[0].tolist()
            raise cls(image, f"scores of layer {min(layer, margin.shape[1] - 1)}")
