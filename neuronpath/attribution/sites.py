"""Where the units of a path are: a block's attention, whose units are its heads, or its FFN, whose units are neurons.

A model is its sublayers in turn, attention of block 0, its FFN, attention of block 1, ...; each adds to the stream what
its units write. A `Site` is one of them as a value: what is read there, ramped and written. The engine knows no more of
it. `Units` says which of the two every block contributes to a path; *layer* l of a path is its l-th site.

A unit of activation w writes w·direction. A neuron's direction is a column of fc2, the same for all images and tokens;
a head's is what it writes in the plain forward, and its w is a gate, 1 there (docs/method.md §10).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..models.staged import Linear, StagedBlock, StagedModel, Tokens
from .searches import Exhaustive, Greedy


@dataclass(frozen=True)
class Site(ABC):
    """A sublayer of `model` in block `layer`. Its *values*, (B, N or T, C), are what enters its last linear layer."""

    model: StagedModel
    layer: int
    part: ClassVar[int]  # of the block: 0 attention, 1 FFN

    @property
    def block(self) -> StagedBlock:
        return self.model.blocks[self.layer]

    @property
    def place(self) -> int:
        """Which of the model's sublayers it is."""
        return 2 * self.layer + self.part

    @property
    @abstractmethod
    def units(self) -> int:
        """How many it has."""

    @property
    @abstractmethod
    def last(self) -> Linear:
        """The last linear layer, (D, C): what it makes of the values is added to the stream."""

    @abstractmethod
    def values(self, z: Tensor, tokens: Tokens | None = None) -> Tensor:
        """Of the stream `z` entering the sublayer, of all tokens or of some."""

    def enter(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The values, and the stream before they are written: of all tokens, in the last block the neuron tokens."""
        return self.values(z), z

    @abstractmethod
    def step(self, z: Tensor, tokens: Tokens | None = None) -> Tensor:
        """The stream behind the sublayer; `tokens`: those that attention computes, all by default."""

    def open(self, z: Tensor) -> Tensor:
        """The stream behind the sublayer but for what its units write at the neuron tokens.

        Of the last block only the neuron tokens, as nothing reads the others.
        """
        model = self.model
        if model.queries(self.layer) is not None:
            return self.neuron_rows(z)
        other = z[:, model.other_tokens]
        return model.join(z[:, model.neuron_tokens], other + self.last(self.values(z, model.other_tokens)))

    @abstractmethod
    def neuron_rows(self, z: Tensor) -> Tensor:
        """The neuron tokens, (R, N, D), of the stream `z` entering the sublayer."""

    @abstractmethod
    def weights(self, values: Tensor) -> Tensor:
        """w̄ of every unit, (B, N, units), or (B, 1, units) where it is the same at all neuron tokens."""

    @abstractmethod
    def sizes(self, values: Tensor) -> Tensor:
        """By what the largest unit is told where nothing else is known, (B, N, units)."""

    @abstractmethod
    def written_sizes(self, values: Tensor) -> Tensor:
        """How much each unit writes to the stream, (B, units): the norm of the sum over the neuron tokens."""

    @abstractmethod
    def directions(self, values: Tensor, units: Tensor, images: Tensor | None = None) -> Tensor:
        """What `units` (B, K) of activation 1 write: (B, N, K, D), or (B, 1, K, D) where all tokens have the same.

        `images` (B,): whose they are of those of `values`, by default all in turn.
        """

    @abstractmethod
    def gradients(self, values: Tensor, written: Tensor) -> Tensor:
        """∂F/∂w of every unit, (B, N, units), from ∂F/∂(what they write), (B, N, D)."""

    @abstractmethod
    def channels(self, units: Tensor) -> Tensor:
        """Which of the C values are those of `units` (…, K): (…, K·size)."""

    def searched(self, search: Greedy) -> Greedy:
        """How its units are searched where neurons are by `search`."""
        return search


class Neurons(Site):
    """The hidden units of the FFN; w is the activation, and the values are these."""

    part = 1

    @property
    def units(self) -> int:
        return self.model.config.mlp_dim

    @property
    def last(self) -> Linear:
        return self.block.fc2

    def values(self, z: Tensor, tokens: Tokens | None = None) -> Tensor:
        return self.block.hidden(z if tokens is None else z[:, tokens])

    def step(self, z: Tensor, tokens: Tokens | None = None) -> Tensor:
        return z + self.block.project(self.block.hidden(z))

    def neuron_rows(self, z: Tensor) -> Tensor:
        return z if self.model.queries(self.layer) is not None else z[:, self.model.neuron_tokens]

    def weights(self, values: Tensor) -> Tensor:
        return values

    def sizes(self, values: Tensor) -> Tensor:
        return values

    def written_sizes(self, values: Tensor) -> Tensor:
        return values.sum(1).abs() * self.last.weight.norm(dim=0)

    def directions(self, values: Tensor, units: Tensor, images: Tensor | None = None) -> Tensor:
        return self.block.columns(units)[:, None]

    def gradients(self, values: Tensor, written: Tensor) -> Tensor:
        return self.block.neuron_gradient(written)

    def channels(self, units: Tensor) -> Tensor:
        return units


class Heads(Site):
    """The heads of attention; w is a gate, the same at all neuron tokens, 1 in the plain forward.

    There are few enough for Algorithm 1 itself: every one alone beside the path.
    """

    part = 0

    @property
    def units(self) -> int:
        return self.block.num_heads

    @property
    def last(self) -> Linear:
        return self.block.proj

    def values(self, z: Tensor, tokens: Tokens | None = None) -> Tensor:
        return self.block.mix(z, tokens)

    def enter(self, z: Tensor) -> tuple[Tensor, Tensor]:
        queries = self.model.queries(self.layer)
        return self.values(z, queries), z if queries is None else z[:, queries]

    def step(self, z: Tensor, tokens: Tokens | None = None) -> Tensor:
        return self.block.attend(z, tokens)

    def neuron_rows(self, z: Tensor) -> Tensor:
        return z[:, self.model.neuron_tokens]

    def weights(self, values: Tensor) -> Tensor:
        return values.new_ones(len(values), 1, self.units)

    def sizes(self, values: Tensor) -> Tensor:
        return self._written(values).norm(dim=-1)

    def written_sizes(self, values: Tensor) -> Tensor:
        return self._written(values.sum(1)).norm(dim=-1)

    def directions(self, values: Tensor, units: Tensor, images: Tensor | None = None) -> Tensor:
        values = values if images is None else values[images]
        split = values.unflatten(-1, (self.units, -1))  # (B, N, heads, size)
        own = split.gather(2, units[:, None, :, None].expand(-1, split.shape[1], -1, split.shape[3]))
        return torch.einsum("bnks,bksd->bnkd", own, self._columns(values)[units])

    def gradients(self, values: Tensor, written: Tensor) -> Tensor:
        return (written @ self.last.weight.to(written.dtype) * values).unflatten(-1, (self.units, -1)).sum(-1)

    def channels(self, units: Tensor) -> Tensor:
        size = self.last.in_features // self.units
        return (size * units[..., None] + torch.arange(size, device=units.device)).flatten(-2)

    def searched(self, search: Greedy) -> Greedy:
        return Exhaustive()

    def _columns(self, values: Tensor) -> Tensor:
        """What a head's values are multiplied by, (heads, size, D)."""
        return self.last.weight.T.to(values.dtype).unflatten(0, (self.units, -1))

    def _written(self, values: Tensor) -> Tensor:
        """What every head writes, (…, heads, D)."""
        split = values.unflatten(-1, (self.units, -1))
        return torch.einsum("...hs,hsd->...hd", split, self._columns(values))


@dataclass(frozen=True)
class Units:
    """Of what a path is: the sites that every block contributes, in the order of the sublayers."""

    name: str
    kinds: tuple[type[Site], ...]
    noun: str  # what units are called in a sentence

    def sites(self, model: StagedModel) -> list[Site]:
        return [kind(model, layer) for layer in range(len(model.blocks)) for kind in self.kinds]

    def widths(self, model: StagedModel) -> list[int]:
        """C of every kind: how many values enter its last layer."""
        return [kind(model, 0).last.in_features for kind in self.kinds]

    def counts(self, model: StagedModel) -> list[int]:
        """Units of every site."""
        return [site.units for site in self.sites(model)]


NEURONS = Units("neurons", (Neurons,), "neurons")
HEADS = Units("heads", (Heads,), "heads")
BOTH = Units("both", (Heads, Neurons), "units")

#: By name.
UNITS = {units.name: units for units in (NEURONS, HEADS, BOTH)}


def units_of(units: Units | str) -> Units:
    """By its name, or itself. ValueError for an unknown name."""
    if isinstance(units, Units):
        return units
    if units not in UNITS:
        raise ValueError(f"units {units!r} are unknown; choose from {', '.join(UNITS)}")
    return UNITS[units]


def sublayers(model: StagedModel, first: int = 0, end: int | None = None) -> Sequence[Site]:
    """All of the model, those from place `first` to before `end`."""
    return BOTH.sites(model)[first:end]


def run(site: Site, z: Tensor) -> Tensor:
    """Logits (R, C) from the stream `z` behind `site`."""
    return site.model.read(_steps(site.model, z, site.place + 1))


def open_next(before: Site, site: Site, z: Tensor) -> Tensor:
    """The stream opened at `site` from that behind the one `before` it on a path."""
    return site.open(_steps(site.model, z, before.place + 1, site.place))


def _steps(model: StagedModel, z: Tensor, first: int, end: int | None = None) -> Tensor:
    for sublayer in sublayers(model, first, end):
        z = sublayer.step(z, model.queries(sublayer.layer))
    return z
