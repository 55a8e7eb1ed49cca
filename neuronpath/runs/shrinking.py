"""The options of scripts/shrink.py, which makes a smaller model of a checkpoint (docs/method.md §5)."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ..cli import options as opt
from ..cli.exits import Report
from ..cli.parsing import Parser, share_of_one, whole
from ..errors import UserError
from ..records.schema import METHODS

NEEDING = ("path", "activation", "taylor")  # importances that images tell
IMPORTANCES = (*NEEDING, "magnitude", "random")


def main(description: str | None, arguments: Sequence[str] | None = None) -> Report:
    """The script. UserError for a user's mistake."""
    options = parse(description, arguments)
    from .shrink_plan import write_shrunk

    return write_shrunk(options)


def parser_of(description: str | None) -> Parser:
    parser = Parser(description)
    add_shrinking(parser)
    opt.add_data(parser)
    opt.add_model(parser)
    group = parser.add_argument_group("running")
    opt.add_batch_size(group)
    group.add_argument(
        "--internal_batch_size",
        type=whole(1),
        metavar="ROWS",
        help="most images evaluated at once; lower it where memory is short (default: by the model's shape and the "
        "kind of device)",
    )
    group.add_argument(
        "--seed", type=whole(0), default=42, metavar="N", help="of --importance random (default: %(default)s)"
    )
    parser.set_defaults(shard=(0, 1))
    return parser


def add_shrinking(parser: Parser) -> None:
    group = parser.add_argument_group("shrinking")
    group.add_argument(
        "--keep",
        type=share_of_one,
        default=0.5,
        metavar="SHARE",
        help="share of the FFN units of every layer that stay, above 0, at most 1, such as 0.9 or 0.3 (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--importance",
        choices=IMPORTANCES,
        default="path",
        help="which stay. path: those most often in the paths of the images, every class counting alike, ties by mean "
        "|activation|; activation: largest mean |activation| times the length of what a unit writes; taylor: largest "
        "mean |activation · gradient of the label's probability|; magnitude: largest weights; random (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--paths",
        type=Path,
        metavar="DIR",
        help="path: records of these images, of joint_attr, influence_pattern or baseline (required for path)",
    )
    group.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="ja",
        help="path: whose paths. ja: the neuron path; base: the most active neurons; the others from a folder of their "
        "own records (default: %(default)s)",
    )
    group.add_argument(
        "--topK", type=whole(1), metavar="K", help="path: only the best K of each path's neurons (default: all)"
    )
    opt.add_input_prefix(group)
    group.add_argument(
        "--allow_other_weights",
        action="store_true",
        help="take paths that were found on another checkpoint; without it they are refused",
    )
    group.add_argument(
        "--score_tokens",
        choices=("neuron", "all"),
        default="neuron",
        help="activation, taylor: where they are measured. neuron: at the tokens that the head reads, as paths; all: "
        "at all, which is better where the head reads CLS alone (default: %(default)s)",
    )
    group.add_argument(
        "--fold_mean",
        action="store_true",
        help="add what the units that go write on average over the images' tokens to the bias of fc2",
    )
    group.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the smaller checkpoint, .npz or .pth; for a folder of timm or transformers a folder (required)",
    )


def parse(description: str | None, arguments: Sequence[str] | None) -> Namespace:
    o = parser_of(description).parse_args(arguments)
    if o.dataset == "images":
        raise UserError("--dataset images: classes count alike, so images need labels; give images with labels")
    if o.importance == "path" and o.paths is None:
        raise UserError("--importance path: give --paths, the records of a search of these images")
    if o.importance != "path" and (o.paths or o.topK):
        option = "--paths" if o.paths else "--topK"
        raise UserError(f"{option}: --importance {o.importance} has no use for it; leave one of the two out")
    if (o.fold_mean or o.importance in NEEDING) and o.dataset_path is None:
        raise UserError("--dataset_path: give the training images to choose by, others than those to measure on")
    if o.pretrain_weight.is_file() and o.output.suffix not in (".npz", ".pth"):
        raise UserError(f"--output {o.output}: a checkpoint ends in .npz or .pth")
    if o.output.exists() and o.output.resolve() == o.pretrain_weight.resolve():
        raise UserError(f"--output {o.output}: the model itself; choose another place")
    return opt.settle(o)
