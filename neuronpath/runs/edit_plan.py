"""What the edit jobs compute: each image with its own path, read from the records of a search (docs/method.md §5)."""

import copy
import warnings
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..attribution.controls import matched_paths
from ..attribution.edits import edit, gain
from ..attribution.forward import plain_forward
from ..attribution.objectives import OBJECTIVES
from ..data.images import ImageSet
from ..errors import NonFiniteError, UserError
from ..files import Item, results_folder
from ..models.staged import StagedModel
from ..records.args import Args, args_file, differences
from ..records.reading import label_file, read_class
from ..records.schema import METHODS, OPERATIONS, PATH, Method, is_path, keys_of
from .run import Inputs, Plan, data_and_model
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
        """Cut to the best `k` neurons of every layer."""
        cut = {image: [layer[:k] for layer in path] for image, path in self.of.items()}
        return Paths(cut, self.lacking, self.origin)


@dataclass(frozen=True, kw_only=True)
class EditPlan(Plan):
    """`operations`: keys of the records, each a factor of OPERATIONS; `gains`: factors whose results are lists.

    `double`: the model in float64, for the matched control, whose ranks in fp32 would depend on the batch size.
    """

    paths: dict[str, list[list[int]]]
    operations: tuple[str, ...]
    gains: tuple[float, ...]
    double: StagedModel | None

    def summary(self) -> EditSummary:
        return EditSummary(self.operations)

    def check(self, record: dict) -> str:
        known = self.paths.get(record["image"])
        if known is not None and record.get("path") != known:
            return "its path is not the one that is now read for this image"
        return super().check(record)

    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        model, method = self.inputs.model, self.inputs.options.method
        paths = [self.paths[item.image] for item in items]
        draws = self._draws(items, images, paths, rows) if self.double else [torch.tensor(paths)]
        factors = [*(OPERATIONS[name].factor for name in self.operations), *self.gains]
        edits = [gain(model, path.to(images.device), factor) for path in draws for factor in factors]
        logits = edit(model, images, None, *edits, internal_batch_size=rows)
        shares = [x.softmax(-1) for x in logits]
        check_finite(*shares)
        shown = OBJECTIVES[self.inputs.options.objective].probabilities
        found = torch.stack([torch.stack(shares), torch.stack([shown(x) for x in logits])])  # (2, 1 + edits, B, C)
        by_draw = found[:, 1:].unflatten(1, (len(draws), len(factors)))  # (2, draws, operations, B, C)
        labels = torch.tensor([item.label for item in items], device=images.device)
        prob, pred = label_probability(found[1, :1], labels), found[0, 0].argmax(-1).tolist()
        records = [
            {"pred": p, "prob": q, "method": method, "path": path, "original": q, "original_label": p}
            for path, p, (q,) in zip(paths, pred, prob, strict=True)
        ]
        means = torch.stack([x.mean(0) for x in by_draw])
        for record, result in zip(records, self._results(means, labels), strict=True):
            record |= result
        if self.double:
            of_draws = [self._results(x, labels) for x in by_draw.unbind(1)]
            for i, record in enumerate(records):
                record["draws"] = [
                    {"path": path[i].tolist(), **results[i]} for path, results in zip(draws, of_draws, strict=True)
                ]
        return records

    def _draws(self, items: list[Item], images: Tensor, paths: list, rows: int) -> list[Tensor]:
        """The matched control's paths, (B, L, K) per draw."""
        assert self.double is not None
        seed, parts = self.inputs.options.seed, images.to(self.double.device, self.double.dtype).split(rows)
        hidden = [plain_forward(self.double, part).hidden for part in parts]
        sums = torch.cat([torch.stack([h.sum(1) for h in layers], 1) for layers in hidden])  # (B, L, H)
        drawn = [
            matched_paths(s, path, item.image, seed) for s, path, item in zip(sums.cpu(), paths, items, strict=True)
        ]
        return list(torch.tensor(drawn).unbind(1))

    def _results(self, edited: Tensor, labels: Tensor) -> list[dict]:
        """The keys of each image; `edited` (2, operations, B, C): by softmax, which predicts, and as recorded."""
        results = []
        shares, shown = edited
        for p, label in zip(label_probability(shown, labels), shares.argmax(-1).T.tolist(), strict=True):
            result: dict[str, object] = {}
            for i, operation in enumerate(self.operations):
                result |= {operation: p[i], f"{operation}_label": label[i]}
            if self.gains:
                result |= {"gain": p[len(self.operations) :], "gain_label": label[len(self.operations) :]}
            results.append(result)
        return results


def plan_edits(inputs: Inputs, paths: Paths, operations: tuple[str, ...], settings: dict) -> EditPlan:
    """UserError for paths of unequal K, and where the matched control has too few units to draw from."""
    sizes = {len(layer): image for image, path in paths.of.items() for layer in path}
    if len(sizes) > 1:
        (k, image), (other_k, other) = list(sizes.items())[:2]
        raise UserError(f"{image} and {other}: paths of {k} and {other_k} neurons per layer; edit one K")
    options, double, writers = inputs.options, None, ["edit", *operations]
    gains = tuple(getattr(options, "gain", ()))
    if gains:
        writers.append("gain")
    if options.method == "random":
        k, H = max(sizes, default=0), inputs.model.config.mlp_dim
        if 2 * k > H:
            raise UserError(f"--method random: paths of {k} of {H} neurons per layer leave too few to draw from")
        where = "cpu" if options.device.type == "mps" else options.device  # mps has no float64
        double = copy.deepcopy(inputs.model).to(where).double()
    return EditPlan(
        inputs=inputs,
        items=inputs.items,
        keys=keys_of(*writers),
        settings={**settings, "objective": options.objective},
        lacking=paths.lacking,
        origin=paths.origin,
        paths=paths.of,
        operations=operations,
        gains=gains,
        double=double,
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
    options, source, config = inputs.options, inputs.source, inputs.model.config
    directory, method = paths_folder(options)
    key, origin = method.path, _origin(inputs, directory)
    paths: dict[str, list[list[int]]] = {}

    def check(record: dict) -> str:
        if is_path(record.get(key), config):
            return ""
        return f"its {key} is not {PATH.of(config)}; give the records of {method.job} for this model"

    for label, names in _images(source, {item.label for item in items}).items():
        file = label_file(directory, options.input_prefix, label)
        if file.exists():
            found = read_class(file, label, names, check, others=options.dataset == "images")
            paths |= {image: record[key] for image, record in found.items()}
    where = f"{directory} ({options.input_prefix})"
    advice = f"no path for it in {where}; run the search on it, or use --on_bad_image skip"
    return Paths(paths, {item: f"{item.image}: {advice}" for item in items if item.image not in paths}, origin)


def _images(source: ImageSet, labels: set[int]) -> dict[int, list[str]]:
    """All images of each of `labels`, in the data set's order."""
    images: dict[int, list[str]] = {label: [] for label in sorted(labels)}
    for item in source.items:
        if item.label in images:
            images[item.label].append(item.image)
    return images


def paths_folder(options: Namespace) -> tuple[Path, Method]:
    """Where the paths of the chosen method are, and whose they are."""
    method = METHODS["ja" if options.method == "random" else options.method]
    several = "topK" in options and method.job != "influence_pattern" and (options.topK > 1 or method.job == "ja")
    job = f"{method.job}_top{options.topK}" if several else method.job
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
