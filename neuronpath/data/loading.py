"""Images as batches of tensors."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..errors import UserError, one_line
from ..files import Item
from ..interrupts import forget_in_worker
from ..pixels import Preprocessing
from .images import DECODING_ERRORS, ImageSet, open_folder
from .preprocessing import Shape, preprocessing

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Batch:
    items: list[Item]
    images: Tensor  # (B, 3, S, S) float32, one per item
    bad: list[tuple[Item, str]]  # images that could not be read, and why

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU copies by itself; PyTorch's loader calls it."""
        return replace(self, images=self.images.pin_memory())


class _Loaded(torch.utils.data.Dataset[tuple[Item, Tensor | str]]):
    def __init__(self, source: ImageSet, items: list[Item], transform: Transform):
        self.source, self.items, self.transform = source, items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Item, Tensor | str]:
        try:
            return self.items[i], self.transform(self.source.rgb(self.items[i]))
        except DECODING_ERRORS as e:
            return self.items[i], one_line(e)


def _collate(samples: list[tuple[Item, Tensor | str]]) -> Batch:
    good = [(item, x) for item, x in samples if isinstance(x, Tensor)]
    bad = [(item, x) for item, x in samples if isinstance(x, str)]
    images = torch.stack([x for _, x in good]) if good else torch.empty(0)
    return Batch([item for item, _ in good], images, bad)


def _start_worker(_: int) -> None:
    """By name, as processes that are spawned and not forked need it."""
    forget_in_worker()


def batches(
    source: ImageSet,
    items: list[Item],
    transform: Transform,
    batch_size: int = 10,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """`items` in order, in batches; the last may be short, and classes mix. `pin_memory`: for copies to a GPU."""
    return grouped(source, cut(items, batch_size), transform, num_workers=num_workers, pin_memory=pin_memory)


def cut(items: Sequence[Item], size: int) -> list[list[Item]]:
    """`items` in order, in groups of `size`; the last may be short."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def grouped(
    source: ImageSet,
    groups: Sequence[list[Item]],
    transform: Transform,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """A batch for each of `groups`, in order."""
    ends = list(accumulate(len(group) for group in groups))
    return iter(
        torch.utils.data.DataLoader(
            _Loaded(source, [item for group in groups for item in group], transform),
            batch_sampler=[list(range(end - len(group), end)) for group, end in zip(groups, ends, strict=True)],
            num_workers=min(num_workers, len(groups)),
            collate_fn=_collate,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker,
        )
    )


def load_each(source: ImageSet, items: list[Item], transform: Transform, threads: int) -> list[Tensor | str]:
    """Each of `items` as (3, S, S) float32, or why it could not be read; several threads decode."""
    loaded = _Loaded(source, items, transform)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        return [x for _, x in pool.map(loaded.__getitem__, range(len(items)))]


class Receiver(Protocol):
    """What loading asks of a model."""

    @property
    def config(self) -> Shape: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def native(self) -> Preprocessing | None: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


def load_images(
    images: str | Path | Sequence[str | Path], model: Receiver, preprocess: str = "paper"
) -> tuple[Tensor, Tensor]:
    """Your own images, ready for `find_path`: (n, 3, S, S) on the model's device and in its dtype, and targets (n,).

    `images`: a folder of class folders, whose places in alphabetical order are the targets; or a folder of images, one
    file, or several, whose targets are -1, the predicted class. `preprocess` as `--preprocess`: "paper", or "native",
    which is `model.native`. All are read at once. UserError for what is not there, cannot be read or is not known.
    """
    source = _image_set(images)
    transform = preprocessing(preprocess, model.config, native=model.native)
    (batch,) = batches(source, source.items, transform, len(source.items))
    for item, reason in batch.bad:
        raise UserError(f"{source.root / item.image}: cannot be read ({reason}); replace it or leave it out")
    device = next(model.parameters()).device
    labels = torch.tensor([item.label for item in batch.items], device=device)
    return batch.images.to(device, model.dtype), labels


def _image_set(images: str | Path | Sequence[str | Path]) -> ImageSet:
    if not isinstance(images, str | Path):
        files = [Path(file) for file in images]
    elif not Path(images).is_dir():
        files = [Path(images)]
    else:
        root = Path(images)
        files = sorted(file for file in root.iterdir() if file.suffix.lower() in IMG_EXTENSIONS)
        if not files:
            return open_folder(root)
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"{missing[0]}: no such image; give image files, or a folder of them")
    if not files:
        raise UserError("no images were given; give image files, or a folder of them")
    return ImageSet(Path(), [], [Item(str(file), -1) for file in files])
