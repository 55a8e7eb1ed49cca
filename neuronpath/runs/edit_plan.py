"""What the edit jobs compute: each image with its own path, read from the records of a search (docs/method.md §5)."""

import copy
import warnings
from argparse import Namespace
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from ..attribution.activations import resample
from ..attribution.controls import matched_draws
from ..attribution.edits import Edit as AnEdit, edit, gain, remove, retain
from ..attribution.objectives import OBJECTIVES
from ..attribution.sites import NEURONS, UNITS, Units
from ..data.images import ImageSet
from ..errors import NonFiniteError, UserError
from ..files import Item, results_folder
from ..models.staged import StagedModel
from ..records.args import Args, args_file, differences
from ..records.reading import label_file, read_class
from ..records.schema import (
    CONTROLS,
    EDITED,
    METHODS,
    OPERATIONS,
    PATH,
    RETAIN,
    UNIT,
    Method,
    Sizes,
    UnitSizes,
    is_path,
    keys_of,
)
from ..records.store import Store
from .ablation import Draw, Resampling, run_means, settings_of
from .run import Inputs, Plan, Run, data_and_model
from .summary import EditSummary


@dataclass(frozen=True)
class Paths:
    """What a search found: L lists of K neurons for each image, and the items that have none, each with what to do.

    `origin`: the settings with which they were found, {} where nothing tells.
    """

    of: dict[str, list[list[int]]]
    lacking: dict[Item, str]
    origin: dict = field(default_factory=dict)

    def best(self, k: int) -> "Paths":
        """Cut to the best `k` neurons of every layer, or all where there are fewer."""
        cut = {image: [layer[:k] for layer in path] for image, path in self.of.items()}
        return Paths(cut, self.lacking, self.origin)


@dataclass(frozen=True, kw_only=True)
class EditPlan(Plan):
    """`operations`: keys of the records, of OPERATIONS or RETAIN; `gains`: factors whose results are lists.

    `double`: the model in float64, for the matched control, whose draws in fp32 would depend on the batch size.
    `ablation`: what removal sets units to, of ABLATIONS; `means` (L, H) for the mean, known once the run has begun;
    `resampling` for other images.
    """

    paths: dict[str, list[list[int]]]
    operations: tuple[str, ...]
    gains: tuple[float, ...]
    double: StagedModel | None
    units: Units = NEURONS
    ablation: str = "zero"
    means: Tensor | None = None
    resampling: Resampling | None = None

    def summary(self) -> EditSummary:
        return EditSummary(self.operations)

    def check(self, record: dict) -> str:
        known = self.paths.get(record["image"])
        if known is not None and record.get("path") != known:
            return "its path is not the one that is now read for this image"
        return super().check(record)

    def begin(self, run: Run, store: Store) -> "EditPlan":
        return replace(self, means=run_means(run, store, self.units)) if self.ablation == "mean" else self

    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        """With several draws every result is the mean over them; draw i of the control takes other image i."""
        model, method = self.inputs.model, self.inputs.options.method
        own = [self.paths[item.image] for item in items]
        paths, ratios = [torch.tensor(own)], list[list[list[float]]]()
        if self.double:
            names = [item.image for item in items]
            drawing = {"seed": self.inputs.options.seed, "rows": rows, "units": self.units}
            paths, ratios = matched_draws(self.double, images, own, names, **drawing)
        paths = [path.to(images.device) for path in paths]
        others = self.resampling.draws(items) if self.resampling else []
        edits = self._edits(paths, others, rows)
        logits = edit(model, images, None, *chain(*edits), internal_batch_size=rows)
        shares = [x.softmax(-1) for x in logits]
        check_finite(*shares)
        shown = OBJECTIVES[self.inputs.options.objective].probabilities
        found = torch.stack([torch.stack(shares), torch.stack([shown(x) for x in logits])])  # (2, 1 + edits, B, C)
        labels = torch.tensor([item.label for item in items], device=images.device)
        prob, pred = label_probability(found[1, :1], labels), found[0, 0].argmax(-1).tolist()
        ablation = {} if self.ablation == "zero" else {"ablation": self.ablation}
        records = [
            {"pred": p, "prob": q, "method": method, **ablation, "path": path, "original": q, "original_label": p}
            for path, p, (q,) in zip(own, pred, prob, strict=True)
        ]
        names = [*self.operations, *("gain" for _ in self.gains)]
        by_result = [x.unbind(1) for x in found[:, 1:].split([len(of_result) for of_result in edits], 1)]
        means = {i: x[0] for i, x in enumerate(by_result)}  # (2, B, C)
        if drawn := [i for i, x in enumerate(by_result) if len(x) > 1]:
            draws = torch.stack([torch.stack(by_result[i], 1) for i in drawn], 2)  # (2, draws, drawn, B, C)
            means |= zip(drawn, torch.stack([x.mean(0) for x in draws]).unbind(1), strict=True)
        for record, result in zip(records, _results(names, torch.stack([*means.values()], 1), labels), strict=True):
            record |= result
        if drawn:
            of_draws = [_results([names[i] for i in drawn], x, labels) for x in draws.unbind(1)]
            for b, record in enumerate(records):
                of_paths = [{"path": path[b].tolist()} for path in paths] if self.double else [{}] * len(of_draws)
                of_others = [{"other": draw.names[b]} for draw in others] or [{}] * len(of_draws)
                parts = zip(of_paths, of_others, of_draws, strict=True)
                record["draws"] = [{**path, **other, **results[b]} for path, other, results in parts]
                record |= {"control_ratio": ratios[b]} if ratios else {}
        return records

    def _edits(self, paths: list[Tensor], others: list[Draw], rows: int) -> list[list[AnEdit]]:
        """Of every operation, then every gain, its edits: one per draw, one alone where nothing is drawn for it."""
        model, edits = self.inputs.model, list[list[AnEdit]]()
        for name in self.operations:
            if name == RETAIN:
                assert self.means is not None
                edits.append([retain(model, path, self.means, self.units) for path in paths])
            elif name == "remove" and others:
                of_draws = paths if self.double else paths * len(others)
                edits.append(
                    [
                        resample(model, path, draw.images, units=self.units, internal_batch_size=rows)
                        for path, draw in zip(of_draws, others, strict=True)
                    ]
                )
            elif name == "remove":
                edits.append([remove(model, path, self.means, self.units) for path in paths])
            else:
                edits.append([gain(model, path, OPERATIONS[name].factor, self.units) for path in paths])
        return edits + [[gain(model, path, factor, self.units) for path in paths] for factor in self.gains]


def _results(names: list[str], edited: Tensor, labels: Tensor) -> list[dict]:
    """The keys of each image; `edited` (2, results, B, C): by softmax, which predicts, and as recorded.

    `names`: of each result its key; those of several that are called "gain" make one list.
    """
    results = []
    shares, shown = edited
    for p, label in zip(label_probability(shown, labels), shares.argmax(-1).T.tolist(), strict=True):
        result: dict[str, object] = {}
        for name, probability, predicted in zip(names, p, label, strict=True):
            if name != "gain":
                result |= {name: probability, f"{name}_label": predicted}
        gains = [i for i, name in enumerate(names) if name == "gain"]
        if gains:
            result |= {"gain": [p[i] for i in gains], "gain_label": [label[i] for i in gains]}
        results.append(result)
    return results


def plan_edits(inputs: Inputs, paths: Paths, operations: tuple[str, ...], settings: dict) -> EditPlan:
    """UserError for paths of unequal K, and where the matched control has too few units to draw from."""
    sizes = {len(layer): image for image, path in paths.of.items() for layer in path}
    if len(sizes) > 1:
        (k, image), (other_k, other) = list(sizes.items())[:2]
        raise UserError(f"{image} and {other}: paths of {k} and {other_k} neurons per layer; edit one K")
    options, double, ablation = inputs.options, None, inputs.options.ablation
    gains = tuple(getattr(options, "gain", ()))
    if ablation == "mean":
        operations = (*operations, RETAIN)
    writers = ["edit", *operations, *(["gain"] if gains else []), *(["ablation"] if ablation != "zero" else [])]
    units = UNITS[EDITED[options.method].units]
    if options.method in CONTROLS:
        k, H = max(sizes, default=0), min(units.counts(inputs.model))
        if 2 * k > H:
            raise UserError(
                f"--method {options.method}: paths of {k} of {H} {units.noun} per layer leave too few to draw from"
            )
        where = "cpu" if options.device.type == "mps" else options.device  # mps has no float64
        double = copy.deepcopy(inputs.model).to(where).double()
        writers.append("draws")
        settings = {**settings, "control": "weight"}
    return EditPlan(
        inputs=inputs,
        items=inputs.items,
        keys=keys_of(*writers),
        settings={**settings, **settings_of(inputs, ablation), "objective": options.objective},
        sizes=_path_sizes(inputs, units),
        units=units,
        lacking=paths.lacking,
        origin=paths.origin,
        paths=paths.of,
        operations=operations,
        gains=gains,
        double=double,
        ablation=ablation,
        resampling=Resampling(inputs) if ablation == "resample" else None,
    )


def label_probability(probabilities: Tensor, labels: Tensor) -> list[list[float]]:
    """Per image the label's probability in each of `probabilities` (operations, B, C)."""
    return probabilities.gather(2, labels[None, :, None].expand(len(probabilities), -1, 1))[..., 0].T.tolist()


def check_finite(*probabilities: Tensor) -> None:
    """NonFiniteError where probabilities (B, C) are not finite."""
    bad = (~torch.stack(probabilities).isfinite()).any(-1).any(0).nonzero()
    if len(bad):
        raise NonFiniteError(int(bad[0].item()), "probabilities")


def read_paths(inputs: Inputs, items: list[Item]) -> Paths:
    """The paths of `items`. UserError for records that are broken, do not fit the model or are of other weights."""
    options, source = inputs.options, inputs.source
    directory, method = paths_folder(options)
    key, origin, sizes = method.path, _origin(inputs, directory), _path_sizes(inputs, UNITS[method.units])
    paths: dict[str, list[list[int]]] = {}

    def check(record: dict) -> str:
        unit = UNIT[method.units]
        if method.units != "neurons" and record.get("unit") != unit:
            return f"its unit is not {unit}; give the records of {method.job} for this model"
        if is_path(record.get(key), sizes):
            return ""
        return f"its {key} is not {PATH.of(sizes)}; give the records of {method.job} for this model"

    for label, names in _images(source, {item.label for item in items}).items():
        file = label_file(directory, options.input_prefix, label)
        if file.exists():
            found = read_class(file, label, names, check, others=options.dataset == "images")
            paths |= {image: record[key] for image, record in found.items()}
    where = f"{directory} ({options.input_prefix})"
    advice = f"no path for it in {where}; run the search on it, or use --on_bad_image skip"
    return Paths(paths, {item: f"{item.image}: {advice}" for item in items if item.image not in paths}, origin)


def _path_sizes(inputs: Inputs, units: Units) -> Sizes:
    config = inputs.model.config
    return config if units is NEURONS else UnitSizes(tuple(units.counts(inputs.model)), config.num_classes)


def read_best(inputs: Inputs, k: int) -> Paths:
    """The paths of the run's images, cut to the best `k` neurons of every layer. UserError where one has fewer."""
    paths = read_paths(inputs, inputs.items)
    for item in inputs.items:
        least = min((len(layer) for layer in paths.of.get(item.image, [])), default=k)
        if least < k:
            raise UserError(
                f"{item.image}: its path has {least} neurons per layer; lower --topK {k}, or search with it"
            )
    return paths.best(k)


def _images(source: ImageSet, labels: set[int]) -> dict[int, list[str]]:
    """All images of each of `labels`, in the data set's order."""
    images: dict[int, list[str]] = {label: [] for label in sorted(labels)}
    for item in source.items:
        if item.label in images:
            images[item.label].append(item.image)
    return images


def paths_folder(options: Namespace) -> tuple[Path, Method]:
    """Where the paths of the chosen method are, and whose they are."""
    method = METHODS[CONTROLS.get(options.method, options.method)]
    own = "edit_operation" in options and method.job != "influence_pattern"  # topK/ has a folder for every K
    job = f"{method.job}_top{options.topK}" if own and (options.topK > 1 or method.job == "ja") else method.job
    directory = getattr(options, method.option) or results_folder(job, options)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; run the search first, or give --{method.option}")
    return directory, method


def _origin(inputs: Inputs, directory: Path) -> dict:
    """With which settings the paths were found, {} where nothing tells; a warning where they differ from this run's.

    UserError where other weights found them, unless that is allowed.
    """
    options = inputs.options
    file = args_file(directory, options.input_prefix)
    if not file.exists():
        return {}
    found = Args.read(file)
    # Edits are of the label's probability; images alone have the predicted class for it.
    target = "pred" if options.dataset == "images" else "label"
    own = {"precision": options.precision, "target": target, "objective": options.objective}
    now = data_and_model(inputs) | own
    weights = ("checkpoint_sha256", "classifier_sha256")
    other = differences(found.settings, now, weights)
    if other and not options.allow_other_weights:
        raise UserError(
            f"{file}: its paths were found on other weights ({other}); search "
            "with these weights, or give --allow_other_weights"
        )
    if changed := differences(found.settings, now, now):
        warnings.warn(f"{file}: its paths were found with other settings ({changed})", stacklevel=2)
    return found.circumstances()
