"""Class names by label."""

import difflib
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

from torchvision import datasets
from torchvision.models import ViT_B_16_Weights

from ..errors import UserError, printable
from .folders import by_map
from .images import CIFAR, open_dataset

NAMED = 12  # classes that a message names at most


def class_names(dataset: str, root: Path, class_map: Path | None = None) -> list[str]:
    """By label; none for images alone. UserError where the data set's files are needed and not there.

    Needed they are for all but imagenet1k. `class_map`: file of the labels of its class folders.
    """
    if dataset == "imagenet1k":
        return list(ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"])
    if dataset in CIFAR:
        return open_dataset(dataset, root, int(dataset.removeprefix("cifar"))).classes
    if dataset == "images":
        return []
    if class_map:
        return by_map(root, class_map).classes
    try:
        return datasets.folder.find_classes(str(root))[0]
    except OSError as e:
        raise UserError(f"{root}: no folder of class folders; give --dataset_path") from e


def find_label(name: str, names: list[str]) -> int:
    """The label of a class name. UserError naming the closest where there is none such."""
    if name in names:
        return names.index(name)
    if not names:
        raise UserError(f"{name!r}: the classes of this data set have no names; give labels")
    folded = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0)
    raise UserError(f"no class is called {name!r}; the closest are {', '.join(repr(folded[c]) for c in close)}")


def listing(labels: Collection[int], names: dict[int, str]) -> str:
    """Labels with their names, so many that a line can hold."""
    shown = [f"{x} ({printable(names[x])})" if names.get(x, str(x)) != str(x) else str(x) for x in sorted(labels)]
    rest = len(shown) - NAMED
    return ", ".join(shown[:NAMED]) + (f" and {rest} more" if rest > 0 else "") or "none"


def safe_name(name: str) -> str:
    """`name` as part of a file name: letters, digits, '-', '.', '_' only, no leading dot, at most 80 bytes."""
    plain = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name)).lstrip("._")
    return plain.encode()[:80].decode(errors="ignore") or "_"
