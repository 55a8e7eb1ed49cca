"""The one set of command-line options, in groups that each command takes what it needs of."""

import argparse
from pathlib import Path

import torch

from ..attribution.candidates import SHORTLIST_MAX
from ..attribution.quadrature import AUTO, RULES
from ..data.images import DATASETS, DEFAULT_PATH, DEFAULT_PATHS
from ..errors import UserError
from ..models.configs import CONFIGS
from ..models.devices import PRECISIONS, device, set_precision
from .parsing import Parser, factor, file_name, labels, proportion, shard, target, whole
from .processes import share

ROOT = Path(__file__).resolve().parents[2]  # default paths are relative to it, typed ones to the working folder
STEPS = 20  # nodes of the paper


def add_data(parser: Parser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        choices=DATASETS,
        default="imagenet1k",
        help="kind of data set: imagenet1k, imagefolder and digits are folders of class folders, whose labels are the "
        "places of their names in alphabetical order, so that 10 comes before 2 (default: %(default)s)",
    )
    others = ", ".join(f"{path} for {name}" for name, path in DEFAULT_PATHS.items())
    group.add_argument(
        "--dataset_path",
        type=Path,
        metavar="DIR",
        help=f"its root; it has as many classes as the model's head (default: {DEFAULT_PATH}; {others})",
    )
    group.add_argument(
        "--labels", type=labels, metavar="LIST", help="class indices to take, such as 0,5,10-20 (default: all)"
    )
    group.add_argument(
        "--images_per_class", type=whole(1), metavar="N", help="only the first N images of each class (default: all)"
    )
    group.add_argument(
        "--preprocess",
        choices=("paper", "native"),
        default="paper",
        help="paper: squash to a square, ImageNet mean/std; native: as the weights were trained (default: %(default)s)",
    )
    group.add_argument(
        "--on_bad_image",
        choices=("fail", "skip"),
        default="fail",
        help="what an unreadable image does: fail ends the run with exit code 2, skip lists it (default: %(default)s)",
    )
    group.add_argument(
        "--num_workers", type=whole(0), default=2, metavar="N", help="processes that load images (default: %(default)s)"
    )


def add_model(parser: Parser, pool: str | None = None, several: bool = False) -> None:
    """`pool`: the kind of head that the script is for; None: either. `several`: more than one checkpoint."""
    names = [name for name, config in CONFIGS.items() if pool in (None, config.pool)]
    group = parser.add_argument_group("model")
    group.add_argument(
        "--pretrain_weight",
        type=Path,
        required=True,
        nargs="+" if several else None,
        metavar="FILE",
        help=f"checkpoint{'s' * several}: .npz, .pth or .safetensors (required)",
    )
    group.add_argument(
        "--model_type",
        choices=("auto", *names),
        default="auto",
        metavar="NAME",
        help=f"auto reads every dimension from the checkpoint; or {', '.join(names)} (default: %(default)s)",
    )
    group.add_argument(
        "--num_heads",
        type=whole(1),
        metavar="N",
        help="attention heads, where a .pth or .safetensors file of unusual width does not tell (default: the file's)",
    )
    group.add_argument(
        "--img_size",
        type=whole(1, 4096),
        metavar="PIXELS",
        help="side of the square input, a multiple of the patch size (default: a named model's own, usually 224; "
        "the checkpoint's own for auto)",
    )
    add_device(group)
    group.add_argument("--no_cuda", action="store_true", help="the same as --device cpu")
    add_precision(group)


def add_device(group) -> None:
    group.add_argument(
        "--device",
        type=device,
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:N, mps, or auto: the first NVIDIA GPU, else the CPU (default: %(default)s)",
    )


def add_precision(group) -> None:
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp64 is for checks; tf32 (NVIDIA GPUs since Ampere) and bf16 round the factors of matrix products for "
        "the sake of speed; paths differ where choices are close (default: %(default)s)",
    )


def add_attribution(parser: Parser, searches: tuple[str, ...]) -> None:
    """`searches`: the values of --search; without any there is no --quadrature auto either."""
    group = parser.add_argument_group("attribution")
    group.add_argument(
        "--ig_total_step",
        type=whole(1),
        metavar="M",
        help=f"nodes of the quadrature; cost is proportional (default: {STEPS}; 4 do for gauss-legendre)",
    )
    auto = "; auto: gauss-legendre with 4 nodes, and with 8 and 16 for images whose choices were close"
    group.add_argument(
        "--quadrature",
        choices=(*RULES, AUTO) if searches else RULES,
        default="right",
        help="rule: right is the paper's, left the released scripts', gauss-legendre the fastest for its precision"
        f"{auto if searches else ''} (default: %(default)s)",
    )
    if searches:
        group.add_argument(
            "--search",
            choices=searches,
            default="layer",
            help="layer: ramp the whole layer at once, as released; exhaustive: every neuron alone, as Algorithm 1 in "
            "the paper, for small models; shortlist: the same for the best by an estimate, as many as it takes "
            "(default: %(default)s)",
        )
        group.add_argument(
            "--shortlist_max",
            type=whole(1),
            metavar="N",
            help="shortlist: most neurons of a layer that are scored exactly, typically 16 to 128 "
            f"(default: {SHORTLIST_MAX})",
        )
    group.add_argument(
        "--target",
        type=target,
        default="label",
        metavar="CLASS",
        help="whose probability is attributed: label (the image's own), pred (the predicted class) or a class index "
        "(default: %(default)s)",
    )


def add_paths(parser: Parser, folder: str, *controls: str) -> None:
    """Whose paths are edited, and where they are; `folder` of results/ holds joint_attr's."""
    group = parser.add_argument_group("paths")
    group.add_argument(
        "--method",
        choices=("ja", "influence_pattern", "base", *controls),
        default="ja",
        help="whose paths are edited. ja: the neuron path; influence_pattern; base: the most active neurons; random, a "
        "control: units about as active as those of the neuron path, 5 draws averaged, or, to prune by, units drawn "
        "uniformly (default: %(default)s)",
    )
    for option, job, default in (
        ("--ja_path", "joint_attr", folder),
        ("--influence_pattern_path", "influence_pattern", "influence_pattern"),
    ):
        group.add_argument(
            option, type=Path, metavar="DIR", help=f"records of {job} (default: results/{default}/<model>)"
        )
    add_input_prefix(group)
    group.add_argument(
        "--allow_other_weights",
        action="store_true",
        help="edit paths that were found on another checkpoint; without it they are refused",
    )


def add_input_prefix(group) -> None:
    group.add_argument(
        "--input_prefix",
        type=file_name,
        default="imgnet_all",
        metavar="NAME",
        help="file names of the records begin with it (default: %(default)s)",
    )


def add_top_k(parser: Parser) -> None:
    parser.add_argument(
        "--topK", type=whole(1), default=5, metavar="K", help="neurons per layer, the best K (default: %(default)s)"
    )


def add_gain(parser: Parser) -> None:
    parser.add_argument(
        "--gain",
        type=factor,
        nargs="+",
        default=[],
        metavar="G",
        help="more factors for the path's activations, beside 0 (remove) and 2 (enhance), for a sweep such as "
        "0.5 1.5 3; recorded as lists (default: none)",
    )


def add_pruning(parser: Parser) -> None:
    group = parser.add_argument_group("operation")
    group.add_argument(
        "--edit_operation",
        choices=("remove", "enhance", "prune"),
        default="prune",
        help="remove: set the path's neurons to 0; enhance: double them; prune: set units that the class's paths do "
        "not use to 0 (default: %(default)s)",
    )
    group.add_argument(
        "--mask_proportion",
        type=proportion,
        default=1.0,
        metavar="P",
        help="prune: share of the other units that are set to 0, from 0 to 1; the smaller share's are among the larger "
        "share's (default: %(default)s)",
    )
    group.add_argument(
        "--depth_prune", type=whole(0), metavar="D", help="prune: only the first D layers (default: all layers)"
    )
    group.add_argument(
        "--select_fraction",
        type=proportion,
        default=0.8,
        metavar="F",
        help="prune: the first F of a class's images select its units, the rest are evaluated (default: %(default)s)",
    )
    group.add_argument(
        "--prune_tokens",
        choices=("cls", "all"),
        default="cls",
        help="prune: at the CLS token, or at all; cls leaves the patch tokens' units alive (default: %(default)s)",
    )


def add_running(parser: Parser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument(
        "--batch_size",
        type=whole(1),
        default=10,
        metavar="N",
        help="images per batch, any number (default: %(default)s)",
    )
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
        help="of random numbers: those of random controls; the rest uses none (default: %(default)s)",
    )


def add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="folder for the records (default: results/<job>/<model>)"
    )
    group.add_argument(
        "--output_prefix",
        type=file_name,
        default="imgnet_all",
        metavar="NAME",
        help="file names begin with it: NAME-<label>.rlt.jsonl (default: %(default)s)",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="compute the chosen labels anew; without it a rerun resumes"
    )


def settle(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in what follows from the options: `dataset_path`, `share`, `device`, `dtype`, and unset numbers.

    UserError where a number is given that the others leave no use for.
    """
    given = vars(options)
    if given.get("quadrature") == AUTO and options.ig_total_step is not None:
        raise UserError("--ig_total_step: --quadrature auto chooses the nodes itself; leave one of the two out")
    if "ig_total_step" in given and options.quadrature != AUTO:
        options.ig_total_step = options.ig_total_step or STEPS
    if given.get("shortlist_max") is not None and options.search != "shortlist":
        raise UserError(f"--shortlist_max: --search {options.search} has no use for it; leave one of the two out")
    if given.get("search") == "shortlist":
        options.shortlist_max = options.shortlist_max or SHORTLIST_MAX
    if options.dataset_path is None:
        options.dataset_path = ROOT / DEFAULT_PATHS.get(options.dataset, DEFAULT_PATH)
    options.share = share(options.shard)
    options.device = torch.device("cpu") if options.no_cuda else options.share.device(options.device)
    options.dtype = set_precision(options.precision, options.device)
    return options


def model_name(options: argparse.Namespace) -> str:
    """What folders of results are called: the model type, or the checkpoint's stem where that is auto."""
    return options.pretrain_weight.stem if options.model_type == "auto" else options.model_type
