"""The extraction jobs: the neuron path with the activation path beside it, and the Influence Pattern."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution.adaptive import AUTO, THRESHOLD, find_path_auto
from ..attribution.candidates import STOPPED
from ..attribution.forward import probability, resolve_targets
from ..attribution.influence import influence_path
from ..attribution.quadrature import PAPER, RULES, Quadrature
from ..attribution.search import SEARCHES, NeuronPath, Shortlist, find_path
from ..cli import options as opt
from ..cli.parsing import Parser, target, whole
from ..errors import UserError
from ..files import Item
from ..records.schema import METHODS, keys_of
from .job import Inputs, Job, Plan
from .summary import NEAR_TIES, ScoreSummary

CONVERGED = {1: True, 0: False, -1: None}  # NeuronPath.converged in records
Find = Callable[[Tensor, Tensor, int], dict]  # columns of a record from images, targets and rows


def add_attribution(parser: Parser, searches: bool) -> None:
    """Rule and target; with `searches` also how to search, and --quadrature auto."""
    group = parser.add_argument_group("attribution")
    group.add_argument(
        "--ig_total_step",
        type=whole(1),
        metavar="M",
        help=f"nodes of the quadrature; cost is proportional (default: {PAPER.steps}; 4 do for gauss-legendre)",
    )
    auto = "; auto: gauss-legendre with 4 nodes, and with 8 and 16 for images whose choices were close"
    group.add_argument(
        "--quadrature",
        choices=(*RULES, AUTO) if searches else RULES,
        default=PAPER.rule,
        help="rule: right is the paper's, left the released scripts', gauss-legendre the fastest for its precision"
        f"{auto if searches else ''} (default: %(default)s)",
    )
    if searches:
        _add_searches(group)
    group.add_argument(
        "--target",
        type=target,
        default="label",
        metavar="CLASS",
        help="whose probability is attributed: label (the image's own), pred (the predicted class) or a class index "
        "(default: %(default)s)",
    )


def _add_searches(group: opt.Group) -> None:
    group.add_argument(
        "--search",
        choices=SEARCHES,
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
        f"(default: {Shortlist().most})",
    )


def settle_attribution(options: Namespace) -> None:
    """Fill in unset numbers. UserError where a number is given that the others leave no use for."""
    if options.quadrature == AUTO and options.ig_total_step is not None:
        raise UserError("--ig_total_step: --quadrature auto chooses the nodes itself; leave one of the two out")
    if options.quadrature != AUTO:
        options.ig_total_step = options.ig_total_step or PAPER.steps
    if "search" not in options:
        return
    if options.shortlist_max is not None and options.search != "shortlist":
        raise UserError(f"--shortlist_max: --search {options.search} has no use for it; leave one of the two out")
    if options.search == "shortlist":
        options.shortlist_max = options.shortlist_max or Shortlist().most


def targets_of(options: Namespace, items: list[Item], device: torch.device) -> Tensor:
    """(B,) class indices, -1 for the predicted class."""
    fixed = {"pred": -1}.get(options.target, options.target)
    return torch.tensor([item.label if fixed == "label" else fixed for item in items], device=device)


@dataclass(frozen=True, kw_only=True)
class ExtractionPlan(Plan):
    """`find` gives the columns of the records; `methods`, keys of METHODS, are those whose paths it finds."""

    find: Find
    methods: tuple[str, ...]

    def summary(self) -> ScoreSummary:
        scores = {METHODS[method].score: METHODS[method].noun for method in self.methods}
        return ScoreSummary(scores, NEAR_TIES[self.inputs.options.precision])

    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        targets = targets_of(self.inputs.options, items, images.device)
        columns = self.find(images, targets, rows)
        logits = columns.pop("logits")
        prob = probability(logits, resolve_targets(targets, logits))
        columns = {"pred": logits.argmax(-1), "prob": prob, **columns}
        values = [columns[key].tolist() if isinstance(columns[key], Tensor) else columns[key] for key in self.keys]
        return [dict(zip(self.keys, row, strict=True)) for row in zip(*values, strict=True)]


class Extraction(Job):
    """What both extraction jobs have in common."""

    base_name: str
    methods: tuple[str, ...]  # of METHODS, whose paths are recorded
    searches = False

    @property
    def name(self) -> str:
        return self.base_name + ("_mae" if self.pool == "mean" else "")

    @property
    def scripts(self) -> dict[str, str]:
        return {"cls": f"path/{self.base_name}.py", "mean": f"path/{self.base_name}_mae.py"}

    def add_options(self, parser: Parser) -> None:
        add_attribution(parser, self.searches)

    def settle(self, options: Namespace) -> None:
        settle_attribution(options)

    def plan(self, inputs: Inputs, find: Find, keys: tuple[str, ...], more: dict) -> ExtractionPlan:
        options, classes = inputs.options, inputs.model.config.num_classes
        if isinstance(options.target, int) and options.target >= classes:
            raise UserError(f"--target {options.target}: the model's classes are 0 to {classes - 1}")
        settings = {name: getattr(options, name) for name in ("target", "quadrature", "ig_total_step")} | more
        return ExtractionPlan(
            inputs=inputs, items=inputs.items, keys=keys, settings=settings, find=find, methods=self.methods
        )


class JointAttribution(Extraction):
    base_name = "joint_attr"
    methods = ("ja", "base")
    searches = True

    def folder(self, options: Namespace) -> str:
        return "ja"

    def k(self, options: Namespace) -> int:
        """Neurons per layer."""
        return 1

    def prepare(self, inputs: Inputs) -> ExtractionPlan:
        o, k, neurons = inputs.options, self.k(inputs.options), inputs.model.config.mlp_dim
        if k > neurons:
            raise UserError(f"--topK {k}: a layer of this model has {neurons} neurons")
        if o.shortlist_max is not None and o.shortlist_max < k:
            raise UserError(f"--shortlist_max {o.shortlist_max}: at least the {k} neurons of --topK must be scored")
        search = Shortlist(o.shortlist_max) if o.search == "shortlist" else SEARCHES[o.search]
        more = {"search": o.search, "topK": k}
        writers = ["joint_attr"]
        if isinstance(search, Shortlist):
            more |= {"shortlist_max": search.most, "shortlist_kappa": search.kappa}
            writers.append("shortlist")
        if o.quadrature == AUTO:
            more |= {"auto_threshold": THRESHOLD}
            writers.append("auto")

        def find(images: Tensor, targets: Tensor, rows: int) -> dict:
            if o.quadrature == AUTO:
                return path_columns(
                    find_path_auto(inputs.model, images, targets, k=k, search=search, internal_batch_size=rows)
                )
            rule = Quadrature(o.quadrature, o.ig_total_step)
            return path_columns(
                find_path(inputs.model, images, targets, rule, k, search=search, internal_batch_size=rows)
            )

        return self.plan(inputs, find, keys_of(*writers), more)


def path_columns(found: NeuronPath) -> dict:
    """By key of the records."""
    columns: dict[str, object] = {
        "logits": found.logits,
        "ja": found.path,
        "ja_score": found.score,
        "ja_act": found.activation,
        "base": found.base_path,
        "base_score": found.base_score,
        "base_act": found.base_activation,
        "margin": found.margin,
        "search_rank": found.search_rank,
        "search_scored": found.search_scored,
        "nodes": found.nodes,
    }
    if found.search_stopped is not None:
        columns["search_stopped"] = [[STOPPED[i] for i in layers] for layers in found.search_stopped.tolist()]
    if found.converged is not None:
        columns["converged"] = [CONVERGED[i] for i in found.converged.tolist()]
    return columns


class TopKAttribution(JointAttribution):
    """The same with K neurons per layer."""

    @property
    def scripts(self) -> dict[str, str]:
        return {"cls": "topK/path/joint_attr.py"}

    def add_options(self, parser: Parser) -> None:
        super().add_options(parser)
        opt.add_top_k(parser)

    def k(self, options: Namespace) -> int:
        return options.topK

    def folder(self, options: Namespace) -> str:
        return f"ja_top{self.k(options)}"


class InfluencePattern(Extraction):
    base_name = "influence_pattern"
    methods = ("influence_pattern",)

    def folder(self, options: Namespace) -> str:
        return "influence_pattern"

    def prepare(self, inputs: Inputs) -> ExtractionPlan:
        quadrature = Quadrature(inputs.options.quadrature, inputs.options.ig_total_step)

        def find(images: Tensor, targets: Tensor, rows: int) -> dict:
            found = influence_path(inputs.model, images, targets, quadrature, internal_batch_size=rows)
            return {"logits": found.logits, "path": found.path, "score": found.score, "margin": found.margin}

        return self.plan(inputs, find, keys_of("influence_pattern"), {})
