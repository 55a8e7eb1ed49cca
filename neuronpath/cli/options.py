"""The command-line options that several commands share, in groups that each command takes what it needs of.

A job's own options stand beside the job (`neuronpath.runs`). Nothing here imports PyTorch: help comes at once.
"""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import DATASETS, DEFAULT_PATH, DEFAULT_PATHS, FOLDERS, ROOT, default_dataset_path
from ..models.configs import ACTIVATIONS, CONFIGS, PRECISIONS, TIMM
from ..pixels import FILTERS, PARTS
from .parsing import Parser, device_name, file_name, labels, one_of, shard, share_of_one, triple, whole
from .processes import share
from .threads import settle_threads

Group = argparse._ArgumentGroup
PREPROCESS = "paper: squash to a square, ImageNet mean/std, 0.5 for CIFAR; native: as the weights were trained"
CHECKPOINT = (
    "checkpoint: .npz, .safetensors, or PyTorch's .pth, .pt, .bin, .ckpt, .pth.tar; or a folder of timm, transformers "
    "or OpenCLIP"
)
HEADS = "attention heads (default: the file's; those of a public width are assumed)"
_OTHER_PATHS = "; ".join(f"{path} for {name}" for name, path in DEFAULT_PATHS.items())


def add_data(parser: Parser) -> None:
    group = parser.add_argument_group("data")
    add_dataset(group, "imagenet1k")
    group.add_argument(
        "--labels", type=labels, metavar="LIST", help="class indices to take, such as 0,5,10-20 (default: all)"
    )
    group.add_argument(
        "--images_per_class", type=whole(1), metavar="N", help="only the first N images of each class (default: all)"
    )
    add_preprocess(group, "paper")
    group.add_argument(
        "--on_bad_image",
        choices=("fail", "skip"),
        default="fail",
        help="what an unreadable image does: fail ends the run with exit code 2, skip lists it (default: %(default)s)",
    )
    group.add_argument(
        "--num_workers", type=whole(0), default=2, metavar="N", help="processes that load images (default: %(default)s)"
    )


def add_dataset(group: Group, default: str | None) -> None:
    """`default`: the kind of data set; None: that of the records that are read."""
    where = "" if default else "the records' where it is below the root of the project; else "
    group.add_argument(
        "--dataset",
        choices=DATASETS,
        default=default,
        help="kind of data set. imagenet1k: ImageNet or some of its classes, in folders whose names, the synsets, are "
        "the labels' (or see --truth); imagefolder, digits: class folders, whose labels are the places of their names "
        "in alphabetical order, so that 10 comes before 2; images: the files that --images names "
        f"(default: {_or_records(default)})",
    )
    group.add_argument(
        "--dataset_path",
        type=Path,
        metavar="DIR",
        help="its root; it has as many classes as the model's head but for imagenet1k, --class_map and images "
        f"(default: {where}{DEFAULT_PATH}; {_OTHER_PATHS}; the working folder for images)",
    )
    add_label_sources(group)


def add_label_sources(group: Group | Parser) -> None:
    """Where labels are told, if not by the places of class folders; and images alone, which have none."""
    group.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="labels for imagenet1k with all images in one folder: Kaggle's LOC_val_solution.csv, or 50000 lines of "
        "synsets, or of ILSVRC ids with the devkit's meta.mat or map_clsloc.txt beside them (default: none; names "
        "that end as _n01440764.JPEG need none)",
    )
    group.add_argument(
        "--class_map",
        type=Path,
        metavar="FILE",
        help="labels of class folders whose names do not tell them: a line FOLDER,LABEL for each, or a .json file "
        "{FOLDER: LABEL, …} (default: none)",
    )
    group.add_argument(
        "--images",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="the image files of --dataset images, which have no labels: the predicted class stands for it, and is the "
        "only --target (default: none)",
    )


def check_dataset(options: Namespace, opened: bool = True) -> None:
    """UserError where options of the data set contradict each other. `opened`: whether it will surely be opened."""
    o = options
    if o.truth and o.dataset != "imagenet1k":
        raise UserError(f"--truth: it tells ImageNet's labels, but --dataset is {o.dataset}; leave one of the two out")
    if o.class_map and o.dataset not in FOLDERS:
        raise UserError(f"--class_map: --dataset {o.dataset} has no class folders; leave one of the two out")
    if o.truth and o.class_map:
        raise UserError("--truth, --class_map: both tell the labels; leave one of the two out")
    if o.images and o.dataset != "images":
        raise UserError(f"--images: --dataset {o.dataset} is a whole data set; give --dataset images")
    if opened and o.dataset == "images" and not o.images:
        raise UserError("--dataset images: name the files, as in --images a.jpg b.jpg")


def add_preprocess(group: Group, default: str | None) -> None:
    group.add_argument(
        "--preprocess",
        choices=("paper", "native"),
        default=default,
        help=f"{PREPROCESS} (default: {_or_records(default)})",
    )
    otherwise = "native: the {} (default: the model's own, where it is known)"
    group.add_argument("--mean", type=triple(), metavar="R,G,B", help=otherwise.format("mean of the channels, 0 to 1"))
    group.add_argument("--std", type=triple(above=0), metavar="R,G,B", help=otherwise.format("standard deviation"))
    group.add_argument(
        "--crop_pct",
        type=share_of_one,
        metavar="P",
        help=otherwise.format("side of the centre crop relative to the resized short side, above 0, at most 1"),
    )
    group.add_argument("--interpolation", choices=FILTERS, help=otherwise.format("filter of the resizing"))


def typed_native(options: Namespace) -> dict[str, object]:
    """The parts of native preprocessing that were typed. UserError where they would not count."""
    given = {name: value for name in PARTS if (value := getattr(options, name)) is not None}
    if given and options.preprocess == "paper":
        raise UserError(f"--{next(iter(given))} counts for --preprocess native; give that, or leave it out")
    return given


def _or_records(default: str | None) -> str:
    return default or "the records'"


def add_model(parser: Parser, pool: str | None = None, several: bool = False, required: bool = True) -> None:
    """`pool`: the kind of head that the script is for; None: either. `several`: more than one checkpoint."""
    names = [name for name, config in CONFIGS.items() if pool in (None, config.pool)]
    group = parser.add_argument_group("model")
    group.add_argument(
        "--pretrain_weight",
        type=Path,
        required=required,
        nargs="+" if several else None,
        metavar="FILE",
        help=f"{CHECKPOINT} ({'required' if required else 'default: none'})",
    )
    add_model_type(group, names)
    group.add_argument(
        "--img_size",
        type=whole(1, 4096),
        metavar="PIXELS",
        help="side of the square input, a multiple of the patch size (default: a named model's own, usually 224; "
        "the checkpoint's own for auto)",
    )
    add_device(group)
    add_precision(group)


def add_model_type(group: Group, names: list[str]) -> None:
    group.add_argument(
        "--model_type",
        type=one_of(("auto", *names), TIMM),
        default="auto",
        metavar="NAME",
        help=f"auto reads every dimension from the checkpoint; or {', '.join(names)}; or {TIMM}NAME, an architecture "
        "of timm, for a file of its weights (default: %(default)s)",
    )
    group.add_argument("--num_heads", type=whole(1), metavar="N", help=HEADS)
    group.add_argument(
        "--pool",
        choices=("cls", "mean"),
        help="what the head reads, where a file with one last norm does not tell: the CLS token, or the mean of the "
        "normed patch tokens (default: the file's; else cls, assumed)",
    )
    group.add_argument(
        "--activation", choices=ACTIVATIONS, help="of the FFN's units (default: the file's; else gelu, exact, assumed)"
    )
    group.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help="head for a model that ends in an embedding or in features, .npz, .pth or .pt: weight (C, D), maybe bias "
        "(C,) and names; with a scale it is a zero-shot head (scripts/zero_shot.py writes one for CLIP and SigLIP), "
        "without one a linear probe (default: the model's own)",
    )


def told(options: Namespace) -> dict[str, Any]:
    """What the options tell of a model, as keywords of `load`."""
    return {name: getattr(options, name) for name in ("num_heads", "pool", "activation", "classifier")}


def add_device(group: Group | Parser) -> None:
    group.add_argument(
        "--device",
        type=device_name,
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:N, mps, or auto: the first NVIDIA GPU, else the CPU (default: %(default)s)",
    )
    group.add_argument("--no_cuda", action="store_true", help="the same as --device cpu")


def add_precision(group: Group | Parser) -> None:
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp64 is for checks; tf32 (NVIDIA GPUs since Ampere) and bf16 round the factors of matrix products for "
        "the sake of speed; paths differ where choices are close (default: %(default)s)",
    )


def add_input_prefix(group: Group | Parser) -> None:
    group.add_argument(
        "--input_prefix",
        type=file_name,
        default="imgnet_all",
        metavar="NAME",
        help="file names of the records begin with it (default: %(default)s)",
    )


def add_top_k(parser: Group | Parser, default: int = 5) -> None:
    parser.add_argument(
        "--topK",
        type=whole(1),
        default=default,
        metavar="K",
        help="neurons per layer, the best K (default: %(default)s)",
    )


def add_batch_size(group: Group) -> None:
    group.add_argument(
        "--batch_size",
        type=whole(1),
        default=10,
        metavar="N",
        help="images per batch, any number (default: %(default)s)",
    )


def add_running(parser: Parser) -> None:
    group = parser.add_argument_group("running")
    add_batch_size(group)
    group.add_argument(
        "--internal_batch_size",
        type=whole(1),
        metavar="ROWS",
        help="most rows, images × nodes, evaluated at once; lower it where memory is short (default: by the model's "
        "shape and the kind of device)",
    )
    group.add_argument(
        "--shard",
        type=shard,
        default="0/1",
        metavar="I/N",
        help="part I of N, from 0/N to N-1/N: every N-th label, for processes started by hand or by a Slurm array; "
        "torchrun and srun need no option (default: %(default)s, all)",
    )
    group.add_argument(
        "--seed",
        type=whole(0),
        default=42,
        metavar="N",
        help="of random numbers: those of random controls and baselines and of --ablation resample; the rest uses none "
        "(default: %(default)s)",
    )


def add_output(parser: Parser, prefix: str = "imgnet_all", files: str = "-<label>.rlt.jsonl") -> None:
    """`prefix`: the default; `files`: what follows it in the names of the results."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="folder for the records (default: results/<job>/<model>)"
    )
    group.add_argument(
        "--output_prefix",
        type=file_name,
        default=prefix,
        metavar="NAME",
        help=f"file names begin with it: NAME{files} (default: %(default)s)",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="compute the chosen labels anew; without it a rerun resumes"
    )


def add_records(parser: Parser, methods: tuple[str, ...], most_units: int) -> None:
    """Those of the commands that read the records of one search; `methods` are what --method takes."""
    group = parser.add_argument_group("records")
    group.add_argument(
        "--results",
        type=Path,
        default=ROOT / "results/demo/ja/ViT-digits",
        metavar="DIR",
        help="folder of records, of joint_attr, influence_pattern, baseline or joint_attr_heads (default: %(default)s)",
    )
    group.add_argument(
        "--method",
        choices=methods,
        default="ja",
        help="whose paths. ja: the neuron path; base: the most active neurons; the others from a folder of their own "
        "records, uniform being baseline's random (default: %(default)s)",
    )
    add_input_prefix(group)
    group.add_argument(
        "--mlp_dim",
        type=whole(1, most_units),
        metavar="H",
        help="FFN units per layer, such as 3072 for ViT-B (default: the records' args.json; without one 1 + the "
        "largest index in the records that are read)",
    )
    add_dataset(group, None)
    group.add_argument(
        "--output_dir",
        type=Path,
        default=ROOT / "results/demo/similarity",
        metavar="DIR",
        help="folder for what is written (default: %(default)s)",
    )


def add_weights(parser: Parser) -> None:
    """Those of a command that may run the model of the records."""
    group = parser.add_argument_group("correlation with the confusion of a model, where its weights are given")
    group.add_argument("--pretrain_weight", type=Path, metavar="FILE", help=CHECKPOINT)
    add_model_type(group, [*CONFIGS])
    group.add_argument(
        "--img_size", type=whole(1, 4096), metavar="PIXELS", help="side of the square input (default: the records')"
    )
    add_preprocess(group, None)
    add_batch_size(group)
    add_device(group)


def settle(options: Namespace) -> Namespace:
    """Fill in what follows from the options: `dataset_path`, `share`, `device` and `dtype`.

    UserError for options of the data set that contradict each other, and a device that is not there or lacks the
    precision.
    """
    check_dataset(options)
    settle_threads()
    from ..models import devices  # PyTorch, once the options are right

    if options.dataset_path is None:
        options.dataset_path = default_dataset_path(options.dataset)
    options.share = share(options.shard)
    options.device = devices.device("cpu" if options.no_cuda else options.device, options.share.local)
    options.dtype = devices.set_precision(options.precision, options.device)
    return options
