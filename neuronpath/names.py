"""Class names by label, the images of a class, and the options that the similarity scripts share.

Records say which data set they are of, but are untrusted: a path that they name is followed below the root of the
project only, and names become file names only after `safe_name`.
"""

import difflib
import json
import re
import shutil
import unicodedata
import warnings
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from torchvision import datasets
from torchvision.models import ViT_B_16_Weights
from tqdm import tqdm

from . import options as opt
from .configs import CONFIGS
from .data import CIFAR, DATASETS, DECODING_ERRORS, DEFAULT_PATH, DEFAULT_PATHS, ImageSet, Item, open_dataset
from .errors import UserError, disk_full, one_line, printable
from .methods import METHODS
from .records import label_files
from .similarity import MOST_UNITS, Classes, read_classes
from .store import read_args

NAMED = 12  # classes that a message names at most


def add_records(parser: opt.Parser) -> None:
    group = parser.add_argument_group("records")
    group.add_argument(
        "--results",
        type=Path,
        default=opt.ROOT / "results/demo/ja/ViT-digits",
        metavar="DIR",
        help="folder of records, of joint_attr or influence_pattern (default: %(default)s)",
    )
    group.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="ja",
        help="whose paths. ja: the neuron path; base: the most active neurons; influence_pattern, from a folder of its "
        "own records (default: %(default)s)",
    )
    group.add_argument(
        "--input_prefix",
        type=opt.file_name,
        default="imgnet_all",
        metavar="NAME",
        help="file names of the records begin with it (default: %(default)s)",
    )
    group.add_argument(
        "--mlp_dim",
        type=opt.whole(1, MOST_UNITS),
        metavar="H",
        help="FFN units per layer, such as 3072 for ViT-B (default: the records' args.json; without one 1 + the "
        "largest index in the records that are read)",
    )
    group.add_argument(
        "--dataset",
        choices=DATASETS,
        help="kind of data set, for names and images (default: the records' args.json; without one imagenet1k)",
    )
    group.add_argument(
        "--dataset_path",
        type=Path,
        metavar="DIR",
        help="its root (default: the records' args.json, where it is below the project's root; else "
        f"{DEFAULT_PATH}, or {', '.join(f'{path} for {name}' for name, path in DEFAULT_PATHS.items())})",
    )
    group.add_argument(
        "--output_dir",
        type=Path,
        default=opt.ROOT / "results/demo/similarity",
        metavar="DIR",
        help="folder for what is written (default: %(default)s)",
    )


def add_weights(parser: opt.Parser) -> None:
    group = parser.add_argument_group("correlation with the confusion of a model, where its weights are given")
    group.add_argument("--pretrain_weight", type=Path, metavar="FILE", help="checkpoint: .npz, .pth or .safetensors")
    group.add_argument(
        "--model_type",
        choices=("auto", *CONFIGS),
        default="auto",
        metavar="NAME",
        help=f"auto reads every dimension from the checkpoint; or {', '.join(CONFIGS)} (default: %(default)s)",
    )
    group.add_argument(
        "--num_heads", type=opt.whole(1), metavar="N", help="attention heads, where a file does not tell"
    )
    group.add_argument(
        "--img_size", type=opt.whole(1, 4096), metavar="PIXELS", help="side of the square input (default: the records')"
    )
    group.add_argument(
        "--preprocess",
        choices=("paper", "native"),
        help="paper: squash to a square; native: as the weights were trained (default: the records', else paper)",
    )
    group.add_argument(
        "--batch_size", type=opt.whole(1), default=10, metavar="N", help="images per batch (default: %(default)s)"
    )
    group.add_argument(
        "--device", type=opt.device, default="auto", metavar="NAME", help="cpu, cuda, cuda:N (default: auto)"
    )


def settle(options: Namespace) -> dict:
    """Fill in data set and path where they were not typed; what args.json says, checked, or {} without one.

    `options.path_typed` tells which it was.
    """
    file, settings, recorded = options.results / f"{options.input_prefix}.args.json", {}, None
    if not options.results.is_dir():
        raise UserError(f"{options.results}: no such folder; give the folder of the records with --results")
    if file.exists():
        _, settings, _ = read_args(file)
        recorded = json.loads(file.read_bytes()).get("options")
        size = settings.get("model_mlp_dim")
        if type(size) is not int or not 0 < size <= MOST_UNITS:
            raise UserError(f"{file}: model_mlp_dim is not the number of units of a layer; were these made by path/*?")
    if settings.get("dataset", "imagenet1k") not in DATASETS:
        raise UserError(f"{file}: its dataset is none of {', '.join(DATASETS)}; mend it")
    same = options.dataset in (None, settings.get("dataset"))
    options.dataset = options.dataset or settings.get("dataset", "imagenet1k")
    options.path_typed = options.dataset_path is not None
    if not options.path_typed:
        inside = _below_root(recorded.get("dataset_path")) if same and isinstance(recorded, dict) else None
        options.dataset_path = inside or opt.ROOT / DEFAULT_PATHS.get(options.dataset, DEFAULT_PATH)
    return settings


def _below_root(path: object) -> Path | None:
    """`path` where it is a folder below the project's root."""
    try:
        found = (opt.ROOT / path).resolve() if isinstance(path, str) else None
        return found if found and found != opt.ROOT and found.is_relative_to(opt.ROOT) and found.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        return None


def class_names(dataset: str, root: Path) -> list[str]:
    """By label; UserError where the data set's files are needed, for all but imagenet1k, and not there."""
    if dataset == "imagenet1k":
        return list(ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"])
    if dataset in CIFAR:
        return open_dataset(dataset, root, int(dataset.removeprefix("cifar"))).classes
    try:
        return datasets.folder.find_classes(str(root))[0]
    except OSError as e:
        raise UserError(f"{root}: no folder of class folders; give --dataset_path") from e


def open_classes(
    options: Namespace, settings: dict, wanted: Sequence[int | str] | None = None, least: int = 1
) -> Classes:
    """The records of the classes `wanted`, labels or names, or of all, with their names. A warning names those without.

    UserError where fewer than `least` have records. Where the data set is at no default path, labels are the names.
    """
    names = _names(options, any(isinstance(x, str) for x in wanted or ()))
    labels = None if wanted is None else [x if isinstance(x, int) else _label(x, names) for x in wanted]
    size = options.mlp_dim or settings.get("model_mlp_dim")
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


def _names(options: Namespace, needed: bool) -> list[str]:
    """The names by label; none where the data set's files, needed for them, are not at the default path."""
    try:
        return class_names(options.dataset, options.dataset_path)
    except UserError as e:
        if needed or options.path_typed:
            raise
        warnings.warn(f"{e}; labels stand for the names", stacklevel=3)
        return []


def _label(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
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


def export_classes(options: Namespace, classes: Classes) -> list[tuple[Path, int]]:
    """Copy the first `options.count` images of each class to `options.output_dir`/<label>_<name>/; folders and counts.

    All images where the count is None, whether they have a record or not. UserError for a folder within the data set.
    """
    source = open_dataset(options.dataset, options.dataset_path, len(classes.names))
    root, written = source.root.resolve(), []
    if options.output_dir.resolve().is_relative_to(root):
        raise UserError(f"{options.output_dir}: within the data set, where it would become a class; choose another")
    items = source.select(classes.labels, options.count)
    for label in tqdm(classes.labels, desc="images", unit="class", disable=None, leave=False):
        folder = options.output_dir / f"{label}_{safe_name(source.classes[label])}"
        try:
            written.append((folder, export_images(source, [item for item in items if item.label == label], folder)))
        except OSError as e:
            if disk_full(e):
                raise
            raise UserError(f"{folder}: cannot be written ({one_line(e)}); choose another --output_dir") from e
    return written


def export_images(source: ImageSet, items: list[Item], folder: Path) -> int:
    """Copy `items` to `folder` and count them: files as they are, once they decode as images; arrays as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise UserError(f"{folder}: leads elsewhere; remove it or choose another --output_dir")
    taken: set[str] = set()
    for item in items:
        path = Path(item.image)
        stem, ending, again = safe_name(path.stem), path.suffix if source.arrays is None else ".png", 0
        name = f"{stem}{ending}"
        while name in taken:
            name = f"{stem}-{(again := again + 1)}{ending}"
        taken.add(name)
        _export(source, item, folder / name)
    return len(taken)


def _export(source: ImageSet, item: Item, target: Path) -> None:
    try:
        with source.read(item) as image:
            image.load()
    except DECODING_ERRORS as e:
        raise UserError(f"{source.root / item.image}: cannot be read ({one_line(e)}); remove it or replace it") from e
    target.unlink(missing_ok=True)  # never through a link that stands there
    if source.arrays is None:
        shutil.copyfile(source.root / item.image, target)
    else:
        image.save(target)
