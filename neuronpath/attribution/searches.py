"""The searches, as values: how the neurons of a layer are scored and chosen (docs/method.md §3). Without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .candidates import Frontier
    from .choice import Choice


class Search(ABC):
    """How the neurons of a layer are scored and chosen, given the path so far."""

    name: str

    @abstractmethod
    def select(self, frontier: Frontier) -> Choice: ...


@dataclass(frozen=True)
class Layer(Search):
    """The whole layer is ramped at once: the shortcut of the released code."""

    name = "layer"

    def select(self, frontier: Frontier) -> Choice:
        return frontier.choose(frontier.layer_scores())


@dataclass(frozen=True)
class Shortlist(Search):
    """Every candidate is ramped alone, as in Algorithm 1, but only the best by an estimate (`candidates.shortlist`).

    `most`: candidates of a layer that are scored at most. `kappa`: by how many of the largest errors seen the K-th best
    must beat the next estimate; larger is stricter and longer. `first`: candidates that are scored at first.
    """

    most: int = 64
    kappa: float = 2.0
    first: int = 4
    name = "shortlist"

    def select(self, frontier: Frontier) -> Choice:
        return frontier.shortlist(self)


@dataclass(frozen=True)
class Exhaustive(Search):
    """Every candidate is ramped alone: Algorithm 1 itself."""

    name = "exhaustive"

    def select(self, frontier: Frontier) -> Choice:
        return frontier.choose(frontier.all_exact_scores())


#: The searches with their default options, by name.
SEARCHES: dict[str, Search] = {search.name: search for search in (Layer(), Shortlist(), Exhaustive())}


def search_of(search: Search | str) -> Search:
    """A search by its name, or itself. ValueError for an unknown name."""
    if isinstance(search, Search):
        return search
    if search not in SEARCHES:
        raise ValueError(f"search {search!r} is unknown; choose from {', '.join(SEARCHES)}")
    return SEARCHES[search]
