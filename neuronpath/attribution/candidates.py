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

from .choice import Choice, Shortlisted, best, margins
from .engine import Ramp
from .searches import Shortlist

STOPPED = ("rule", "cap", "all")  # why a shortlist was as long as it was; `Choice.stopped` are indices


@dataclass(frozen=True)
class Frontier:
    """A search on its way: the ramps of the path so far and the layer whose neurons are chosen next.

    Scores come by rule: those of the quadrature, and, with `lower`, those of a rule on the same nodes; `lower` is then
    the ratio of its weight to the quadrature's, for each of the ramps.
    """

    ramps: Sequence[Ramp]
    layer: int
    S: Tensor  # (B, N) Σ of w̄ over the path
    h: Tensor  # (B, N, H) h̄ of the layer
    k: int  # neurons to choose
    rows: int  # most rows, pairs × nodes, at once
    lower: Sequence[float] | None = None

    def layer_scores(self, whole_layer: bool = True) -> list[Tensor]:
        """Scores (B, H) by rule, from one tail forward and backward per node.

        With `whole_layer` the layer is ramped at once, the released shortcut; without, it stays at h̄: the shortlist's
        estimate.
        """
        parts = []
        for ramp in self.ramps:
            ramp.enter(self.layer)
            parts.append(ramp.gradients(whole_layer))
        path, layer = (self._by_rule(gradients) for gradients in zip(*parts, strict=True))
        return [((self.S[..., None] + self.h) * (G[..., None] + g)).sum(1) for G, g in zip(path, layer, strict=True)]

    def exact_scores(self, images: Tensor, neurons: Tensor) -> list[Tensor]:
        """Scores (P,) by rule of pairs (image of the batch, neuron of the layer), each neuron ramped with the path.

        The layer must be entered.
        """
        gradients = self._by_rule([ramp.candidate_gradients(images, neurons, self.rows) for ramp in self.ramps])
        return [((self.S[images] + self.h[images, :, neurons]) * gradient).sum(1) for gradient in gradients]

    def all_exact_scores(self) -> list[Tensor]:
        """The exact scores (B, H) of all neurons, by rule."""
        for ramp in self.ramps:
            ramp.enter(self.layer)
        B, _, H = self.h.shape
        device = self.h.device
        neurons = torch.arange(H, device=device).repeat_interleave(B)
        found = self.exact_scores(torch.arange(B, device=device).repeat(H), neurons)
        return [scores.view(H, B).T.contiguous() for scores in found]

    def choose(self, scores: Sequence[Tensor]) -> Choice:
        """The best of a layer's `scores` (B, H), by rule."""
        return best(scores, self.k)

    def shortlist(self, rule: Shortlist) -> Shortlisted:
        """The best of those that are worth an exact score."""
        return shortlist(self.layer_scores(whole_layer=False)[0], self.k, self.exact_scores, rule)

    def _by_rule(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The sum over the ramps, and that of the lower rule."""
        found = [reduce(torch.add, parts)]
        if self.lower is not None:
            found.append(reduce(torch.add, (share * part for share, part in zip(self.lower, parts, strict=True))))
        return found


Score = Callable[[Tensor, Tensor], list[Tensor]]  # as `Frontier.exact_scores`


def shortlist(estimates: Tensor, k: int, score: Score, rule: Shortlist) -> Shortlisted:
    """The k best of the candidates scored: the best `rule.first` by `estimates` (B, H), then twice as many, and so on.

    An image is done once its k-th best exact score beats the next estimate by more than `rule.kappa` times its largest
    |exact - estimate|, or when `rule.most` are scored ("cap") or all H ("all"). Images do not touch
    each other.
    """
    listed = _score_listed(estimates, k, score, rule)
    choice = best(listed.by_rule, k, listed.rank <= listed.scored[:, None])
    rank = listed.rank.gather(1, choice.chosen).amax(-1)
    return Shortlisted(choice.chosen, choice.margin, rank, listed.scored, listed.stopped, doubt=choice.doubt)


@dataclass(frozen=True)
class _Listed:
    """The scores of B lists."""

    by_rule: list[Tensor]  # (B, H), -inf where a candidate was not scored
    rank: Tensor  # (B, H) place in the estimate, from 1
    scored: Tensor  # (B,) and
    stopped: Tensor  # (B,) as of `Shortlisted`


def _score_listed(estimates: Tensor, k: int, score: Score, rule: Shortlist, paths: int = 1) -> _Listed:
    """Exact scores of as many candidates as the k best need; `estimates` (B, H), image by image.

    With `paths` an image has as many rows, and its k best pairs of row and candidate are wanted; each row is done once
    the k-th best of all beats its own next estimate by its own errors.
    """
    B, H = estimates.shape
    most = min(rule.most, H)
    order = estimates.argsort(dim=-1, descending=True, stable=True)
    by_rule, error = list[Tensor](), torch.zeros_like(estimates[:, 0])
    scored, stopped = torch.zeros_like(order[:, 0]), torch.full_like(order[:, 0], STOPPED.index("cap"))
    open_, done, count = torch.arange(B, device=order.device), 0, rule.first
    while paths * count <= k:
        count *= 2
    while len(open_):
        count = min(count, most)
        new = order[open_, done:count].T  # (new, open images): neighbours are of different images
        images, neurons = open_.repeat(len(new)), new.flatten()
        scores = score(images, neurons)
        by_rule = by_rule or [torch.full_like(estimates, -torch.inf) for _ in scores]
        for exact, found in zip(by_rule, scores, strict=True):
            exact[images, neurons] = found
        exact, found = by_rule[0], scores[0]
        errors = (found - estimates[images, neurons]).abs().view(new.shape).amax(0)
        error[open_], scored[open_] = torch.maximum(error[open_], errors), count
        if count == H:
            stopped[open_] = STOPPED.index("all")
            break
        worst = exact.view(-1, paths * H).topk(min(k, paths * H)).values[:, -1].repeat_interleave(paths)
        gap = worst[open_] - estimates[open_, order[open_, count]]
        met = gap > rule.kappa * error[open_]
        stopped[open_[met]] = STOPPED.index("rule")
        open_, done = open_[~met], count
        if count == most:
            break
        count *= 2
    return _Listed(by_rule, 1 + order.argsort(dim=-1), scored, stopped)


@dataclass(frozen=True)
class Scores:
    """Of a layer's candidates beside each of S paths of B images; of shortlists also how they came about."""

    values: Tensor  # (B, S, H), -inf where a candidate was not scored
    listed: _Listed | None = None  # of B·S lists

    @classmethod
    def of(cls, values: Sequence[Tensor]) -> "Scores":
        """Of (B, H) per path."""
        return cls(torch.stack(tuple(values), 1))

    def best(self, width: int) -> tuple[Tensor, Choice]:
        """The best pairs of path and candidate, best first: their paths (B, W), and all else of them, (B, W) each.

        W is `width`, or as many as were scored. Equal scores go to the lowest path, then to the lowest neuron.
        """
        B, S, H = self.values.shape
        flat = self.values.flatten(1)
        W = min(width, int((~flat.isneginf()).sum(1).min()))
        order = flat.sort(dim=-1, descending=True, stable=True).indices[:, :W]
        parents, neurons = order // H, order % H
        rows = torch.arange(B, device=order.device)[:, None]
        margin = margins(self.values[rows, parents], neurons[..., None])[..., 0]
        if self.listed is None:
            return parents, Choice(neurons, margin)
        rank, scored, stopped = (
            x.unflatten(0, (B, S)) for x in (self.listed.rank, self.listed.scored, self.listed.stopped)
        )
        listed = rank[rows, parents, neurons], scored.gather(1, parents), stopped.gather(1, parents)
        return parents, Shortlisted(neurons, margin, *listed)


def shortlists(frontiers: Sequence[Frontier], width: int, rule: Shortlist) -> Scores:
    """One shortlist per path, none longer than the `width` best pairs of them all need."""
    estimates = torch.stack([frontier.layer_scores(whole_layer=False)[0] for frontier in frontiers], 1)  # (B, S, H)
    S = len(frontiers)

    def score(rows: Tensor, neurons: Tensor) -> list[Tensor]:
        found = torch.empty_like(estimates[0, 0, 0]).expand(len(rows)).clone()
        for path, frontier in enumerate(frontiers):
            (own,) = (rows % S == path).nonzero(as_tuple=True)
            if len(own):
                found[own] = frontier.exact_scores(rows[own] // S, neurons[own])[0]
        return [found]

    listed = _score_listed(estimates.flatten(0, 1), width, score, rule, S)
    return Scores(listed.by_rule[0].view_as(estimates), listed)
