"""Search for a path: layer-progressive by the Joint Attribution Score, or by the highest activation.

Source: Wang et al. 2025, Algorithm 1 as released (docs/method.md §3), and its Activation baseline (§4).
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .model import VisionTransformer
from .prefix import (
    ForwardPrefix,
    Plain,
    ReversePrefix,
    default_rows,
    gather_neurons,
    image_groups,
    plain_forward,
    prefixes,
    resolve_targets,
)
from .quadrature import Quadrature
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


def find_path(
    model: VisionTransformer,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature = PAPER,
    k: int = 1,
    search: str = "layer",
    internal_batch_size: int | None = None,
) -> NeuronPath:
    """Each image's neuron path and, beside it, its activation path, both with their JAS.

    With P the neurons found in layers 0..l-1, clamped and ramped, and the whole layer l ramped at once, candidate
    j scores s_j = Σ_t (S[t] + w̄_j[t])·(G[t] + g_j[t]), g_j[t] = Σ_k ω_k ∂F/∂h_j[t]; the best k join P.

    images (B, 3, height, width) and targets (B,) class indices, on the model's device; a negative target stands
    for the predicted class. `search`: "layer" is the whole-layer
    shortcut of the released code. `internal_batch_size`: most rows (images × nodes) at once; it bounds the memory
    and does not change the result. Raises ValueError for a bad `k` or `search`, NonFiniteError where a score is not
    finite. Cost for L = 12 with the CLS head, both paths and scores included:
    about 156 block passes per image and node (`neuronpath.cost`).
    """
    if search != "layer":
        raise ValueError(f"search {search!r} is unknown; choose from layer")
    if not 1 <= k <= model.config.mlp_dim:
        raise ValueError(f"k must be 1 to {model.config.mlp_dim} (the neurons of a layer), not {k}")
    rows = internal_batch_size or default_rows(model, images.device)
    groups = image_groups(quadrature, rows, images, targets)
    found = [_find(model, plain_forward(model, x), y, quadrature, k, rows) for x, y in groups]
    whole = NeuronPath(*(torch.cat([getattr(part, f.name) for part in found]) for f in fields(NeuronPath)))
    NonFiniteError.check(whole.margin, whole.score + whole.base_score)
    return whole


def activation_path(model: VisionTransformer, images: Tensor, k: int = 1) -> Tensor:
    """Per layer the k neurons of highest h̄, summed over the neuron tokens and signed: (B, L, k)."""
    return _activation_path(plain_forward(model, images), k)


def choose(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of `scores` (B, H), best first, ties by lowest index: (B, k), and the margin (B,).

    Margin: (s_(k) - s_(k+1)) / max_j |s_j|; 0 if that maximum is 0, 1 if k = H, NaN if a score is not finite.
    """
    ranked, order = scores.sort(dim=-1, descending=True, stable=True)
    largest = scores.abs().amax(-1)  # NaN where a score is NaN
    if k == scores.shape[-1]:
        margin = torch.ones_like(largest)
    else:
        margin = ((ranked[:, k - 1] - ranked[:, k]) / largest).where(largest != 0, 0)
    return order[:, :k], margin.where(largest.isfinite(), torch.nan)


def _find(
    model: VisionTransformer, plain: Plain, targets: Tensor, quadrature: Quadrature, k: int, rows: int
) -> NeuronPath:
    targets = resolve_targets(targets, plain.logits)
    path, score, margin = _layer_search(model, plain, targets, quadrature, k, rows)
    base = _activation_path(plain, k)
    return NeuronPath(
        path=path,
        score=score,
        activation=_mean_activation(plain, path),
        margin=margin,
        base_path=base,
        base_score=score_plain(model, plain, targets, base, quadrature, rows),
        base_activation=_mean_activation(plain, base),
        logits=plain.logits,
    )


def _layer_search(model, plain, targets, quadrature, k, rows) -> tuple[Tensor, Tensor, Tensor]:
    """Path (B, L, k), score (B,), margin (B, L)."""
    parts = _search_prefixes(model, plain, targets, quadrature, rows)
    S = torch.zeros_like(plain.hidden[0][..., 0])  # (B, N)
    path, margin = [], []
    for layer, h in enumerate(plain.hidden):
        G, g = 0, 0
        for prefix in parts:
            prefix.enter(layer)
            dG, dg = prefix.gradients()
            G, g = G + dG, g + dg
        scores = ((S[..., None] + h) * (G[..., None] + g)).sum(1)  # (B, H)
        chosen, m = choose(scores, k)
        for prefix in parts:
            prefix.extend(chosen)
        S = S + gather_neurons(h, chosen).sum(-1)
        path.append(chosen)
        margin.append(m)
    G = sum(prefix.finish() for prefix in parts)
    return torch.stack(path, 1), (S * G).mean(1), torch.stack(margin, 1)


def _search_prefixes(model, plain, targets, quadrature, rows):
    if plain.hidden[0].shape[1] == 1:
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
