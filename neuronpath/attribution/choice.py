"""The choice of a layer's neurons from scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """What is chosen in one layer for B images."""

    chosen: Tensor  # (B, K) neurons, best first
    margin: Tensor  # (B,) as of `choose`; of a shortlist, among the candidates scored
    doubt: Tensor | None = field(default=None, kw_only=True)  # (B,) whether the lower rule chooses other neurons


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


def best(scores: Sequence[Tensor], k: int, known: Tensor | None = None) -> Choice:
    """The choice by the first of `scores` (B, H), and where there is a second, those of a lower rule, the doubt."""
    chosen, margin = choose(scores[0], k, known)
    doubt = None
    for other in scores[1:]:
        doubt = (choose(other, k, known)[0].sort(-1).values != chosen.sort(-1).values).any(-1)
    return Choice(chosen, margin, doubt=doubt)
