"""Quadrature rules on [0, 1]: where along the ramp the gradient is taken, and with which weight."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def _to_unit_interval(nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (nodes + 1) / 2, weights / 2


def _gauss_radau(m: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact up to degree 2m - 2, with α_m = 1: mirrored, -1 and the roots of the Jacobi polynomial P^(0,1) of m - 1."""
    from scipy.special import eval_legendre, roots_jacobi

    inner = roots_jacobi(m - 1, 0, 1)[0]
    weights = (1 - inner) / (m * eval_legendre(m - 1, inner)) ** 2
    nodes = np.append(1 - (1 + inner[::-1]) / 2, 1.0)
    return nodes, np.append(weights[::-1], 2 / m**2) / 2


#: Rules by name. `right` is the paper's Eq. 3; the released scripts compute `left`.
RULES: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "right": lambda m: (np.arange(1, m + 1) / m, np.full(m, 1 / m)),
    "left": lambda m: (np.arange(m) / m, np.full(m, 1 / m)),
    "midpoint": lambda m: ((np.arange(m) + 0.5) / m, np.full(m, 1 / m)),
    "gauss-legendre": lambda m: _to_unit_interval(*np.polynomial.legendre.leggauss(m)),
    "gauss-radau": _gauss_radau,
}

#: The fewest nodes that a rule has, where it is not one.
LEAST = {"gauss-radau": 2}


@dataclass(frozen=True)
class Quadrature:
    """Nodes α_k and weights ω_k, k = 1..m, float64; the weights sum to 1. `rule` as in RULES."""

    rule: str = "right"
    steps: int = 20

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"quadrature {self.rule!r} is unknown; choose from {', '.join(RULES)}")
        if self.steps < LEAST.get(self.rule, 1):
            raise ValueError(f"{self.rule} needs at least {LEAST.get(self.rule, 1)} node(s), not {self.steps}")

    @property
    def nodes(self) -> np.ndarray:
        return RULES[self.rule](self.steps)[0]

    @property
    def weights(self) -> np.ndarray:
        return RULES[self.rule](self.steps)[1]

    @property
    def ramped(self) -> tuple[np.ndarray, np.ndarray]:
        """The nodes but for α = 1, and their weights: those that cost a ramp each."""
        paid = self.nodes != 1
        return self.nodes[paid], self.weights[paid]

    @property
    def unramped(self) -> float:
        """The weight of α = 1, at which nothing is ramped; 0 where it is no node."""
        return float(self.weights[self.nodes == 1].sum())

    @property
    def lower(self) -> np.ndarray:
        """Weights of a rule of lower degree on the same nodes: on every other of them, from the first, 0 elsewhere.

        Where the two disagree, the rule may be in error.
        """
        some = self.nodes[::2]
        weights = np.zeros_like(self.nodes)
        weights[::2] = np.linalg.solve(np.vander(some, increasing=True).T, 1 / np.arange(1, len(some) + 1))
        return weights


#: What `--quadrature` calls as many nodes as needed (`adaptive`), beside the rules.
AUTO = "auto"

#: The paper's.
PAPER = Quadrature("right", 20)
