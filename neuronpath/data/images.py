"""Images with an identity: folders, single files, and CIFAR.

Every image is an `Item` known by its path relative to the data set's root (CIFAR: its index as text) from here to
the record. Image files are untrusted: one that cannot be read is one of DECODING_ERRORS, never a blank image.
"""

import hashlib
import os
import re
import struct
import warnings
import zlib
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision import datasets

from ..errors import UserError, one_line
from ..files import DIGITS, MADE, ROOT, TRAIN, Item, noted, sha256
from .folders import Found, by_map, by_synset, class_folders, flat, is_flat
from .labels import synsets

CIFAR = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}

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
    table: str = ""  # digest of the table that told the labels, where there is one

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

    def sha256(self, item: Item) -> str:
        """Of the file's content, or of CIFAR's array, hexadecimal."""
        if self.arrays is not None:
            return hashlib.sha256(self.arrays[int(item.image)].tobytes()).hexdigest()
        return sha256(self.root / item.image)

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

    def labelled(self, labels: Mapping[str, int]) -> "ImageSet":
        """The images that `labels` names, with these labels."""
        items = [Item(item.image, labels[item.image]) for item in self.items if item.image in labels]
        return replace(self, items=sorted(items, key=lambda item: item.label))


def open_dataset(
    name: str,
    path: str | Path,
    num_classes: int,
    *,
    truth: Path | None = None,
    class_map: Path | None = None,
    images: Sequence[str | Path] = (),
) -> ImageSet:
    """The data set `name` (one of DATASETS) at `path`, whose classes must be as many as the head's.

    `truth`: file of labels for imagenet1k without class folders; `class_map`: of labels of class folders; `images`: the
    files of the data set "images", whose labels are -1: unknown.
    """
    root = Path(path)
    if not root.is_dir():
        hint = f"; make it with: {TRAIN}" if name == "digits" else "; give --dataset_path"
        raise UserError(f"{root}: no such folder{hint}")
    if name == "images":
        return _open_images(root, images, num_classes)
    if name in CIFAR:
        found = _cifar(name, root)
    elif name == "imagenet1k":
        found = _imagenet(root, truth, class_map)
        if num_classes != len(found.classes):
            raise UserError(
                f"{root}: the labels of --dataset imagenet1k are 0 to 999, but the model's head has {num_classes} "
                "classes; use --dataset imagefolder for other heads"
            )
    elif class_map:
        found = _image_set(root, by_map(root, class_map, num_classes))
    else:
        found = open_folder(root)
    if len(found.classes) != num_classes:
        raise UserError(
            f"{root}: {len(found.classes)} classes, but the model's head has {num_classes}; give the whole data set "
            f"that the head was trained for, and take a part of it with --labels"
        )
    return found


def open_chosen(options: Namespace, num_classes: int) -> ImageSet:
    """The data set that the options of `cli.options.add_dataset` name."""
    o = options
    more = {"truth": o.truth, "class_map": o.class_map, "images": o.images or ()}
    return open_dataset(o.dataset, o.dataset_path, num_classes, **more)


def open_folder(root: Path) -> ImageSet:
    """Labels are the places of the class folders' names in alphabetical order.

    UserError for the embedded default where it was made by an earlier version.
    """
    parent = root.resolve().parent
    if parent == (ROOT / DIGITS).resolve() and not noted(parent / MADE):
        raise UserError(f"{root}: the plain digits of an earlier version; make them anew with: {TRAIN}")
    found = class_folders(root)
    _warn_of_numbers(root, found.classes)
    return _image_set(root, found)


def _image_set(root: Path, found: Found) -> ImageSet:
    return ImageSet(root, found.classes, found.items, table=found.table)


def _imagenet(root: Path, truth: Path | None, class_map: Path | None) -> ImageSet:
    if class_map:
        return _image_set(root, by_map(root, class_map, len(synsets()), [*synsets()]))
    return _image_set(root, flat(root, truth) if truth or is_flat(root) else by_synset(root))


def _open_images(root: Path, files: Sequence[str | Path], num_classes: int) -> ImageSet:
    """Known by their paths below `root`; those elsewhere by their whole paths."""
    if not files:
        raise UserError("--dataset images: name the files, as in --images a.jpg b.jpg")
    here, names = Path(os.path.normpath(root.absolute())), []
    for file in files:
        path = Path(os.path.normpath(Path(file).absolute()))
        if not path.is_file():
            fault = "a folder; name the images in it" if path.is_dir() else "no such image"
            raise UserError(f"--images: {file}: {fault}")
        names.append((path.relative_to(here) if path.is_relative_to(here) else path).as_posix())
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"--images: {twice[0]} is named twice; name it once")
    return ImageSet(root, [str(label) for label in range(num_classes)], [Item(name, -1) for name in names])


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; 16-bit greyscale is scaled, where Pillow alone would clip it to white.

    ValueError for floating-point pixels, whose range nothing tells.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")
