"""What a search or a score is given: images after their plain forward, a rule, an objective, units."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .forward import Plain, plain_forward, resolve_targets
from .objectives import PROBABILITY, Objective
from .quadrature import Quadrature
from .sites import NEURONS, Units
from .unramped import PlainGraph, Unramped


@dataclass(frozen=True)
class Problem:
    """B images whose paths are to be found or scored, all with one rule and one F; `rows`: most rows at once.

    `apart`: one ramp for every node, so that a lower rule on the same nodes is at hand, too.
    """

    model: StagedModel
    plain: Plain
    targets: Tensor  # (B,) class indices
    quadrature: Quadrature
    rows: int
    graph: PlainGraph | None = None  # where α = 1 is a node, or what is asked for
    apart: bool = False
    objective: Objective = PROBABILITY

    @classmethod
    def of(
        cls,
        model: StagedModel,
        images: Tensor,
        targets: Tensor,
        quadrature: Quadrature,
        rows: int,
        *,
        apart: bool = False,
        objective: Objective = PROBABILITY,
        differentiable: bool = False,
        units: Units = NEURONS,
    ) -> "Problem":
        """`images` (B, 3, height, width) after their plain forward; a negative target is the predicted class.

        `differentiable`: with `unramped` even where α = 1 is no node. Only for neurons, the default of `units`, is it
        a node without a ramp.
        """
        graph = None
        if units is NEURONS and (quadrature.unramped or differentiable):
            graph = PlainGraph(model, images, tangents=carries_tangents(model.num_neuron_tokens, images.device))
            plain = graph.plain()
        else:
            plain = plain_forward(model, images, units)
        targets = resolve_targets(targets, plain.logits)
        return cls(model, plain, targets, quadrature, rows, graph, apart, objective)

    @cached_property
    def unramped(self) -> Unramped:
        """The gradients at α = 1, for all that needs them."""
        assert self.graph is not None
        return Unramped(self.graph, self.targets, self.objective)

    @property
    def free(self) -> float:
        """The weight of the node α = 1 where it needs no ramp, else 0."""
        return self.quadrature.unramped if self.graph else 0.0

    def score(self, S: Tensor, G: Tensor) -> Tensor:
        """Σ_t S[t]·G[t] / N, (B,), of (B, N), or of (B, 1) where S is the same at all neuron tokens and G their sum."""
        return (S * G).mean(1) * (S.shape[1] / self.model.num_neuron_tokens)


def carries_tangents(tokens: int, device: torch.device) -> bool:
    """Whether a search carries the path's tangent: where w̄ is of one token, and attention has a forward mode.

    mps lacks it.
    """
    return tokens == 1 and device.type != "mps"
