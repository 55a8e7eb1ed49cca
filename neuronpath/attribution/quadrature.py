"""Quadrature rules on [0, 1]: where along the ramp the gradient is taken, and with which weight."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def _to_unit_interval(nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (nodes + 1) / 2, weights / 2


#: Rules by name. `right` is the paper's Eq. 3; the released scripts compute `left`.
RULES: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "right": lambda m: (np.arange(1, m + 1) / m, np.full(m, 1 / m)),
    "left": lambda m: (np.arange(m) / m, np.full(m, 1 / m)),
    "midpoint": lambda m: ((np.arange(m) + 0.5) / m, np.full(m, 1 / m)),
    "gauss-legendre": lambda m: _to_unit_interval(*np.polynomial.legendre.leggauss(m)),
}


@dataclass(frozen=True)
class Quadrature:
    """Nodes α_k and weights ω_k, k = 1..m, float64; the weights sum to 1. `rule` as in RULES."""

    rule: str = "right"
    steps: int = 20

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"quadrature {self.rule!r} is unknown; choose from {', '.join(RULES)}")
        if self.steps < 1:
            raise ValueError(f"a quadrature needs at least one node, not {self.steps}")

    @property
    def nodes(self) -> np.ndarray:
        return RULES[self.rule](self.steps)[0]

    @property
    def weights(self) -> np.ndarray:
        return RULES[self.rule](self.steps)[1]


#: The paper's.
PAPER = Quadrature("right", 20)
