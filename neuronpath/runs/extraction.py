"""The extraction jobs: the neuron path with the activation path beside it, and the Influence Pattern."""

import torch
from torch import Tensor

from ..attribution import adaptive, candidates
from ..attribution.engine import probability, resolve_targets
from ..attribution.influence import influence_path
from ..attribution.quadrature import AUTO, Quadrature
from ..attribution.search import NeuronPath, find_path
from ..cli import options as opt
from ..cli.parsing import Parser
from ..data.images import Item
from ..errors import UserError
from .job import Job
from .summary import NEAR_TIES, ScoreSummary

CONVERGED = {1: True, 0: False, -1: None}  # NeuronPath.converged in records


class Extraction(Job):
    """What both extraction jobs have in common; `scores` maps the keys that are scores to their names."""

    base_name: str
    scores: dict[str, str]
    searches: tuple[str, ...] = ()  # the values of --search

    @property
    def name(self) -> str:
        return self.base_name + ("_mae" if self.pool == "mean" else "")

    @property
    def scripts(self) -> dict[str, str]:
        return {"cls": f"path/{self.base_name}.py", "mean": f"path/{self.base_name}_mae.py"}

    def add_options(self, parser: Parser) -> None:
        opt.add_attribution(parser, self.searches)

    def settings(self) -> dict:
        options = self.options
        return {
            "target": options.target,
            "quadrature": options.quadrature,
            "ig_total_step": options.ig_total_step,
            **({"search": options.search, "topK": self.k} if self.searches else {}),
        }

    def prepare(self, model, source, items):
        target, classes = self.options.target, model.config.num_classes
        if isinstance(target, int) and target >= classes:
            raise UserError(f"--target {target}: the model's classes are 0 to {classes - 1}")
        if self.k > model.config.mlp_dim:
            raise UserError(f"--topK {self.k}: a layer of this model has {model.config.mlp_dim} neurons")
        most = getattr(self.options, "shortlist_max", None)
        if most is not None and most < self.k:
            raise UserError(f"--shortlist_max {most}: at least the {self.k} neurons of --topK must be scored")
        return items, {}

    def summary(self) -> ScoreSummary:
        return ScoreSummary(self.scores, NEAR_TIES[self.options.precision])

    @property
    def k(self) -> int:
        """Neurons per layer."""
        return 1

    @property
    def quadrature(self) -> Quadrature:
        return Quadrature(self.options.quadrature, self.options.ig_total_step)

    def targets(self, items: list[Item], images: Tensor) -> Tensor:
        """(B,) class indices, -1 for the predicted class."""
        fixed = {"pred": -1}.get(self.options.target, self.options.target)
        return torch.tensor([i.label if fixed == "label" else fixed for i in items], device=images.device)


class JointAttribution(Extraction):
    base_name = "joint_attr"
    scores = {"ja_score": "neuron path", "base_score": "activation path"}  # noqa: RUF012
    searches = candidates.SEARCHES

    @property
    def keys(self) -> tuple[str, ...]:
        fixed = ("pred", "prob", "ja", "ja_score", "ja_act", "base", "base_score", "base_act", "margin")
        shortlist = ("search_rank", "search_scored", "search_stopped") if self.options.search == "shortlist" else ()
        return (*fixed, *shortlist, *(("nodes", "converged") if self.options.quadrature == AUTO else ()))

    def settings(self) -> dict:
        settings, options = super().settings(), self.options
        if options.search == "shortlist":
            settings |= {"shortlist_max": options.shortlist_max, "shortlist_kappa": candidates.KAPPA}
        if options.quadrature == AUTO:
            settings |= {"auto_threshold": adaptive.THRESHOLD}
        return settings

    def folder(self) -> str:
        return "ja"

    def find(self, model, images: Tensor, targets: Tensor) -> NeuronPath:
        o = self.options
        options = {"k": self.k, "search": o.search, "internal_batch_size": o.internal_batch_size}
        if o.search == "shortlist":
            options["shortlist_max"] = o.shortlist_max
        if o.quadrature == AUTO:
            return adaptive.find_path_auto(model, images, targets, **options)
        return find_path(model, images, targets, self.quadrature, **options)

    def records(self, model, items, images) -> list[dict]:
        targets = self.targets(items, images)
        found = self.find(model, images, targets)
        columns = {
            "ja": found.path,
            "ja_score": found.score,
            "ja_act": found.activation,
            "base": found.base_path,
            "base_score": found.base_score,
            "base_act": found.base_activation,
            "margin": found.margin,
        }
        columns |= {key: getattr(found, key) for key in self.keys if key not in ("pred", "prob", *columns)}
        records = as_records(found.logits, targets, **columns)
        for record in records:
            if "converged" in record:
                record["converged"] = CONVERGED[record["converged"]]
            if "search_stopped" in record:
                record["search_stopped"] = [candidates.STOPPED[i] for i in record["search_stopped"]]
        return records


class TopKAttribution(JointAttribution):
    """The same with K neurons per layer."""

    scripts = {"cls": "topK/path/joint_attr.py"}  # noqa: RUF012

    def add_options(self, parser: Parser) -> None:
        super().add_options(parser)
        opt.add_top_k(parser)

    @property
    def k(self) -> int:
        return self.options.topK

    def folder(self) -> str:
        return f"ja_top{self.k}"


class InfluencePattern(Extraction):
    base_name = "influence_pattern"
    keys = ("pred", "prob", "path", "score", "margin")
    scores = {"score": "influence pattern"}  # noqa: RUF012

    def folder(self) -> str:
        return "influence_pattern"

    def records(self, model, items, images) -> list[dict]:
        targets = self.targets(items, images)
        found = influence_path(model, images, targets, self.quadrature, self.options.internal_batch_size)
        return as_records(found.logits, targets, path=found.path, score=found.score, margin=found.margin)


def as_records(logits: Tensor, targets: Tensor, **columns: Tensor) -> list[dict]:
    """Rows of JSON values from columns of tensors, with `pred` and `prob` of the target before them."""
    prob = probability(logits, resolve_targets(targets, logits))
    values = [column.tolist() for column in (logits.argmax(-1), prob, *columns.values())]
    return [dict(zip(("pred", "prob", *columns), row, strict=True)) for row in zip(*values, strict=True)]
