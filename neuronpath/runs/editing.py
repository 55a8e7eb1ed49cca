"""The edit job: each image with its own path, read from the records of a search (docs/method.md §5)."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli import options as opt
from ..cli.parsing import Parser, factor, whole
from ..records.schema import ABLATIONS, EDITED, OPERATIONS
from .extraction import add_objective
from .job import Job

if TYPE_CHECKING:
    from .run import Inputs, Plan


def add_paths(parser: Parser, folder: str) -> None:
    """Whose paths are edited, and where they are; `folder` of results/ holds joint_attr's."""
    group = parser.add_argument_group("paths")
    group.add_argument(
        "--method",
        choices=tuple(EDITED),
        default="ja",
        help="whose paths are edited. ja: the neuron path; influence_pattern; base: the most active neurons; "
        "gradient_activation, conductance, layer_ig, ablation; uniform: path/baseline.py's random; random, a "
        "control: units that write about as much as those of the neuron path, 5 draws averaged, or, to prune by, units "
        "drawn uniformly; heads, heads_norm, heads_gate, mixed, neurons: path/joint_attr_heads.py's, with the controls "
        "heads_random, mixed_random, neurons_random (default: %(default)s)",
    )
    suffix = folder.removeprefix("ja")  # of records of several neurons per layer
    for option, script, default in (
        ("ja", "joint_attr", folder),
        ("influence_pattern", "influence_pattern", "influence_pattern"),
        ("baseline", "baseline", f"baseline/<its method>{suffix}"),
        ("heads", "joint_attr_heads", f"heads/<its units>{suffix}"),
    ):
        group.add_argument(
            f"--{option}_path",
            type=Path,
            metavar="DIR",
            help=f"records of {script} (default: results/{default}/<model>)",
        )
    opt.add_input_prefix(group)
    group.add_argument(
        "--allow_other_weights",
        action="store_true",
        help="edit paths that were found on another checkpoint; without it they are refused",
    )
    add_objective(group, "what F was when the paths were found, as in the search")


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


def add_ablation(parser: Parser) -> None:
    parser.add_argument(
        "--ablation",
        choices=tuple(ABLATIONS),
        default="zero",
        help="what removal sets the path's neurons to. zero: 0, the paper's; mean: each unit's mean over all images of "
        "the run, and the path is also retained alone, everything else at its mean; resample: their activations in "
        "another image, drawn from the run's other classes, 5 draws averaged (default: %(default)s)",
    )


class Edit(Job):
    """Remove and enhance every image's own path: probabilities and predicted classes before and after.

    With the method "random", the matched control, every result is the mean over several paths.
    """

    @property
    def name(self) -> str:
        return "edit" if self.pool == "cls" else "edit_mae"

    @property
    def scripts(self) -> dict[str, str]:
        folder = "experiments/quantitative-comparison/manipulation"
        return {"cls": f"{folder}/ViT/edit.py", "mean": f"{folder}/MAE/edit.py"}

    def add_options(self, parser: Parser) -> None:
        add_paths(parser, "ja")
        add_gain(parser)
        add_ablation(parser)
        parser.add_argument(
            "--topK",
            type=whole(1),
            metavar="K",
            help="edit only the best K of each path's neurons per layer, of records with K or more (default: all)",
        )

    def settle(self, options: Namespace) -> None:
        """Nothing follows from its options."""

    def folder(self, options: Namespace) -> str:
        ablation = "" if options.ablation == "zero" else f"_{options.ablation}"
        best = "" if options.topK is None else f"_top{options.topK}"
        return f"edit/remove_enhance{ablation}{best}/{options.method}"

    def prepare(self, inputs: Inputs) -> Plan:
        from .edit_plan import plan_edits, read_best, read_paths

        o = inputs.options
        numbers = {name: value for name, value in (("gain", o.gain), ("topK", o.topK)) if value}
        settings = {"method": o.method, "operation": "remove_enhance", **numbers, "seed": o.seed}
        paths = read_best(inputs, o.topK) if o.topK else read_paths(inputs, inputs.items)
        return plan_edits(inputs, paths, tuple(OPERATIONS), settings)
