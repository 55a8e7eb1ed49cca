"""Images with an identity: folders of class folders and CIFAR, selected, preprocessed and batched.

Every image is an `Item` known by its path relative to the data set's root (CIFAR: its index as text) from here to
the record. Image files are untrusted: one that cannot be read becomes a message, never a blank image.
"""

import hashlib
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ml_collections import ConfigDict
from PIL import Image
from torch import Tensor
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

from ..errors import UserError, one_line
from ..interrupts import forget_in_worker

FOLDERS = ("imagenet1k", "imagefolder", "digits")
CIFAR = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
DATASETS = (*FOLDERS, *CIFAR)
DEFAULT_PATHS = {"digits": "dataset/digits/val", "cifar10": "dataset/cifar", "cifar100": "dataset/cifar"}
DEFAULT_PATH = "dataset/imagenet2012/val"
SYNSETS_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"  # ImageNet-1k's, joined by newlines

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation
HALF = ((0.5,) * 3, (0.5,) * 3)

DECODING_ERRORS = (
    OSError,
    SyntaxError,  # Pillow's answer to a broken PNG
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Item:
    """One image: `image` its identity, `label` its class index."""

    image: str
    label: int


@dataclass(frozen=True)
class ImageSet:
    """All images of a data set, class by class and in the source's order within a class."""

    root: Path
    classes: list[str]  # folder names, or CIFAR's class names
    items: list[Item]
    arrays: np.ndarray | None = None  # CIFAR's images, (n, 32, 32, 3) uint8; None where images are files

    def rgb(self, item: Item) -> Image.Image:
        """The image as 8-bit RGB: what models and people see. One of DECODING_ERRORS where it cannot be read."""
        with self.open(item) as image:
            return to_rgb(image)

    def open(self, item: Item) -> Image.Image:
        """The image as it is stored, not yet decoded."""
        if self.arrays is not None:
            return Image.fromarray(self.arrays[int(item.image)])
        image = Image.open(self.root / item.image)
        if image.format == "PNG":
            with image:
                image.verify()  # its checksums, which decoding does not compare; it must be opened anew then
            image = Image.open(self.root / item.image)
        return image

    def select(self, labels: Sequence[int] | None = None, images_per_class: int | None = None) -> list[Item]:
        """The first `images_per_class` items of each of `labels`; all where None. UserError if none is left."""
        if labels is not None and (unknown := sorted(set(labels) - set(range(len(self.classes))))):
            raise UserError(
                f"--labels: {self.root} has no class {unknown[0]}; its labels are 0 to {len(self.classes) - 1}"
            )
        wanted, taken, chosen = set(labels if labels is not None else range(len(self.classes))), {}, []
        for item in self.items:
            taken[item.label] = taken.get(item.label, 0) + 1
            if item.label in wanted and taken[item.label] <= (images_per_class or len(self.items)):
                chosen.append(item)
        if not chosen:
            raise UserError(f"{self.root}: no images in the chosen classes; check the folders and --labels")
        return chosen


def open_dataset(name: str, path: str | Path, num_classes: int) -> ImageSet:
    """The data set `name` (one of DATASETS) at `path`, whose classes must be as many as the head's."""
    root = Path(path)
    if not root.is_dir():
        hint = "; make it with: python scripts/train_digits.py" if name == "digits" else "; give --dataset_path"
        raise UserError(f"{root}: no such folder{hint}")
    found = _cifar(name, root) if name in CIFAR else _folder(root)
    if len(found.classes) != num_classes:
        raise UserError(
            f"{root}: {len(found.classes)} classes, but the model's head has {num_classes}; give the whole data set "
            f"that the head was trained for, and take a part of it with --labels"
        )
    return found


def _folder(root: Path) -> ImageSet:
    """Labels are the places of the class folders' names in alphabetical order."""
    try:
        folder = datasets.ImageFolder(str(root), allow_empty=True)
    except OSError as e:
        raise UserError(f"{root}: no class folders in it; images belong into one folder per class") from e
    items = [Item(Path(p).relative_to(root).as_posix(), label) for p, label in folder.samples]
    if not items:
        raise UserError(f"{root}: no images in its class folders ({', '.join(datasets.folder.IMG_EXTENSIONS)})")
    _warn_of_numbers(root, folder.classes)
    return ImageSet(root, folder.classes, items)


def _warn_of_numbers(root: Path, names: list[str]) -> None:
    """Names that are numbers invite to take them for the labels."""
    if not all(re.fullmatch(r"\d{1,18}", name) for name in names):
        return
    numbers = [int(name) for name in names]
    if numbers != sorted(numbers):
        place = next(i for i, (a, b) in enumerate(zip(numbers, sorted(numbers), strict=True)) if a != b)
        digits = len(str(max(numbers)))
        warnings.warn(
            f"{root}: its class folders are numbered, but labels follow the alphabet: {names[place]!r} is label "
            f"{place}; where a folder's number must be its label, name it with {digits} digits, as {'2'.zfill(digits)}",
            stacklevel=3,
        )


def _cifar(name: str, root: Path) -> ImageSet:
    try:
        source = CIFAR[name](str(root), train=False, download=False)
    except (RuntimeError, OSError) as e:
        raise UserError(f"{root}: no sound {name} there ({one_line(e)}); unpack its 'python version' there") from e
    order = sorted(range(len(source)), key=lambda i: source.targets[i])
    return ImageSet(root, source.classes, [Item(str(i), source.targets[i]) for i in order], source.data)


def synset_fault(source: ImageSet) -> str:
    """What is wrong where the class folders are not ImageNet-1k's 1000 synsets in label order, or ""."""
    names = "\n".join(source.classes).encode(errors="surrogateescape")
    if hashlib.sha256(names).hexdigest() == SYNSETS_SHA256:
        return ""
    strange = next((name for name in source.classes if not re.fullmatch(r"n\d{8}", name)), None)
    which = f"{strange!r} is no synset" if strange else f"all are synsets, {source.classes[0]} to {source.classes[-1]}"
    return (
        f"{source.root}: its {len(source.classes)} class folders ({which}) are not ImageNet's 1000, n01440764 to "
        "n15075141; mend their names, or use --dataset imagefolder for other data"
    )


def preprocessing(kind: str, config: ConfigDict, dataset: str = "imagenet1k") -> transforms.Compose:
    """Pillow image of `dataset` (one of DATASETS) to normalised (3, S, S), S = `config.img_size`.

    "paper": squashed to S×S, bilinear, ImageNet mean and standard deviation; for CIFAR 0.5, as the released scripts
    have it. "native": what the public weights were trained for; Google's ViTs the short side to ⌊S/0.9⌋ (to S from
    384 pixels on), bicubic, centre crop, mean and standard deviation 0.5; fine-tuned MAE the short side to
    256/224·S, centre crop, ImageNet's.
    """
    S = config.img_size
    if kind == "paper":
        steps = [transforms.Resize((S, S), InterpolationMode.BILINEAR)]
    elif config.pool == "cls":
        steps = [transforms.Resize(S if S >= 384 else S * 10 // 9, InterpolationMode.BICUBIC)]
    else:
        steps = [transforms.Resize(S * 256 // 224, InterpolationMode.BICUBIC)]
    half = paper_half(dataset) if kind == "paper" else config.pool == "cls"
    normalise = transforms.Normalize(*(HALF if half else IMAGENET))
    return transforms.Compose([*steps, transforms.CenterCrop(S), transforms.ToTensor(), normalise])


def paper_half(dataset: str) -> bool:
    """Whether "paper" preprocessing takes mean and standard deviation 0.5 instead of ImageNet's."""
    return dataset in CIFAR


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; 16-bit greyscale is scaled, where Pillow alone would clip it to white.

    ValueError for floating-point pixels, whose range nothing tells.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")


@dataclass(frozen=True)
class Batch:
    items: list[Item]
    images: Tensor  # (B, 3, S, S) float32, one per item
    bad: list[tuple[Item, str]]  # images that could not be read, and why

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU copies by itself; PyTorch's loader calls it."""
        return replace(self, images=self.images.pin_memory())


class _Loaded(torch.utils.data.Dataset):
    def __init__(self, source: ImageSet, items: list[Item], transform: Callable):
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


def batches(
    source: ImageSet,
    items: list[Item],
    transform: Callable,
    batch_size: int = 10,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """`items` in order, in batches; the last may be short, and classes mix. `pin_memory`: for copies to a GPU."""
    return iter(
        torch.utils.data.DataLoader(
            _Loaded(source, items, transform),
            batch_size=batch_size,
            num_workers=min(num_workers, -(-len(items) // batch_size)),
            collate_fn=_collate,
            pin_memory=pin_memory,
            worker_init_fn=lambda _: forget_in_worker(),
        )
    )
