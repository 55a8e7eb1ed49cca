"""The objectives, as values: what F is of a model's logits (docs/method.md §2). Without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def _logits(logits: Tensor) -> Tensor:
    return logits


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def _sigmoid(logits: Tensor) -> Tensor:
    return logits.sigmoid()


@dataclass(frozen=True)
class Objective:
    """F of a row's target class. Called with logits (R, C) and targets (R,), it is F, (R,).

    `values`: F of every class, from logits (…, C) of the same shape; `probabilities`: what records hold as the classes'
    probabilities. `noun`: F in a sentence, `unit`: that of scores.
    """

    name: str
    noun: str
    unit: str
    values: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return of_classes(self.values(logits), targets)


def of_classes(values: Tensor, classes: Tensor) -> Tensor:
    """Each row's value of its own class: (R,) out of `values` (R, C), `classes` (R,)."""
    return values.gather(-1, classes[:, None])[:, 0]


#: The paper's.
PROBABILITY = Objective("probability", "probability of the target class", "probability", _softmax, _softmax)

#: By name. `sigmoid` is for heads that were trained to tell each class from its absence.
OBJECTIVES = {
    objective.name: objective
    for objective in (
        PROBABILITY,
        Objective("logit", "logit of the target class", "logits", _logits, _softmax),
        Objective("sigmoid", "logistic function of the target's logit", "sigmoid probability", _sigmoid, _sigmoid),
    )
}


def objective_of(objective: Objective | str) -> Objective:
    """An objective by its name, or itself. ValueError for an unknown name."""
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        raise ValueError(f"objective {objective!r} is unknown; choose from {', '.join(OBJECTIVES)}")
    return OBJECTIVES[objective]
