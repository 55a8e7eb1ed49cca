"""The options that the similarity scripts share, and the classes that they name.

Records say which data set they are of, but are untrusted: a path that they name is followed below the root of the
project only.
"""

import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..cli import options as opt
from ..cli.parsing import Parser, whole
from ..data.images import DATASETS, DEFAULT_PATH, DEFAULT_PATHS
from ..data.names import class_names, find_label, listing
from ..errors import UserError
from ..models.configs import CONFIGS
from ..records.args import Args, args_file
from ..records.methods import METHODS
from ..records.reading import label_files
from .similarity import MOST_UNITS, Classes, read_classes


def add_records(parser: Parser) -> None:
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
    opt.add_input_prefix(group)
    group.add_argument(
        "--mlp_dim",
        type=whole(1, MOST_UNITS),
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


def add_weights(parser: Parser) -> None:
    group = parser.add_argument_group("correlation with the confusion of a model, where its weights are given")
    group.add_argument("--pretrain_weight", type=Path, metavar="FILE", help="checkpoint: .npz, .pth or .safetensors")
    group.add_argument(
        "--model_type",
        choices=("auto", *CONFIGS),
        default="auto",
        metavar="NAME",
        help=f"auto reads every dimension from the checkpoint; or {', '.join(CONFIGS)} (default: %(default)s)",
    )
    group.add_argument("--num_heads", type=whole(1), metavar="N", help="attention heads, where a file does not tell")
    group.add_argument(
        "--img_size", type=whole(1, 4096), metavar="PIXELS", help="side of the square input (default: the records')"
    )
    group.add_argument(
        "--preprocess",
        choices=("paper", "native"),
        help="paper: squash to a square; native: as the weights were trained (default: the records', else paper)",
    )
    group.add_argument(
        "--batch_size", type=whole(1), default=10, metavar="N", help="images per batch (default: %(default)s)"
    )
    opt.add_device(group)


def settle(options: Namespace) -> dict:
    """Fill in data set and path where they were not typed; what args.json says, checked, or {} without one.

    `options.path_typed` tells which it was.
    """
    file, settings, recorded = args_file(options.results, options.input_prefix), {}, {}
    if not options.results.is_dir():
        raise UserError(f"{options.results}: no such folder; give the folder of the records with --results")
    if file.exists():
        args = Args.read(file)
        settings, recorded = args.settings, args.options
        size = settings.get("model_mlp_dim")
        if type(size) is not int or not 0 < size <= MOST_UNITS:
            raise UserError(f"{file}: model_mlp_dim is not the number of units of a layer; were these made by path/*?")
    if settings.get("dataset", "imagenet1k") not in DATASETS:
        raise UserError(f"{file}: its dataset is none of {', '.join(DATASETS)}; mend it")
    same = options.dataset in (None, settings.get("dataset"))
    options.dataset = options.dataset or settings.get("dataset", "imagenet1k")
    options.path_typed = options.dataset_path is not None
    if not options.path_typed:
        inside = _below_root(recorded.get("dataset_path")) if same else None
        options.dataset_path = inside or opt.ROOT / DEFAULT_PATHS.get(options.dataset, DEFAULT_PATH)
    return settings


def _below_root(path: object) -> Path | None:
    """`path` where it is a folder below the project's root."""
    try:
        found = (opt.ROOT / path).resolve() if isinstance(path, str) else None
        return found if found and found != opt.ROOT and found.is_relative_to(opt.ROOT) and found.is_dir() else None
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
