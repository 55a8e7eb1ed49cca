"""Edits of neurons: what each activation is multiplied by or set to, and the forward in which that happens.

An edit (docs/method.md §5) is a tensor of factors (B, L, H), or (1, L, H) for all images alike: 1 leaves a neuron as it
is. Or it is a `Setting`, which gives units other activations. No clamp: a factor multiplies the activation that arises
in the edited forward, and what is not set is free.

    original, removed, doubled = edit(model, images, None, remove(model, path), enhance(model, path))
    means = mean_activations(model, images)
    original, removed, retained = edit(model, images, None, remove(model, path, means), retain(model, path, means))

Paths of heads, `units="heads"`, and mixed ones are edited likewise. The values of a head are its slice of what enters
attention's last layer, so that an edit of heads is one of these C values, as one of neurons is of their H activations;
a `SiteEdit` holds one of each kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .forward import neuron_rows
from .rows import default_rows
from .score import check_path
from .sites import NEURONS, Neurons, Site, Units, sublayers, units_of


def gain(model: StagedModel, path: Tensor, factor: float, units: Units | str = NEURONS) -> "Tensor | SiteEdit":
    """The edit that multiplies a path's units by `factor`: of neurons (B, L, H).

    path (B, l, K): K units in each of the first l ≤ L layers, of both kinds sites. ValueError for a path of another
    shape.
    """

    def factors(site: Site, channels: Tensor) -> Tensor:
        shape = len(path), model.config.depth, site.last.in_features
        return torch.ones(shape, dtype=model.dtype, device=model.device).scatter(2, channels, factor)

    return by_kind(model, path, units, factors)


@dataclass(frozen=True)
class Setting:
    """The edit that sets units to given activations at the neuron tokens.

    `units` (B, l, J): J distinct units in each of the first l ≤ L layers; `values` (B, l, N, J), or (B, l, 1, J) where
    all neuron tokens take the same.
    """

    units: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, group: slice) -> "Setting":
        return Setting(self.units[group], self.values[group])

    def of(self, h: Tensor, layer: int) -> Tensor:
        """The activations `h` (B, N, H) of `layer` with its units set."""
        if layer >= self.units.shape[1]:
            return h
        shape = *h.shape[:2], -1
        return h.scatter(2, self.units[:, layer, None].expand(shape), self.values[:, layer].to(h.dtype).expand(shape))


@dataclass(frozen=True)
class SiteEdit:
    """Edits by kind of site, of the C values that enter its last layer: factors (B, L, C), or a `Setting` of these."""

    of: dict[type[Site], Tensor | Setting]

    def __len__(self) -> int:
        return max(map(len, self.of.values()))

    def __getitem__(self, group: slice) -> "SiteEdit":
        return SiteEdit({kind: edit[group] for kind, edit in self.of.items()})


Edit = Tensor | Setting | SiteEdit | None


def remove(
    model: StagedModel, path: Tensor, means: Tensor | None = None, units: Units | str = NEURONS
) -> Tensor | Setting | SiteEdit:
    """The edit that sets a path's units to 0, or to their `means` (L, H), such as `mean_activations` of these `units`.

    ValueError for a path or means of another shape.
    """
    if means is None:
        return gain(model, path, 0.0, units)
    of_kind = _means_of(model, means, units)
    return by_kind(model, path, units, lambda site, channels: _set_to(channels, of_kind[type(site)]))


def retain(model: StagedModel, path: Tensor, means: Tensor, units: Units | str = NEURONS) -> Setting | SiteEdit:
    """The edit that leaves a path (B, L, K) alone: all other units are set to their `means` (L, H).

    Of heads all other heads are, of both kinds all of both. ValueError for a path or means of another shape.
    """
    of_kind, L = _means_of(model, means, units), model.config.depth

    def others(site: Site, channels: Tensor) -> Setting:
        if channels.shape[1] < L:
            raise ValueError(f"a path to retain has units of all {L} layers, not of {channels.shape[1]}")
        free = torch.ones(len(path), L, site.last.in_features, dtype=torch.bool, device=model.device)
        rest = free.scatter_(2, channels, False).nonzero()[:, 2]
        return _set_to(rest.view(len(path), L, -1), of_kind[type(site)])

    return by_kind(model, path, units, others)


def _means_of(model: StagedModel, means: Tensor, units: Units | str) -> dict[type[Site], Tensor]:
    """(L, C) each, of `means` (L, ΣC)."""
    widths = units_of(units).widths(model)
    shape = model.config.depth, sum(widths)
    if means.shape != shape:
        raise ValueError(f"means must be (L, H) = {shape}, not {tuple(means.shape)}")
    parts = means.to(model.device, model.dtype).split(widths, 1)
    return dict(zip(units_of(units).kinds, parts, strict=True))


def _set_to(channels: Tensor, means: Tensor) -> Setting:
    """The `channels` (B, l, J) at their means (L, C)."""
    values = means[: channels.shape[1]].expand(len(channels), -1, -1).gather(2, channels)
    return Setting(channels, values[:, :, None])


def by_kind(model: StagedModel, path: Tensor, units: Units | str, make: Callable[[Site, Tensor], Any]) -> Any:
    """`make` of a site of each kind and the path's channels there, (B, l, J); of neurons alone that edit itself."""
    units = units_of(units)
    check_path(model, len(path), path, units)
    path, kinds = path.to(model.device), [kind(model, 0) for kind in units.kinds]
    of = {type(site): make(site, site.channels(path[:, i :: len(kinds)])) for i, site in enumerate(kinds)}
    return of[Neurons] if units is NEURONS else SiteEdit(of)


def enhance(model: StagedModel, path: Tensor, units: Units | str = NEURONS) -> Tensor | SiteEdit:
    """The edit that doubles a path's units."""
    return gain(model, path, 2.0, units)


@torch.no_grad()
def edit(
    model: StagedModel,
    images: Tensor,
    *edits: Edit,
    all_tokens: bool = False,
    internal_batch_size: int | None = None,
) -> list[Tensor]:
    """Logits (B, C) of `images` (B, 3, height, width) under each of `edits`; None is the unedited model.

    Edits apply at the neuron tokens, factors with `all_tokens` at every token. All layers are edited in one forward,
    and what precedes the first neurons is shared. An edit whose factors are all 1 changes nothing, bit for bit.
    `internal_batch_size`: most images at once. Cost: one forward per edit. ValueError for a `Setting` at all tokens,
    and for heads there.
    """
    if all_tokens and any(isinstance(e, Setting | SiteEdit) for e in edits):
        raise ValueError("all_tokens is for factors of neurons; other edits are of the neuron tokens only")
    rows = internal_batch_size or default_rows(model, images.device)
    parts = []
    for first in range(0, len(images), rows):
        group = slice(first, first + rows)
        z = model.embed(images[group])
        a = model.blocks[0].attend(z, model.queries(0))
        h = model.blocks[0].hidden(a)
        of_group = [e if e is None or len(e) == 1 else e[group] for e in edits]
        parts.append(
            [
                _edited_at_sites(model, z, e) if isinstance(e, SiteEdit) else _edited(model, a, h, e, all_tokens)
                for e in of_group
            ]
        )
    return [torch.cat(logits) for logits in zip(*parts, strict=True)]


def _edited_at_sites(model: StagedModel, z: Tensor, edit: SiteEdit) -> Tensor:
    """Logits from the stream `z` entering block 0."""
    for site in sublayers(model):
        of_kind, queries = edit.of.get(type(site)), model.queries(site.layer)
        if of_kind is None:
            z = site.step(z, queries)
            continue
        values, z = site.enter(z)
        changed = _changed(neuron_rows(model, values, site.layer), of_kind, site.layer)
        z = z + site.last(changed if queries is not None else model.join(changed, values[:, model.other_tokens]))
    return model.read(z)


def _edited(model: StagedModel, a: Tensor, h: Tensor, edit: Tensor | Setting | None, all_tokens: bool) -> Tensor:
    """Logits from block 0's stream after attention `a` and its activations `h`."""
    z = a
    for layer, block in enumerate(model.blocks):
        if layer:
            a = block.attend(z, model.queries(layer))
            h = block.hidden(a)
        if edit is not None:
            if all_tokens or model.queries(layer) is not None:  # of the last block there are neuron tokens only
                h = _changed(h, edit, layer)
            else:
                h = model.join(_changed(h[:, model.neuron_tokens], edit, layer), h[:, model.other_tokens])
        z = a + block.project(h)
    return model.read(z)


def _changed(h: Tensor, edit: Tensor | Setting, layer: int) -> Tensor:
    return edit.of(h, layer) if isinstance(edit, Setting) else h * edit[:, layer, None]  # (B or 1, 1, H)
