"""What removal may set a path's neurons to, beside 0: means, and activations of other images (docs/method.md §5)."""

import os
import random
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .edits import Setting
from .forward import gather_neurons
from .rows import default_rows
from .score import check_path

DRAWS = 5  # other images per image


@torch.no_grad()
def activations(model: StagedModel, images: Tensor) -> Iterator[Tensor]:
    """Layer by layer h̄ at the neuron tokens, (B, N, H), of `images` (B, 3, height, width). One forward."""
    z = model.embed(images)
    for layer, block in enumerate(model.blocks):
        a = block.attend(z, model.queries(layer))
        h = block.hidden(a)
        yield h if model.queries(layer) is not None else h[:, model.neuron_tokens]
        z = a + block.project(h)


def mean_activations(model: StagedModel, images: Tensor, *, internal_batch_size: int | None = None) -> Tensor:
    """Each unit's mean h̄ over images and neuron tokens, (L, H) in float64. One forward per image."""
    return summed_activations(model, images, internal_batch_size or default_rows(model, images.device)) / len(images)


@torch.no_grad()
def summed_activations(model: StagedModel, images: Tensor, rows: int) -> Tensor:
    """Each unit's sum over images of its mean h̄ over neuron tokens, (L, H) in float64, on the CPU."""
    L, H = model.config.depth, model.config.mlp_dim
    sums = torch.zeros(L, H, dtype=torch.float64)
    for part in images.split(rows):
        for layer, h in enumerate(activations(model, part)):
            sums[layer] += h.to(model.dtype).mean(1).cpu().double().sum(0)
    return sums


@torch.no_grad()
def resample(model: StagedModel, path: Tensor, others: Tensor, *, internal_batch_size: int | None = None) -> Setting:
    """The edit that sets the neurons of `path` (B, l, K) to their h̄ in `others` (B, 3, height, width), token by token.

    ValueError for a path of another shape, or not as many other images. Cost: one forward of each other image.
    """
    check_path(model, len(others), path)
    path, parts = path.to(others.device), []
    rows = internal_batch_size or default_rows(model, others.device)
    for units, images in zip(path.split(rows), others.split(rows), strict=True):
        layers = zip(activations(model, images), units.unbind(1), strict=False)
        parts.append(torch.stack([gather_neurons(h, neurons) for h, neurons in layers], 1))
    return Setting(path, torch.cat(parts))


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
