"""The baselines, as values: by what they rank a layer's neurons, every layer on its own (docs/method.md §4).

Without PyTorch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .baselines import Layers
    from .choice import Choice


class Ranking(ABC):
    """By what the neurons of a layer are ranked."""

    name: str

    @abstractmethod
    def choices(self, layers: Layers, k: int) -> list[Choice]:
        """The k best of every layer."""


@dataclass(frozen=True)
class GradientActivation(Ranking):
    """s_j = Σ_t h̄_j[t]·∂F/∂h_j[t] at the image itself (first-order Taylor, Molchanov et al. 2017)."""

    name = "gradient_activation"

    def choices(self, layers: Layers, k: int) -> list[Choice]:
        return layers.best(layers.gradient_activation(), k)


@dataclass(frozen=True)
class Conductance(Ranking):
    """s_j = Σ_t Σ_k ∂F/∂h_j[t](α_k·x)·(h_j[t](α_k·x) - h_j[t](α_{k-1}·x)), α_k = k/m (Dhamdhere et al. 2018)."""

    name = "conductance"

    def choices(self, layers: Layers, k: int) -> list[Choice]:
        return layers.best(layers.conductance(), k)


@dataclass(frozen=True)
class LayerIG(Ranking):
    """s_j = Σ_t h̄_j[t]·Σ_k ω_k ∂F/∂h_j[t] with the layer at α_k·h̄ ("knowledge attribution", Dai et al. 2022)."""

    name = "layer_ig"

    def choices(self, layers: Layers, k: int) -> list[Choice]:
        return layers.best(layers.layer_ig(), k)


@dataclass(frozen=True)
class Ablation(Ranking):
    """s_j = F - F(h_j = 0), of the `candidates` best by gradient × activation; None: of all neurons."""

    candidates: int | None = 64
    name = "ablation"

    def choices(self, layers: Layers, k: int) -> list[Choice]:
        scores, known = layers.ablation(self.candidates)
        return layers.best(scores, k, known)


@dataclass(frozen=True)
class RandomUnits(Ranking):
    """Distinct neurons drawn uniformly; each (seed, image, layer) has a generator of its own."""

    seed: int = 42
    name = "random"

    def choices(self, layers: Layers, k: int) -> list[Choice]:
        return layers.drawn(self.seed, k)


#: The rankings with their default options, by name.
RANKINGS: dict[str, Ranking] = {
    ranking.name: ranking for ranking in (GradientActivation(), Conductance(), LayerIG(), Ablation(), RandomUnits())
}


def ranking_of(ranking: Ranking | str) -> Ranking:
    """A ranking by its name, or itself. ValueError for an unknown name."""
    if isinstance(ranking, Ranking):
        return ranking
    if ranking not in RANKINGS:
        raise ValueError(f"method {ranking!r} is unknown; choose from {', '.join(RANKINGS)}")
    return RANKINGS[ranking]
