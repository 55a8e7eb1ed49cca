"""The top-K edit job: remove or enhance the best K, or prune by class (docs/method.md §5)."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from ..cli import options as opt
from ..cli.parsing import Parser, proportion, whole
from ..errors import UserError
from ..records.schema import EDITED, OPERATIONS
from .editing import add_ablation, add_paths
from .job import Job

if TYPE_CHECKING:
    from .run import Inputs, Plan


def add_pruning(parser: Parser) -> None:
    group = parser.add_argument_group("operation")
    group.add_argument(
        "--edit_operation",
        choices=(*OPERATIONS, "prune"),
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


class TopKEdit(Job):
    """Remove or enhance the K best neurons of every layer, or prune all but a class's K most frequent."""

    @property
    def name(self) -> str:
        return "edit_topk"

    @property
    def scripts(self) -> dict[str, str]:
        return {"cls": "topK/experiments/quantitative-comparison/manipulation/ViT/edit.py"}

    def add_options(self, parser: Parser) -> None:
        add_paths(parser, "ja_top<K>")
        opt.add_top_k(parser)
        add_pruning(parser)
        add_ablation(parser)

    def settle(self, options: Namespace) -> None:
        if options.edit_operation == "prune" and EDITED[options.method].job.startswith("heads/"):
            raise UserError(f"--method {options.method}: pruning is by paths of neurons of the other scripts")
        if options.ablation != "zero" and options.edit_operation != "remove":
            fault = f"--ablation {options.ablation}: --edit_operation {options.edit_operation} has no use for it"
            raise UserError(f"{fault}; give --edit_operation remove")

    def folder(self, options: Namespace) -> str:
        ablation = "" if options.ablation == "zero" else f"_{options.ablation}"
        return f"edit/{options.edit_operation}{ablation}/{options.method}"

    def prepare(self, inputs: Inputs) -> Plan:
        from .edit_plan import plan_edits, read_best
        from .prune_plan import plan_pruning

        o = inputs.options
        if o.edit_operation == "prune":
            return plan_pruning(inputs)
        settings = {"method": o.method, "operation": o.edit_operation, "topK": o.topK, "seed": o.seed}
        return plan_edits(inputs, read_best(inputs, o.topK), (o.edit_operation,), settings)
