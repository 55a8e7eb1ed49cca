"""What the extraction jobs compute: the columns of their records."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attribution.adaptive import NODES, find_path_auto
from ..attribution.baselines import baseline_path
from ..attribution.candidates import STOPPED
from ..attribution.forward import resolve_targets
from ..attribution.heads import find_head_path
from ..attribution.influence import influence_path
from ..attribution.objectives import OBJECTIVES, of_classes
from ..attribution.quadrature import AUTO, Quadrature
from ..attribution.rankings import RANKINGS, Ablation, RandomUnits, Ranking
from ..attribution.search import NeuronPath, find_path
from ..attribution.searches import GREEDY, Beam, Search, Shortlist
from ..attribution.sites import UNITS
from ..errors import UserError
from ..files import Item
from ..records.schema import BASELINES, METHODS, NEAR_TIES, UNIT, UnitSizes, keys_of
from .edit_plan import check_finite
from .run import Inputs, Plan
from .summary import ScoreSummary

CONVERGED = {1: True, 0: False, -1: None}  # NeuronPath.converged in records
#: Columns of a record from images, their names, targets and rows.
Find = Callable[[Tensor, list[str], Tensor, int], dict]


@dataclass(frozen=True, kw_only=True)
class ExtractionPlan(Plan):
    """`find` gives the columns of the records; `methods`, keys of METHODS, are those whose paths it finds."""

    find: Find
    methods: tuple[str, ...]

    def summary(self) -> ScoreSummary:
        scores = {METHODS[method].score: METHODS[method].noun for method in self.methods}
        ladder = self.settings.get("auto_nodes", ())
        options = self.inputs.options
        return ScoreSummary(scores, NEAR_TIES[options.precision], OBJECTIVES[options.objective].unit, ladder)

    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        targets = targets_of(self.inputs.options, items, images.device)
        columns = self.find(images, [item.image for item in items], targets, rows)
        logits = columns.pop("logits")
        check_finite(logits.softmax(-1))
        probabilities = OBJECTIVES[self.inputs.options.objective].probabilities(logits)
        prob = of_classes(probabilities, resolve_targets(targets, logits))
        columns = {"pred": logits.argmax(-1), "prob": prob, **columns}
        values = [columns[key].tolist() if isinstance(columns[key], Tensor) else columns[key] for key in self.keys]
        return [dict(zip(self.keys, row, strict=True)) for row in zip(*values, strict=True)]


def plan_joint_attribution(inputs: Inputs, k: int, methods: tuple[str, ...]) -> ExtractionPlan:
    """UserError for numbers that do not fit the model."""
    o = inputs.options
    _check_k(inputs, k)
    if o.shortlist_max is not None and o.shortlist_max < k:
        raise UserError(f"--shortlist_max {o.shortlist_max}: at least the {k} neurons of --topK must be scored")
    scored = o.beam_over or o.search
    over = Shortlist(o.shortlist_max, o.shortlist_kappa) if scored == "shortlist" else GREEDY[scored]
    search: Search = over
    more = {"search": o.search, "topK": k}
    writers = ["joint_attr"]
    if o.search == "beam":
        search = Beam(o.beam_width, over)
        more |= {"beam_width": o.beam_width, "beam_over": o.beam_over}
        writers.append("beam")
    if isinstance(over, Shortlist):
        more |= {f"shortlist_{name}": getattr(over, name) for name in ("kappa", "first")} | {"shortlist_max": over.most}
        writers.append("shortlist")
    if o.quadrature == AUTO:
        more |= {"auto_nodes": list(NODES[o.search])}
        writers.append("auto")

    def find(images: Tensor, _: list[str], targets: Tensor, rows: int) -> dict:
        given, named = (inputs.model, images, targets), {"search": search, "objective": o.objective}
        if o.quadrature == AUTO:
            return path_columns(find_path_auto(*given, k=k, internal_batch_size=rows, **named))
        rule = Quadrature(o.quadrature, o.ig_total_step)
        return path_columns(find_path(*given, rule, k, internal_batch_size=rows, **named))

    return _plan(inputs, find, methods, keys_of(*writers), more)


def plan_influence(inputs: Inputs, methods: tuple[str, ...]) -> ExtractionPlan:
    o, model = inputs.options, inputs.model
    quadrature = Quadrature(o.quadrature, o.ig_total_step)

    def find(images: Tensor, _: list[str], targets: Tensor, rows: int) -> dict:
        found = influence_path(model, images, targets, quadrature, objective=o.objective, internal_batch_size=rows)
        return {"logits": found.logits, "path": found.path, "score": found.score, "margin": found.margin}

    return _plan(inputs, find, methods, keys_of("influence_pattern"), {})


def plan_baseline(inputs: Inputs) -> ExtractionPlan:
    """UserError for numbers that do not fit the model."""
    o, model = inputs.options, inputs.model
    quadrature, ranking = Quadrature(o.quadrature, o.ig_total_step), _ranking(o)
    _check_k(inputs, o.topK)
    more = {"method": o.method, "topK": o.topK}
    if isinstance(ranking, Ablation):
        if ranking.candidates is not None and ranking.candidates < o.topK:
            raise UserError(f"--candidates {o.candidates}: at least the {o.topK} neurons of --topK must be tried")
        more |= {"candidates": o.candidates}
    if isinstance(ranking, RandomUnits):
        more |= {"seed": ranking.seed}

    def find(images: Tensor, names: list[str], targets: Tensor, rows: int) -> dict:
        named = {"k": o.topK, "names": names, "objective": o.objective, "internal_batch_size": rows}
        found = baseline_path(model, images, targets, ranking, quadrature, **named)
        return {"logits": found.logits, "path": found.path, "score": found.score, "margin": found.margin}

    return _plan(inputs, find, (BASELINES[o.method],), keys_of("baseline"), more)


def plan_heads(inputs: Inputs) -> ExtractionPlan:
    """UserError for numbers that do not fit the model, and for attention that cannot be opened."""
    o, model, units = inputs.options, inputs.model, UNITS[inputs.options.units]
    counts, quadrature = units.counts(model), Quadrature(o.quadrature, o.ig_total_step)
    if o.topK > min(counts):
        raise UserError(f"--topK {o.topK}: a layer of this model has {min(counts)} {units.noun}")
    search = {"search": o.search} if o.search else {}

    def find(images: Tensor, _: list[str], targets: Tensor, rows: int) -> dict:
        named = {**search, "objective": o.objective, "internal_batch_size": rows}
        found = find_head_path(model, images, targets, quadrature, o.topK, units=units, **named)
        return {
            "logits": found.logits,
            "unit": [UNIT[units.name]] * len(images),
            "ja": found.path,
            "ja_score": found.score,
            "ja_drop": found.drop,
            "ja_act": found.activation,
            "base": found.base_path,
            "base_score": found.base_score,
            "base_drop": found.base_drop,
            "base_act": found.base_activation,
            "gate": found.gradient_path,
            "gate_score": found.gradient_score,
            "gate_drop": found.gradient_drop,
            "margin": found.margin,
        }

    more = {"units": o.units, "topK": o.topK, "units_per_layer": max(counts), **search}
    methods = tuple(key for key, method in METHODS.items() if method.job == f"heads/{o.units}")
    plan = _plan(inputs, find, methods, keys_of("heads"), more)
    return replace(plan, sizes=UnitSizes(tuple(counts), model.config.num_classes))


def _ranking(options: Namespace) -> Ranking:
    if options.method == "ablation":
        return Ablation(None if options.candidates == "all" else options.candidates)
    return RandomUnits(options.seed) if options.method == "random" else RANKINGS[options.method]


def _check_k(inputs: Inputs, k: int) -> None:
    if k > (neurons := inputs.model.config.mlp_dim):
        raise UserError(f"--topK {k}: a layer of this model has {neurons} neurons")


def _plan(inputs: Inputs, find: Find, methods: tuple[str, ...], keys: tuple[str, ...], more: dict) -> ExtractionPlan:
    options, classes = inputs.options, inputs.model.config.num_classes
    if isinstance(options.target, int) and options.target >= classes:
        raise UserError(f"--target {options.target}: the model's classes are 0 to {classes - 1}")
    settings = {name: getattr(options, name) for name in ("target", "objective", "quadrature", "ig_total_step")} | more
    return ExtractionPlan(inputs=inputs, items=inputs.items, keys=keys, settings=settings, find=find, methods=methods)


def targets_of(options: Namespace, items: list[Item], device: torch.device) -> Tensor:
    """(B,) class indices, -1 for the predicted class."""
    fixed = {"pred": -1}.get(options.target, options.target)
    return torch.tensor([item.label if fixed == "label" else fixed for item in items], device=device)


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
        "greedy_score": found.greedy_score,
    }
    if found.search_stopped is not None:
        columns["search_stopped"] = [[STOPPED[i] for i in layers] for layers in found.search_stopped.tolist()]
    if found.converged is not None:
        columns["converged"] = [CONVERGED[i] for i in found.converged.tolist()]
    return columns
