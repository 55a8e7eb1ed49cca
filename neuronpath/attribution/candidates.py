"""Scores of a layer's neurons, all at once or every candidate ramped alone beside the path (docs/method.md §3).

The exact score of candidate j of layer l costs a tail forward and backward per node. An exhaustive search pays that for
all H; `shortlist` ranks by an estimate that costs as much as *one* candidate, scores the best few exactly, and goes on
until the rest cannot matter by the errors that it has seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .choice import Shortlisted, choose
from .engine import Ramp
from .forward import probability, write

FIRST = 8  # candidates that a shortlist scores at first
STOPPED = ("rule", "cap", "all")  # why a shortlist was as long as it was; `Choice.stopped` are indices


@dataclass(frozen=True)
class Frontier:
    """A search on its way: the ramps of the path so far and the layer whose neurons are chosen next."""

    ramps: Sequence[Ramp]
    layer: int
    S: Tensor  # (B, N) Σ of w̄ over the path
    h: Tensor  # (B, N, H) h̄ of the layer
    k: int  # neurons to choose
    rows: int  # most rows, pairs × nodes, at once

    def layer_scores(self, whole_layer: bool = True) -> Tensor:
        """Scores (B, H) from one tail forward and backward per node.

        With `whole_layer` the layer is ramped at once, the released shortcut; without, it stays at h̄: the shortlist's
        estimate.
        """
        parts = []
        for ramp in self.ramps:
            ramp.enter(self.layer)
            parts.append(ramp.gradients(whole_layer))
        G, g = (reduce(torch.add, gradients) for gradients in zip(*parts, strict=True))
        return ((self.S[..., None] + self.h) * (G[..., None] + g)).sum(1)

    def exact_scores(self, images: Tensor, neurons: Tensor) -> Tensor:
        """Scores (P,) of pairs (image of the batch, neuron of the layer), each neuron ramped alone with the path.

        The layer must be entered. At least one pair and at most `rows` rows are evaluated at once, which does not
        change the result.
        """
        totals = []
        for ramp in self.ramps:
            ramp.reopen()
            size = max(1, self.rows // len(ramp.weights))
            pairs = zip(images.split(size), neurons.split(size), strict=True)
            totals.append(torch.cat([candidate_gradients(ramp, i, j) for i, j in pairs]))
            ramp.close()
        return ((self.S[images] + self.h[images, :, neurons]) * reduce(torch.add, totals)).sum(1)

    def all_exact_scores(self) -> Tensor:
        """The exact scores (B, H) of all neurons."""
        for ramp in self.ramps:
            ramp.enter(self.layer)
        B, _, H = self.h.shape
        device = self.h.device
        neurons = torch.arange(H, device=device).repeat_interleave(B)
        return self.exact_scores(torch.arange(B, device=device).repeat(H), neurons).view(H, B).T.contiguous()


def candidate_gradients(ramp: Ramp, images: Tensor, neurons: Tensor) -> Tensor:
    """Σ_k ω_k (Σ_{n∈P} ∂F/∂w_n[t] + ∂F/∂w_j[t]) with P and neuron j alone ramped, its layer else at h̄: (P, N).

    images, neurons (P,): the pairs (image of the batch, neuron j of the layer entered). P·k rows at once, each a tail
    forward and backward from the kept stream, and for N > 1 the way back through the path's layers.
    """
    k, layer, model, plain = len(ramp.weights), ramp.layer, ramp.model, ramp.plain
    rows = (k * images[:, None] + torch.arange(k, device=images.device)).flatten()  # (P·k,)
    u = model.blocks[layer].columns(neurons)[:, None]  # (P, 1, D)
    w = plain.hidden[layer][images, :, neurons][..., None]  # (P, N, 1)
    update = (ramp.alpha[rows] - 1) * (w * u).repeat_interleave(k, 0)
    out = (plain.written[layer][images].repeat_interleave(k, 0) + update).requires_grad_()  # (P·k, N, D)
    z = ramp.z.detach()[rows].requires_grad_()
    with torch.enable_grad():
        F = probability(model.run(write(model, z, layer, out), layer + 1), ramp.targets[rows])
        dz, dout = torch.autograd.grad(F.sum(), [z, out])
    total = (dout.unflatten(0, (-1, k)) * u[:, None]).sum(-1)  # (P, k, N): ∂F/∂w_j
    if ramp.chosen:
        total = total + ramp.pull(rows, dz).unflatten(0, (-1, k))
    return torch.einsum("k,pkn->pn", ramp.weights, total)


@dataclass(frozen=True)
class Rule:
    """When a shortlist is long enough: see `shortlist`."""

    most: int
    kappa: float
    first: int = FIRST


def shortlist(estimates: Tensor, k: int, score: Callable[[Tensor, Tensor], Tensor], rule: Rule) -> Shortlisted:
    """The k best of the candidates scored: the best `first` by `estimates` (B, H), then twice as many, and so on.

    An image is done once its k-th best exact score beats the next estimate by more than `kappa` times its largest
    |exact - estimate|, or when `most` are scored ("cap") or all H ("all"). `score` as `Frontier.exact_scores`. Images
    do not touch each other.
    """
    B, H = estimates.shape
    most = min(rule.most, H)
    order = estimates.argsort(dim=-1, descending=True, stable=True)
    exact, error = torch.full_like(estimates, -torch.inf), torch.zeros_like(estimates[:, 0])
    scored, stopped = torch.zeros_like(order[:, 0]), torch.full_like(order[:, 0], STOPPED.index("cap"))
    open_, done, count = torch.arange(B, device=order.device), 0, rule.first
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
        met = gap > rule.kappa * error[open_]
        stopped[open_[met]] = STOPPED.index("rule")
        open_, done = open_[~met], count
        if count == most:
            break
        count *= 2
    place = order.argsort(dim=-1)  # (B, H), the inverse of `order`
    chosen, margin = choose(exact, k, place < scored[:, None])
    rank = 1 + place.gather(1, chosen).amax(-1)
    return Shortlisted(chosen, margin, rank, scored, stopped)
