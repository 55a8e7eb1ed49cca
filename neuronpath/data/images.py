"""Images with an identity: folders of class folders, and CIFAR.

Every image is an `Item` known by its path relative to the data set's root (CIFAR: its index as text) from here to
the record. Image files are untrusted: one that cannot be read is one of DECODING_ERRORS, never a blank image.
"""

import hashlib
import re
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision import datasets

from ..errors import UserError, one_line
from ..files import Item

CIFAR = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
SYNSETS_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"  # ImageNet-1k's, joined by newlines

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
        wanted, taken = set(labels if labels is not None else range(len(self.classes))), Counter[int]()
        chosen = []
        for item in self.items:
            taken[item.label] += 1
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
    found = _cifar(name, root) if name in CIFAR else open_folder(root)
    if len(found.classes) != num_classes:
        raise UserError(
            f"{root}: {len(found.classes)} classes, but the model's head has {num_classes}; give the whole data set "
            f"that the head was trained for, and take a part of it with --labels"
        )
    return found


def open_folder(root: Path) -> ImageSet:
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


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; 16-bit greyscale is scaled, where Pillow alone would clip it to white.

    ValueError for floating-point pixels, whose range nothing tells.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")
