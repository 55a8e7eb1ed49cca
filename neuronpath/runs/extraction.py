"""The extraction jobs: the neuron path with the activation path beside it, and the Influence Pattern."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from ..attribution.objectives import OBJECTIVES, PROBABILITY
from ..attribution.quadrature import AUTO, LEAST, PAPER, RULES
from ..attribution.rankings import RANKINGS, Ablation
from ..attribution.searches import GREEDY, SEARCHES, Beam, Shortlist
from ..cli import options as opt
from ..cli.parsing import Parser, positive, target, whole, whole_or_all
from ..errors import UserError
from ..records.schema import BASELINES, METHODS, UNIT
from .job import Job

if TYPE_CHECKING:
    from .run import Inputs, Plan


def add_attribution(parser: Parser, searches: bool) -> None:
    """Rule, target and objective; with `searches` also how to search, and --quadrature auto."""
    group = parser.add_argument_group("attribution")
    group.add_argument(
        "--ig_total_step",
        type=whole(1),
        metavar="M",
        help="nodes of the quadrature, 2 or more for gauss-radau; cost is proportional "
        f"(default: {PAPER.steps}; 4 do for gauss-legendre, 2 for gauss-radau with a shortlist)",
    )
    auto = "; auto: few gauss-radau nodes, and more for the images that these leave in doubt"
    group.add_argument(
        "--quadrature",
        choices=(*RULES, AUTO) if searches else RULES,
        default=PAPER.rule,
        help="rule: right is the paper's, left the released scripts', gauss-legendre the fastest for its precision, "
        f"gauss-radau the same with α = 1 as a node that costs next to nothing{auto if searches else ''} "
        "(default: %(default)s)",
    )
    if searches:
        _add_searches(group)
    group.add_argument(
        "--target",
        type=target,
        metavar="CLASS",
        help="class that F is of: label (the image's own), pred (the predicted class) or a class index "
        "(default: label; pred for --dataset images)",
    )
    add_objective(
        group,
        "what F is of that class: probability, its softmax probability; logit, its logit; sigmoid, the logistic "
        "function of its logit, for multi-label heads",
    )


def add_objective(group: opt.Group, what: str) -> None:
    group.add_argument(
        "--objective",
        choices=tuple(OBJECTIVES),
        default=PROBABILITY.name,
        help=f"{what}; probabilities in the records are by the logistic function with sigmoid, else by softmax "
        "(default: %(default)s)",
    )


def _add_searches(group: opt.Group) -> None:
    group.add_argument(
        "--search",
        choices=SEARCHES,
        default="layer",
        help="layer: ramp the whole layer at once, as released; exhaustive: every neuron alone, as Algorithm 1 in "
        "the paper, for small models; shortlist: the same for the best by an estimate, as many as it takes by a rule "
        "of thumb, no bound: without --shortlist_max it missed no winner in 3600 layers of models trained on digits, "
        "and 14 in 1200 of models with random weights; beam: keep the best --beam_width paths "
        "in each layer instead of one (default: %(default)s)",
    )
    group.add_argument(
        "--beam_width",
        type=whole(1),
        metavar="W",
        help="beam: paths kept, typically 4 to 16; cost is proportional, 1 finds the path of --beam_over alone "
        f"(default: {Beam().width})",
    )
    group.add_argument(
        "--beam_over",
        choices=GREEDY,
        help=f"beam: how the neurons of a layer are scored, as by --search (default: {Beam().over.name})",
    )
    group.add_argument(
        "--shortlist_max",
        type=whole(1),
        metavar="N",
        help="shortlist: most neurons of a layer that are scored exactly (beam: beside each path), typically 16 to 128 "
        f"(default: {Shortlist().most})",
    )
    group.add_argument(
        "--shortlist_kappa",
        type=positive,
        metavar="KAPPA",
        help="shortlist: by how many of the largest errors seen the best must beat the next estimate; larger is "
        "stricter and scores more neurons, for which --shortlist_max must leave room; 4 missed 4 of the 1200 layers of "
        "random weights of which 2 missed 14 "
        f"(default: {Shortlist().kappa:g})",
    )


def settle_attribution(options: Namespace) -> None:
    """Fill in unset numbers and the target. UserError for an option that the others leave no use for."""
    if options.target is None:
        options.target = "pred" if options.dataset == "images" else "label"
    elif options.dataset == "images" and options.target != "pred":
        raise UserError(
            f"--target {options.target}: the images of --dataset images have no label, so that their target is pred; "
            "leave one of the two out"
        )
    if options.quadrature == AUTO and options.ig_total_step is not None:
        raise UserError("--ig_total_step: --quadrature auto chooses the nodes itself; leave one of the two out")
    if options.quadrature != AUTO:
        options.ig_total_step = options.ig_total_step or PAPER.steps
        if options.ig_total_step < (least := LEAST.get(options.quadrature, 1)):
            raise UserError(
                f"--ig_total_step {options.ig_total_step}: {options.quadrature} needs {least} nodes or more"
            )
    if "beam_width" not in options:  # not all searches
        return
    if options.search == "beam":
        if options.quadrature == AUTO:
            raise UserError("--search beam: --quadrature auto cannot tell its doubt; give another rule or search")
        options.beam_width = options.beam_width or Beam().width
        options.beam_over = options.beam_over or Beam().over.name
    else:
        for name in ("beam_width", "beam_over"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name}: --search {options.search} has no use for it; leave one of the two out")
    if "shortlist" in (options.search, options.beam_over):
        options.shortlist_max = options.shortlist_max or Shortlist().most
        options.shortlist_kappa = options.shortlist_kappa or Shortlist().kappa
        return
    search = options.search + (f" --beam_over {options.beam_over}" if options.beam_over else "")
    for name in ("shortlist_max", "shortlist_kappa"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name}: --search {search} has no use for it; leave one of the two out")


class Extraction(Job):
    """What the extraction jobs have in common."""

    base_name: str
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


class JointAttribution(Extraction):
    base_name = "joint_attr"
    methods = ("ja", "base")
    searches = True

    def folder(self, options: Namespace) -> str:
        return "ja"

    def k(self, options: Namespace) -> int:
        """Neurons per layer."""
        return 1

    def settle(self, options: Namespace) -> None:
        super().settle(options)
        if options.search == "beam" and (k := self.k(options)) != 1:
            raise UserError(f"--search beam: finds one neuron per layer, not the {k} of --topK; give --topK 1")

    def prepare(self, inputs: Inputs) -> Plan:
        from .extraction_plan import plan_joint_attribution

        return plan_joint_attribution(inputs, self.k(inputs.options), self.methods)


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

    def prepare(self, inputs: Inputs) -> Plan:
        from .extraction_plan import plan_influence

        return plan_influence(inputs, self.methods)


class HeadAttribution(Extraction):
    """Paths of attention's heads, of heads and neurons in turn, or of neurons, and two baselines of each."""

    base_name = "joint_attr_heads"

    @property
    def scripts(self) -> dict[str, str]:
        return dict.fromkeys(("cls", "mean"), "path/joint_attr_heads.py")

    def add_options(self, parser: Parser) -> None:
        super().add_options(parser)
        group = parser.add_argument_group("units")
        group.add_argument(
            "--units",
            choices=tuple(UNIT),
            default="heads",
            help="of what a path is. heads: of every layer K heads; neurons: K neurons of its FFN; both: K heads, then "
            "K neurons. Every head is scored alone beside the path, as Algorithm 1 says (default: %(default)s)",
        )
        opt.add_top_k(group, 1)
        group.add_argument(
            "--search",
            choices=tuple(GREEDY),
            help="how neurons are searched, as of joint_attr, where there are any (default: shortlist)",
        )

    def settle(self, options: Namespace) -> None:
        super().settle(options)
        if options.units == "heads" and options.search:
            raise UserError("--search: heads are all scored, each alone; leave it out, or give other --units")
        if options.units != "heads":
            options.search = options.search or "shortlist"

    def folder(self, options: Namespace) -> str:
        return f"heads/{options.units}" + ("" if options.topK == 1 else f"_top{options.topK}")

    def prepare(self, inputs: Inputs) -> Plan:
        from .extraction_plan import plan_heads

        return plan_heads(inputs)


class Baseline(Extraction):
    """A baseline that the paper does not have: another way to choose a layer's neurons, for both kinds of heads."""

    base_name = "baseline"

    @property
    def scripts(self) -> dict[str, str]:
        return dict.fromkeys(("cls", "mean"), "path/baseline.py")

    def add_options(self, parser: Parser) -> None:
        super().add_options(parser)
        group = parser.add_argument_group("baseline")
        group.add_argument(
            "--method",
            choices=tuple(RANKINGS),
            default="gradient_activation",
            help="by what the neurons of a layer are ranked. gradient_activation: gradient times activation, the "
            "cheapest; conductance, along the ramped image with --ig_total_step nodes k/M; layer_ig: integrated "
            "gradients of the layer alone; ablation: what F loses where the neuron is 0; random: drawn uniformly, see "
            "--seed (default: %(default)s)",
        )
        opt.add_top_k(group, 1)
        group.add_argument(
            "--candidates",
            type=whole_or_all(1),
            metavar="N",
            help="ablation: how many neurons of a layer are tried, the best by gradient times activation, or all, for "
            f"small models; cost is proportional (default: {Ablation().candidates})",
        )

    def settle(self, options: Namespace) -> None:
        super().settle(options)
        if options.candidates is None:
            options.candidates = Ablation().candidates if options.method == "ablation" else None
        elif options.method != "ablation":
            raise UserError(f"--candidates: --method {options.method} has no use for it; leave one of the two out")

    def folder(self, options: Namespace) -> str:
        folder = METHODS[BASELINES[options.method]].job
        return folder if options.topK == 1 else f"{folder}_top{options.topK}"

    def prepare(self, inputs: Inputs) -> Plan:
        from .extraction_plan import plan_baseline

        return plan_baseline(inputs)
