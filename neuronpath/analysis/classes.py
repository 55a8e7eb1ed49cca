"""Classes of a folder of records: the paths of their images, and the classes that a command names.

Records say which data set they are of, but are untrusted: a path that they name is followed below the root of the
project only.
"""

import warnings
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..cli.options import check_dataset
from ..data.images import ImageSet, open_chosen
from ..data.names import class_names, find_label, listing
from ..errors import UserError, printable
from ..files import DATASETS, ROOT, default_dataset_path
from ..records.args import Args, args_file
from ..records.reading import label_files, read_label
from ..records.schema import METHODS, MOST_UNITS


@dataclass(frozen=True)
class Classes:
    """The paths that one method found for the images of each class with records, by ascending label."""

    paths: dict[int, np.ndarray]  # (n, L, K) unit indices
    images: dict[int, list[str | None]]  # n identities; None where the record names none
    num_neurons: int  # H
    method: str  # a key of METHODS
    names: dict[int, str] = field(default_factory=dict)

    @property
    def labels(self) -> list[int]:
        return list(self.paths)

    def title(self, label: int) -> str:
        name = self.names.get(label, str(label))
        return f"class {label}" if name == str(label) else f"{label} {printable(name)}"


def read_classes(
    directory: Path,
    prefix: str,
    method: str,
    num_neurons: int | None = None,
    labels: Collection[int] | None = None,
) -> Classes:
    """The records of `labels`, all where None; classes without any are left out, and may be all.

    `num_neurons` H: where None, 1 + the largest index read. UserError where the folder has no records at all, or one
    is broken, doubled, of another depth or K than the rest, or beyond H.
    """
    files = label_files(directory, prefix)
    if not files:
        raise UserError(f"{directory}: no records named {prefix}-<label>.rlt.jsonl there; check --results and prefix")
    paths: dict[int, np.ndarray] = {}
    images: dict[int, list[str | None]] = {}
    shapes: set[tuple[int, int]] = set()
    wanted = {label: file for label, file in files.items() if labels is None or label in labels}
    for label, file in tqdm(wanted.items(), desc="records", unit="class", disable=None, leave=False):
        records = read_label(file)
        found = [_checked_path(record, method, file) for record in records]
        named = [record.get("image") for record in records]
        shapes |= {(len(path), len(path[0])) for path in found}
        if len(shapes) > 1:
            raise UserError(f"{file}: paths of {len(shapes)} shapes (layers, neurons per layer): {sorted(shapes)}")
        if found:
            paths[label], images[label] = np.array(found), named
    largest = max((int(p.max()) for p in paths.values()), default=0)
    if num_neurons is not None and largest >= num_neurons:
        raise UserError(f"{directory}: unit {largest} in its paths, but a layer has {num_neurons}; check --mlp_dim")
    return Classes(paths, images, num_neurons or largest + 1, method)


def _checked_path(record: dict, method: str, file: Path) -> list[list[int]]:
    """L lists of K unit indices."""
    key = METHODS[method].path
    path = record.get(key)
    layers: list[Any] = path if isinstance(path, list) and path else [None]
    if not all(isinstance(layer, list) and layer and len(layer) == len(layers[0]) for layer in layers) or any(
        type(unit) is not int or not 0 <= unit < MOST_UNITS for layer in layers for unit in layer
    ):
        raise UserError(
            f"{file}: a record without {key}, lists of as many unit indices for every layer; "
            f"--method {method} takes the records of {METHODS[method].job}"
        )
    return layers


def resolve(options: Namespace) -> dict:
    """Fill in data set and path where they were not typed; what args.json says, checked, or {} without one.

    `options.path_typed` tells which it was; `options.class_names` are those that came with the weights, or none.
    """
    options.class_names = []
    file, settings, recorded = args_file(options.results, options.input_prefix), {}, {}
    if not options.results.is_dir():
        raise UserError(f"{options.results}: no such folder; give the folder of the records with --results")
    if file.exists():
        args = Args.read(file)
        settings, recorded, options.class_names = args.settings, args.options, args.class_names
        size = settings.get("units_per_layer", settings.get("model_mlp_dim"))
        if type(size) is not int or not 0 < size <= MOST_UNITS:
            raise UserError(f"{file}: model_mlp_dim is not the number of units of a layer; were these made by path/*?")
    if settings.get("dataset", "imagenet1k") not in DATASETS:
        raise UserError(f"{file}: its dataset is none of {', '.join(DATASETS)}; mend it")
    settle_dataset(options, settings, recorded)
    return settings


def settle_dataset(options: Namespace, settings: dict, recorded: dict) -> None:
    """Fill in data set and path where they were not typed, by the `settings` and options `recorded` of the records.

    `options.path_typed` tells which it was. UserError where options of the data set contradict each other.
    """
    same = options.dataset in (None, settings.get("dataset"))
    options.dataset = options.dataset or settings.get("dataset", "imagenet1k")
    options.path_typed = options.dataset_path is not None
    if not options.path_typed:
        inside = _below_root(recorded.get("dataset_path")) if same else None
        options.dataset_path = inside or default_dataset_path(options.dataset)
    check_dataset(options, opened=False)


def _below_root(path: object) -> Path | None:
    """`path` where it is a folder below the project's root."""
    try:
        found = (ROOT / path).resolve() if isinstance(path, str) else None
        return found if found and found != ROOT and found.is_relative_to(ROOT) and found.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        return None


def open_classes(
    options: Namespace, settings: dict, wanted: Sequence[int | str] | None = None, least: int = 1
) -> Classes:
    """The records of the classes `wanted`, labels or names, or of all, with their names. A warning names those without.

    UserError where fewer than `least` have records. Where the data set is at no default path, labels are the names.
    """
    names = _names(options, any(isinstance(x, str) for x in wanted or ()))
    labels = None if wanted is None else [x if isinstance(x, int) else find_label(x, names) for x in wanted]
    size = options.mlp_dim or settings.get("units_per_layer") or settings.get("model_mlp_dim")
    classes = read_classes(options.results, options.input_prefix, options.method, size, labels)
    by_label = dict(enumerate(names))
    strange = max(classes.labels, default=0)
    if names and strange >= len(names):
        raise UserError(
            f"{options.results}: label {strange}, but {options.dataset} at {options.dataset_path} has {len(names)} "
            "classes; check --dataset and --dataset_path"
        )
    lacking = sorted(set(by_label if labels is None else labels) - set(classes.labels))
    if not classes.labels:
        there = listing(label_files(options.results, options.input_prefix), by_label)
        raise UserError(f"{options.results}: no records of classes {listing(lacking, by_label)}; choose among {there}")
    if len(classes.labels) < least:
        raise UserError(f"{options.results}: records of {len(classes.labels)} class only; this takes {least} or more")
    if lacking:
        warnings.warn(f"{options.results}: left out, without records: {listing(lacking, by_label)}", stacklevel=2)
    return replace(classes, names=by_label)


def open_recorded(options: Namespace, classes: Classes, num_classes: int) -> ImageSet:
    """The data set of the records. Images alone have the labels of their records; others are left out."""
    source = open_chosen(options, num_classes)
    if options.dataset != "images":
        return source
    return source.labelled({image: label for label, images in classes.images.items() for image in images if image})


def _names(options: Namespace, needed: bool) -> list[str]:
    """The names by label: those that came with the weights, else the data set's.

    None where the data set's files, needed for them, are not at the default path.
    """
    if options.class_names:
        return options.class_names
    try:
        return class_names(options.dataset, options.dataset_path, options.class_map)
    except UserError as e:
        if needed or options.path_typed:
            raise
        warnings.warn(f"{e}; labels stand for the names", stacklevel=3)
        return []
