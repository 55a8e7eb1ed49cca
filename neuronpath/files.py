"""Where files are and how they are written whole; what data sets are called, and an image's identity."""

import hashlib
import json
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, disk_full, one_line

_ABOVE = Path(__file__).resolve().parents[1]

#: The checkout that this code is of; None where the package is installed without one.
CHECKOUT = _ABOVE if (_ABOVE / "pyproject.toml").is_file() else None

#: Default paths are relative to it, typed ones to the working folder; without a checkout both are.
ROOT = CHECKOUT or Path.cwd()

FOLDERS = ("imagenet1k", "imagefolder", "digits")  # data sets that are folders of class folders
DATASETS = (*FOLDERS, "cifar10", "cifar100", "images")
DIGITS = "dataset/digits"  # the embedded default, its parts train/ and val/
DEFAULT_PATHS = {"digits": f"{DIGITS}/val", "cifar10": "dataset/cifar", "cifar100": "dataset/cifar"}
DEFAULT_PATH = "dataset/imagenet2012/val"

#: Says in the folder of the digits, and after the stem of a checkpoint's name beside it, with what it was made.
MADE = "made.json"
TRAIN = "python scripts/train_digits.py"  # makes them


@dataclass(frozen=True)
class Item:
    """One image: `image` its identity, `label` its class index."""

    image: str
    label: int


def default_dataset_path(name: str) -> Path:
    """Where the data set `name` is looked for unless the user says otherwise; images are named below it."""
    return Path.cwd() if name == "images" else ROOT / DEFAULT_PATHS.get(name, DEFAULT_PATH)


def model_name(options: Namespace) -> str:
    """What folders of results are called: the model type, or where that is auto the checkpoint's stem.

    Of a folder its whole name, since a dot in it begins no ending.
    """
    if options.model_type != "auto":
        return options.model_type.replace(":", "-")
    weights = options.pretrain_weight
    return weights.resolve().name if weights.is_dir() else weights.stem


def results_folder(job: str, options: Namespace) -> Path:
    """Where records of a job go, and are looked for, by default."""
    return ROOT / "results" / job / model_name(options)


@contextmanager
def writing(place: Path, advice: str = "; choose another --output_dir") -> Iterator[None]:
    """What fails inside, in writing to `place`, is a UserError; a full disk stays what it is."""
    try:
        yield
    except OSError as e:
        if disk_full(e):
            raise
        raise UserError(f"{place}: cannot be written ({one_line(e)}){advice}") from e


def replace_file(file: Path, content: str | bytes) -> None:
    """Write a file as a whole or not at all, whatever happens to the machine."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            out.write(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(file: Path, content: Any) -> Path:
    """Write `content` and the folders above it; the resolved path. ValueError for numbers that are not finite."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    return file.resolve()


def sha256(file: Path) -> str:
    """Of the file's content, hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def noted(file: Path) -> dict[str, Any]:
    """What a note (MADE) says; {} where there is none that can be read."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
