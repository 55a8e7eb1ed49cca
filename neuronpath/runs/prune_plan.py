"""What pruning by class computes: the retained units of every class, and its held-out images without the others."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution.controls import random_units
from ..attribution.edits import edit
from ..attribution.objectives import OBJECTIVES
from ..attribution.pruning import prune, retained_units, split, unit_draws
from ..errors import UserError
from ..files import Item
from ..records.schema import keys_of
from .edit_plan import Paths, check_finite, label_probability, read_paths
from .run import Inputs, Plan
from .summary import EditSummary

Parts = dict[int, tuple[list[Item], list[Item]]]  # by label, its selection and its evaluation images


@dataclass(frozen=True, kw_only=True)
class PrunePlan(Plan):
    """One record for every evaluation image: with all units, and with most of them zeroed.

    By label, `retained`: the units that stay, L lists of K; `edits` (1, L, H).
    """

    retained: dict[int, list[list[int]]]
    edits: dict[int, Tensor]

    def summary(self) -> EditSummary:
        return EditSummary(("prune",))

    def check(self, record: dict) -> str:
        label = record.get("label")
        if not isinstance(label, int) or record.get("path") != self.retained.get(label):
            return "its retained units are not those that are now selected for its class"
        return super().check(record)

    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        options = self.inputs.options
        factors = torch.cat([self.edits[item.label] for item in items]).to(images)
        everywhere = options.prune_tokens == "all"
        logits = edit(self.inputs.model, images, None, factors, all_tokens=everywhere, internal_batch_size=rows)
        shares = torch.stack([x.softmax(-1) for x in logits])  # (2, B, C)
        check_finite(*shares)
        shown = torch.stack([OBJECTIVES[options.objective].probabilities(x) for x in logits])
        labels = torch.tensor([item.label for item in items], device=images.device)
        prob, pred = label_probability(shown, labels), shares.argmax(-1).T.tolist()
        return [
            {
                "pred": before,
                "prob": p,
                "method": options.method,
                "path": self.retained[item.label],
                "original": p,
                "original_label": before,
                "prune": q,
                "prune_label": after,
            }
            for item, (p, q), (before, after) in zip(items, prob, pred, strict=True)
        ]


def plan_pruning(inputs: Inputs) -> PrunePlan:
    """UserError for numbers that do not fit the model, and for classes that have nothing to select or evaluate."""
    options, config = inputs.options, inputs.model.config
    depth = config.depth if options.depth_prune is None else options.depth_prune
    if depth > config.depth:
        raise UserError(f"--depth_prune {depth}: this model has {config.depth} layers")
    if options.topK > config.mlp_dim:
        raise UserError(f"--topK {options.topK}: a layer of this model has {config.mlp_dim} neurons")
    # images_per_class: a class's first images select, so that their number changes what is retained.
    names = ["method", "objective", "topK", "mask_proportion", "select_fraction", "prune_tokens", "seed"]
    chosen = {name: getattr(options, name) for name in (*names, "images_per_class")}
    parts = _split(inputs)
    retained, paths = _select(inputs, parts)
    draws = {label: unit_draws(options.seed, label, config.depth, config.mlp_dim) for label in retained}
    return PrunePlan(
        inputs=inputs,
        items=[item for _, evaluation in parts.values() for item in evaluation],
        keys=keys_of("prune"),
        settings={"operation": "prune", "depth_prune": depth, **chosen},
        lacking=paths.lacking,
        origin=paths.origin,
        retained=retained,
        edits={
            label: prune(
                inputs.model,
                torch.tensor([units]),
                torch.from_numpy(draws[label])[None],
                options.mask_proportion,
                depth,
            )
            for label, units in retained.items()
        },
    )


def _split(inputs: Inputs) -> Parts:
    """Every class's images in two parts; classes of one image are left out."""
    options, source, classes = inputs.options, inputs.source, dict[int, list[Item]]()
    for item in inputs.items:
        classes.setdefault(item.label, []).append(item)
    alone = [label for label, members in classes.items() if len(members) == 1]
    if alone:
        fault = f"classes of one image, of which nothing is left to evaluate: {', '.join(map(str, alone[:10]))}"
        if len(alone) == len(classes) and options.share.count == 1:
            raise UserError(f"{source.root}: {fault}; give classes of two images or more")
        warnings.warn(f"{source.root}: left out, {fault}", stacklevel=2)
    return {label: split(members, options.select_fraction) for label, members in classes.items() if len(members) > 1}


def _select(inputs: Inputs, parts: Parts) -> tuple[dict[int, list[list[int]]], Paths]:
    """The retained units of every class, and the paths that selected them."""
    o, config = inputs.options, inputs.model.config
    if o.method == "random":
        drawn = {label: random_units(o.seed, label, config.depth, config.mlp_dim, o.topK) for label in parts}
        return drawn, Paths({}, {})
    paths = read_paths(inputs, [item for chosen, _ in parts.values() for item in chosen]).best(o.topK)
    retained = {}
    for label, (chosen, _) in parts.items():
        found = [paths.of[item.image] for item in chosen if item.image in paths.of]
        if found or o.on_bad_image == "skip":
            retained[label] = _retained(label, found, o.topK)
    return retained, paths


def _retained(label: int, paths: list, k: int) -> list[list[int]]:
    if not paths:
        raise UserError(f"label {label}: none of its selection images has a path; leave it out with --labels")
    try:
        return retained_units(paths, k)
    except ValueError as e:
        raise UserError(
            f"label {label}, {e}; lower --topK, or give more selection images or records of more neurons per layer"
        ) from e
