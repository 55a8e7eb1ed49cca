"""What removal may set a path's neurons to, beside 0: means, and activations of other images (docs/method.md §5)."""

import os
import random
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .edits import Setting, SiteEdit, by_kind
from .forward import gather_neurons, neuron_rows
from .rows import default_rows
from .score import check_path
from .sites import NEURONS, Site, Units, sublayers, units_of

DRAWS = 5  # other images per image


@torch.no_grad()
def activations(model: StagedModel, images: Tensor, units: Units | str = NEURONS) -> Generator[Tensor, None, Tensor]:
    """Site by site the values at the neuron tokens, (B, N, C), of `images` (B, 3, height, width): of neurons h̄.

    One forward. At its end it returns the logits (B, C of classes).
    """
    z, sites = model.embed(images), units_of(units).sites(model)
    for site in sublayers(model):
        if site not in sites:
            z = site.step(z, model.queries(site.layer))
            continue
        values, z = site.enter(z)
        yield neuron_rows(model, values, site.layer)
        z = z + site.last(values)
    return model.read(z)


@dataclass(frozen=True)
class UnitActivations:
    """How active each unit is in B images (docs/method.md §6)."""

    highest: Tensor  # (B, L, H) h̄ at the neuron token where it is highest
    token: Tensor  # (B, L, H) int64, which of the N neuron tokens that is, the first of equals
    mean: Tensor  # (B, L, H) of h̄ over the neuron tokens
    logits: Tensor  # (B, C)


@torch.no_grad()
def unit_activations(model: StagedModel, images: Tensor, *, internal_batch_size: int | None = None) -> UnitActivations:
    """Of every unit and each of `images` (B, 3, height, width). One forward per image.

    The h̄ of one layer are kept at a time, of at most `internal_batch_size` images.
    """
    found: list[tuple[Tensor, ...]] = []
    for part in images.split(internal_batch_size or default_rows(model, images.device)):
        layers, kept = activations(model, part), list[tuple[Tensor, ...]]()
        while True:
            try:
                h = next(layers).to(model.dtype)
            except StopIteration as end:
                logits = end.value
                break
            kept.append((*h.max(1), h.mean(1)))
        found.append((*(torch.stack(of_layers, 1) for of_layers in zip(*kept, strict=True)), logits))
    return UnitActivations(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def mean_activations(
    model: StagedModel,
    images: Tensor,
    *,
    units: Units | str = NEURONS,
    internal_batch_size: int | None = None,
) -> Tensor:
    """Each unit's mean h̄ over images and neuron tokens, (L, H) in float64. One forward per image.

    Of heads the means of their values, (L, C); of both kinds those of heads, then of neurons, side by side.
    """
    rows = internal_batch_size or default_rows(model, images.device)
    return summed_activations(model, images, rows, units) / len(images)


@torch.no_grad()
def summed_activations(model: StagedModel, images: Tensor, rows: int, units: Units | str = NEURONS) -> Tensor:
    """Each unit's sum over images of its mean h̄ over neuron tokens, (L, H) in float64, on the CPU."""
    widths = units_of(units).widths(model)
    parts = [torch.zeros(model.config.depth, width, dtype=torch.float64) for width in widths]
    for part in images.split(rows):
        for i, values in enumerate(activations(model, part, units)):
            layer, kind = divmod(i, len(widths))
            parts[kind][layer] += values.to(model.dtype).mean(1).cpu().double().sum(0)
    return torch.cat(parts, 1)


@torch.no_grad()
def resample(
    model: StagedModel,
    path: Tensor,
    others: Tensor,
    *,
    units: Units | str = NEURONS,
    internal_batch_size: int | None = None,
) -> Setting | SiteEdit:
    """The edit that sets the units of `path` (B, l, K) to what they are in `others` (B, 3, height, width), by token.

    ValueError for a path of another shape, or not as many other images. Cost: one forward of each other image.
    """
    check_path(model, len(others), path, units_of(units))
    rows = internal_batch_size or default_rows(model, others.device)
    found = [
        list(zip(activations(model, images, units), p.unbind(1), strict=False))
        for p, images in zip(path.to(others.device).split(rows), others.split(rows), strict=True)
    ]

    def setting(site: Site, channels: Tensor) -> Setting:
        first, count = units_of(units).kinds.index(type(site)), len(units_of(units).kinds)
        parts = [
            torch.stack([gather_neurons(values, site.channels(p)) for values, p in layers[first::count]], 1)
            for layers in found
        ]
        return Setting(channels, torch.cat(parts))

    return by_kind(model, path, units, setting)


class Others:
    """Images of other classes, to be drawn from uniformly. `images`: (label, name) of all, in any order."""

    def __init__(self, images: Iterable[tuple[int, str]]):
        self._images = sorted(set(images), key=lambda image: (image[0], os.fsencode(image[1])))
        self._labels = [label for label, _ in self._images]

    def count(self, label: int) -> int:
        """Images of classes other than `label`."""
        return len(self._images) - (bisect_left(self._labels, label + 1) - bisect_left(self._labels, label))

    def draw(self, image: str, label: int, draw: int, seed: int) -> Iterator[tuple[int, str]]:
        """(label, name) of images of classes other than `label`, without end: the first is what `draw` draws.

        The next ones are for images that cannot be read. The generator is of (`seed`, `image`, `draw`), so that nothing
        depends on batches or on the order of images. ValueError where there are no such images.
        """
        if not self.count(label):
            raise ValueError(f"no image of a class other than {label}")
        generator = random.Random(f"{seed}/other {draw}/".encode() + os.fsencode(image))
        first, end = bisect_left(self._labels, label), bisect_left(self._labels, label + 1)
        while True:
            place = generator.randrange(self.count(label))
            yield self._images[place if place < first else place + end - first]
