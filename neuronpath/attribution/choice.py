"""The choice of a layer's neurons from scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """What is chosen in one layer for B images."""

    chosen: Tensor  # (B, K) neurons, best first
    margin: Tensor  # (B,) as of `choose`; of a shortlist, among the candidates scored
    doubt: Tensor | None = field(default=None, kw_only=True)  # (B,) whether the lower rule chooses other neurons

    def map(self, function: Callable[[Tensor], Tensor]) -> "Choice":
        """With `function` of every tensor."""
        held = {f.name: x for f in fields(self) if (x := getattr(self, f.name)) is not None}
        return replace(self, **{name: function(x) for name, x in held.items()})


@dataclass(frozen=True)
class Shortlisted(Choice):
    """The same by a shortlist, and how."""

    rank: Tensor  # (B,) place in the estimate of the chosen neuron (K > 1: of the last such), from 1
    scored: Tensor  # (B,) candidates that were scored exactly
    stopped: Tensor  # (B,) index into `candidates.STOPPED`


def choose(scores: Tensor, k: int, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k highest of `scores` (B, H), best first: (B, k), and the margin (B,). Equal scores go to the lowest index.

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


def margins(scores: Tensor, neurons: Tensor) -> Tensor:
    """By how much each of `neurons` (…, W) beats the best other one by `scores` (…, H): (…, W), a share of max_j |s_j|.

    Of the best that is the margin of `choose`; of any other it is below 0. -inf stands for what was not scored.
    """
    own, first = scores.gather(-1, neurons), scores.amax(-1, keepdim=True)
    second = scores.topk(2).values[..., 1:] if scores.shape[-1] > 1 else torch.full_like(first, -torch.inf)
    rest = first.where(own < first, second)
    largest = scores.where(~scores.isneginf(), 0).abs().amax(-1, keepdim=True)
    margin = ((own - rest) / largest).where(largest != 0, 0).where(~rest.isneginf(), 1)
    return margin.where(largest.isfinite(), torch.nan)


def best(scores: Sequence[Tensor], k: int, known: Tensor | None = None) -> Choice:
    """The choice by the first of `scores` (B, H), and where there is a second, those of a lower rule, the doubt."""
    chosen, margin = choose(scores[0], k, known)
    doubt = None
    for other in scores[1:]:
        doubt = (choose(other, k, known)[0].sort(-1).values != chosen.sort(-1).values).any(-1)
    return Choice(chosen, margin, doubt=doubt)
