"""Algorithm 1 as it stands in the paper: every candidate ramped alone beside the path (docs/method.md §3).

The exact score of candidate j of layer l costs a tail forward and backward per node. `exhaustive` pays that for all H;
`shortlist` ranks by an estimate that costs as much as *one* candidate, scores the best few exactly, and goes on until
the rest cannot matter by the errors that it has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .engine import Prefix, probability, write

SEARCHES = ("layer", "shortlist", "exhaustive")
FIRST = 8  # candidates that a shortlist scores at first
SHORTLIST_MAX = 64  # and at most
KAPPA = 2.0  # by how many of the largest errors seen the K-th best must beat the next estimate
STOPPED = ("rule", "cap", "all")  # why a shortlist was as long as it was; `Choice.stopped` are indices


@dataclass(frozen=True)
class Choice:
    """What is chosen in one layer for B images, and how; the last three only by a shortlist."""

    chosen: Tensor  # (B, K) neurons, best first
    margin: Tensor  # (B,) as of `choose`; of a shortlist, among the candidates scored
    rank: Tensor | None = None  # (B,) place in the estimate of the chosen neuron (K > 1: of the last such), from 1
    scored: Tensor | None = None  # (B,) candidates that were scored exactly
    stopped: Tensor | None = None  # (B,) index into STOPPED


def choose(scores: Tensor, k: int, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k highest of `scores` (B, H), best first, ties by lowest index: (B, k), and the margin (B,).

    Margin: (s_(k) - s_(k+1)) / max_j |s_j|; 0 if that maximum is 0, 1 if there are k scores, NaN if one is not finite.
    `known` (B, H): which of the scores there are; the others must be -inf.
    """
    ranked, order = scores.sort(dim=-1, descending=True, stable=True)
    largest = (scores if known is None else scores.where(known, 0)).abs().amax(-1)  # NaN where a score is NaN
    if k == scores.shape[-1]:
        margin = torch.ones_like(largest)
    else:
        margin = ((ranked[:, k - 1] - ranked[:, k]) / largest).where(largest != 0, 0)
    if known is not None:
        margin = margin.where(known.sum(-1) > k, 1)
    return order[:, :k], margin.where(largest.isfinite(), torch.nan)


def layer_scores(parts: list[Prefix], layer: int, S: Tensor, h: Tensor, whole_layer: bool = True) -> Tensor:
    """Scores (B, H) of a layer from one tail forward and backward per node; enters the layer.

    With `whole_layer` it is ramped at once, the released shortcut; without, it stays at h̄: the shortlist's estimate.
    """
    G, g = 0, 0
    for prefix in parts:
        prefix.enter(layer)
        dG, dg = prefix.gradients(whole_layer)
        G, g = G + dG, g + dg
    return ((S[..., None] + h) * (G[..., None] + g)).sum(1)


def candidate_gradients(prefix: Prefix, images: Tensor, neurons: Tensor) -> Tensor:
    """Σ_k ω_k (Σ_{n∈P} ∂F/∂w_n[t] + ∂F/∂w_j[t]) with P and neuron j alone ramped, its layer else at h̄: (P, N).

    images, neurons (P,): the pairs (image of the batch, neuron j of the layer entered). P·k rows at once, each a tail
    forward and backward from the kept stream, and for N > 1 the way back through the path's layers.
    """
    k, layer, model, plain = len(prefix.weights), prefix.layer, prefix.model, prefix.plain
    rows = (k * images[:, None] + torch.arange(k, device=images.device)).flatten()  # (P·k,)
    u = model.blocks[layer].columns(neurons)[:, None]  # (P, 1, D)
    w = plain.hidden[layer][images, :, neurons][..., None]  # (P, N, 1)
    update = (prefix.alpha[rows] - 1) * (w * u).repeat_interleave(k, 0)
    out = (plain.written[layer][images].repeat_interleave(k, 0) + update).requires_grad_()  # (P·k, N, D)
    z = prefix.z.detach()[rows].requires_grad_()
    with torch.enable_grad():
        F = probability(model.run(write(model, z, layer, out), layer + 1), prefix.targets[rows])
        dz, dout = torch.autograd.grad(F.sum(), [z, out])
    total = (dout.unflatten(0, (-1, k)) * u[:, None]).sum(-1)  # (P, k, N): ∂F/∂w_j
    if prefix.chosen:
        total = total + prefix.pull(rows, dz).unflatten(0, (-1, k))
    return torch.einsum("k,pkn->pn", prefix.weights, total)


def exact_scores(parts: list[Prefix], S: Tensor, h: Tensor, rows: int, images: Tensor, neurons: Tensor) -> Tensor:
    """Scores (P,) of pairs (image of the batch, neuron of the layer entered), each neuron ramped alone with the path.

    At most `rows` rows (pairs × nodes), at least one pair, are evaluated at once, which does not change the result.
    """
    total = 0
    for prefix in parts:
        prefix.reopen()
        size = max(1, rows // len(prefix.weights))
        pairs = zip(images.split(size), neurons.split(size), strict=True)
        total = total + torch.cat([candidate_gradients(prefix, i, j) for i, j in pairs])
        prefix.close()
    return ((S[images] + h[images, :, neurons]) * total).sum(1)


def exhaustive(B: int, H: int, score: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> Tensor:
    """The exact scores (B, H) of all candidates; `score` as `exact_scores` of (images, neurons)."""
    neurons = torch.arange(H, device=device).repeat_interleave(B)
    return score(torch.arange(B, device=device).repeat(H), neurons).view(H, B).T.contiguous()


def shortlist(
    estimates: Tensor,
    k: int,
    score: Callable[[Tensor, Tensor], Tensor],
    most: int = SHORTLIST_MAX,
    kappa: float = KAPPA,
    first: int = FIRST,
) -> Choice:
    """The k best of the candidates scored: the best `first` by `estimates` (B, H), then twice as many, and so on.

    An image is done once its k-th best exact score beats the next estimate by more than `kappa` times its largest
    |exact - estimate|, or when `most` are scored ("cap") or all H ("all"). `score` as `exact_scores` of
    (images, neurons). Images do not touch each other.
    """
    B, H = estimates.shape
    most = min(most, H)
    order = estimates.argsort(dim=-1, descending=True, stable=True)
    exact, error = torch.full_like(estimates, -torch.inf), torch.zeros_like(estimates[:, 0])
    scored, stopped = torch.zeros_like(order[:, 0]), torch.full_like(order[:, 0], STOPPED.index("cap"))
    open_, done, count = torch.arange(B, device=order.device), 0, first
    while count <= k:
        count *= 2
    while len(open_):
        count = min(count, most)
        new = order[open_, done:count].T  # (new, open images): neighbours are of different images
        images, neurons = open_.repeat(len(new)), new.flatten()
        exact[images, neurons] = found = score(images, neurons)
        errors = (found - estimates[images, neurons]).abs().view(new.shape).amax(0)
        error[open_], scored[open_] = torch.maximum(error[open_], errors), count
        if count == H:
            stopped[open_] = STOPPED.index("all")
            break
        gap = exact[open_].topk(k).values[:, -1] - estimates[open_, order[open_, count]]
        met = gap > kappa * error[open_]
        stopped[open_[met]] = STOPPED.index("rule")
        open_, done = open_[~met], count
        if count == most:
            break
        count *= 2
    place = order.argsort(dim=-1)  # (B, H), the inverse of `order`
    chosen, margin = choose(exact, k, place < scored[:, None])
    rank = 1 + place.gather(1, chosen).amax(-1)
    return Choice(chosen, margin, rank, scored, stopped)
