"""The searches, as values: how the neurons of a layer are scored and chosen (docs/method.md §3). Without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .candidates import Frontier, Scores
    from .choice import Choice


class Greedy(ABC):
    """One path: how the neurons of a layer are scored, of which the best join it. A `Beam` scores like one of these."""

    name: str

    @abstractmethod
    def select(self, frontier: Frontier) -> Choice:
        """The neurons that join the path."""

    @abstractmethod
    def scores(self, frontiers: Sequence[Frontier], width: int) -> Scores:
        """Of the candidates beside several paths of each image, of which pairs the `width` best are wanted."""


@dataclass(frozen=True)
class Layer(Greedy):
    """The whole layer is ramped at once: the shortcut of the released code."""

    name = "layer"

    def select(self, frontier: Frontier) -> Choice:
        return frontier.choose(frontier.layer_scores())

    def scores(self, frontiers: Sequence[Frontier], width: int) -> Scores:
        from .candidates import Scores

        return Scores.of([frontier.layer_scores()[0] for frontier in frontiers])


@dataclass(frozen=True)
class Shortlist(Greedy):
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

    def scores(self, frontiers: Sequence[Frontier], width: int) -> Scores:
        from .candidates import shortlists

        return shortlists(frontiers, width, self)


@dataclass(frozen=True)
class Exhaustive(Greedy):
    """Every candidate is ramped alone: Algorithm 1 itself."""

    name = "exhaustive"

    def select(self, frontier: Frontier) -> Choice:
        return frontier.choose(frontier.all_exact_scores())

    def scores(self, frontiers: Sequence[Frontier], width: int) -> Scores:
        from .candidates import Scores

        return Scores.of([frontier.all_exact_scores()[0] for frontier in frontiers])


@dataclass(frozen=True)
class Beam:
    """The `width` best paths go on from each layer; of the finished ones the best wins (`beam.beam_search`). K = 1.

    `over`: how a path's candidates are scored.
    """

    width: int = 4
    over: Greedy = Layer()
    name = "beam"


Search: TypeAlias = Greedy | Beam


#: The searches of one path with their default options, by name.
GREEDY: dict[str, Greedy] = {search.name: search for search in (Layer(), Shortlist(), Exhaustive())}

#: All searches.
SEARCHES: dict[str, Search] = {**GREEDY, Beam.name: Beam()}


def greedy_of(search: Greedy | str) -> Greedy:
    """A search of one path by its name, or itself. ValueError for another."""
    found = GREEDY.get(search) if isinstance(search, str) else search
    if not isinstance(found, Greedy):
        raise ValueError(f"search {search!r} is none of one path; choose from {', '.join(GREEDY)}")
    return found


def search_of(search: Search | str) -> Search:
    """A search by its name, or itself. ValueError for an unknown name."""
    if isinstance(search, Greedy | Beam):
        return search
    if search not in SEARCHES:
        raise ValueError(f"search {search!r} is unknown; choose from {', '.join(SEARCHES)}")
    return SEARCHES[search]
