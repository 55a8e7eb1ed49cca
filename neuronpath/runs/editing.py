"""The edit job: each image with its own path, read from the records of a search (docs/method.md §5)."""

import copy
import os
import random
import warnings
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

from ..attribution.edits import edit, gain
from ..attribution.engine import plain_forward
from ..attribution.search import NonFiniteError
from ..cli import options as opt
from ..cli.parsing import Parser
from ..data.images import ImageSet, Item
from ..errors import UserError
from ..models.vit import VisionTransformer
from ..records.args import Args, args_file, differences
from ..records.methods import METHODS, Method
from ..records.reading import is_path, label_file, read_class
from .job import Job, data_and_model
from .summary import EditSummary

FACTORS = {"remove": 0.0, "enhance": 2.0}
DRAWS, NEAREST = 5, 20  # of the matched control


class Edit(Job):
    """Remove and enhance every image's own path: probabilities and predicted classes before and after.

    With the method "random", the matched control, every result is the mean over DRAWS paths.
    """

    scripts = {  # noqa: RUF012
        "cls": "experiments/quantitative-comparison/manipulation/ViT/edit.py",
        "mean": "experiments/quantitative-comparison/manipulation/MAE/edit.py",
    }

    @property
    def name(self) -> str:
        return "edit" if self.pool == "cls" else "edit_mae"

    @property
    def keys(self) -> tuple[str, ...]:
        edited = [key for operation in ("original", *self.factors) for key in (operation, f"{operation}_label")]
        return ("pred", "prob", "method", "path", *edited)

    def add_options(self, parser: Parser) -> None:
        opt.add_paths(parser, "ja", "random")
        opt.add_gain(parser)

    @property
    def factors(self) -> dict[str, float]:
        """By operation, a key of the records."""
        return FACTORS

    @property
    def gains(self) -> list[float]:
        """Factors whose results are recorded as lists."""
        return self.options.gain

    def folder(self) -> str:
        return f"edit/remove_enhance/{self.options.method}"

    def settings(self) -> dict:
        numbers = {"gain": self.gains} if self.gains else {}
        return {"method": self.options.method, "operation": "remove_enhance", **numbers, "seed": self.options.seed}

    def prepare(self, model, source, items):
        self.paths, missing, self.origin = self.read_paths(model, source, items)
        sizes = {len(layer): image for image, path in self.paths.items() for layer in path}
        if len(sizes) > 1:
            image, other = list(sizes.values())[:2]
            raise UserError(
                f"{image} and {other}: paths of {min(sizes)} and {max(sizes)} neurons per layer; edit one K"
            )
        if self.options.method == "random":
            k, H = max(sizes, default=0), model.config.mlp_dim
            if 2 * k > H:
                raise UserError(f"--method random: paths of {k} of {H} neurons per layer leave too few to draw from")
            # Ranks in fp32 would depend on the batch size; mps has no float64.
            where = "cpu" if self.options.device.type == "mps" else self.options.device
            self.double = copy.deepcopy(model).to(where).double()
        return items, missing

    def read_paths(self, model, source, items):
        return read_paths(self.options, model, source, items)

    def summary(self) -> EditSummary:
        return EditSummary(tuple(self.factors))

    def check(self, record, config) -> str:
        known = self.paths.get(record["image"])
        if known is not None and record.get("path") != known:
            return "its path is not the one that is now read for this image"
        return super().check(record, config)

    def records(self, model, items, images) -> list[dict]:
        options = self.options
        paths = [self.paths[item.image] for item in items]
        matched = options.method == "random"
        draws = self._draws(items, images, paths, options.seed) if matched else [torch.tensor(paths)]
        factors = [*self.factors.values(), *self.gains]
        edits = [gain(model, path.to(images.device), factor) for path in draws for factor in factors]
        logits = edit(model, images, None, *edits, internal_batch_size=options.internal_batch_size)
        original, *edited = (x.softmax(-1) for x in logits)
        check_finite(original, *edited)
        edited = torch.stack(edited).unflatten(0, (len(draws), len(factors)))  # (draws, operations, B, C)
        labels = torch.tensor([item.label for item in items], device=images.device)
        prob, pred = label_probability(original[None], labels), original.argmax(-1).tolist()
        records = [
            {"pred": p, "prob": q, "method": options.method, "path": path, "original": q, "original_label": p}
            for path, p, (q,) in zip(paths, pred, prob, strict=True)
        ]
        for record, result in zip(records, self._results(edited.mean(0), labels), strict=True):
            record |= result
        if matched:
            of_draws = [self._results(x, labels) for x in edited]
            for i, record in enumerate(records):
                record["draws"] = [
                    {"path": path[i].tolist(), **results[i]} for path, results in zip(draws, of_draws, strict=True)
                ]
        return records

    def _draws(self, items: list[Item], images: Tensor, paths: list, seed: int) -> list[Tensor]:
        parts = images.to(self.double.pos_embed).split(self.options.internal_batch_size)
        hidden = [plain_forward(self.double, part).hidden for part in parts]
        sums = torch.cat([torch.stack([h.sum(1) for h in layers], 1) for layers in hidden])  # (B, L, H)
        drawn = [
            matched_paths(s, path, item.image, seed) for s, path, item in zip(sums.cpu(), paths, items, strict=True)
        ]
        return list(torch.tensor(drawn).unbind(1))

    def _results(self, edited: Tensor, labels: Tensor) -> list[dict]:
        """The keys of each image from its probabilities (operations, B, C)."""
        operations = tuple(self.factors)
        results = []
        for p, label in zip(label_probability(edited, labels), edited.argmax(-1).T.tolist(), strict=True):
            result = {}
            for i, operation in enumerate(operations):
                result |= {operation: p[i], f"{operation}_label": label[i]}
            if self.gains:
                result |= {"gain": p[len(operations) :], "gain_label": label[len(operations) :]}
            results.append(result)
        return results


def label_probability(probabilities: Tensor, labels: Tensor) -> list[list[float]]:
    """Per image the label's probability in each of `probabilities` (operations, B, C)."""
    return probabilities.gather(2, labels[None, :, None].expand(len(probabilities), -1, 1))[..., 0].T.tolist()


def check_finite(*probabilities: Tensor) -> None:
    """NonFiniteError where probabilities (B, C) are not finite."""
    bad = (~torch.stack(probabilities).isfinite()).any(-1).any(0).nonzero()
    if len(bad):
        raise NonFiniteError(bad[0].item(), "probabilities")


def matched_paths(activations: Tensor, path: list[list[int]], image: str, seed: int) -> list[list[list[int]]]:
    """DRAWS paths of units about as active as `path`'s: the matched control.

    For each neuron of `path` (L lists of K) one of the NEAREST units in the rank of `activations` (L, H), uniformly;
    never one of `path`, and none twice in a draw. Each layer has a generator of its own, seeded by `seed`, `image`
    and the layer, so that nothing depends on batches.
    """
    layers = []
    for layer, (values, neurons) in enumerate(zip(activations, path, strict=True)):
        order = values.argsort(descending=True, stable=True).tolist()
        generator = random.Random(f"{seed}/{layer}/".encode() + os.fsencode(image))
        layers.append([_matched(order, neurons, generator) for _ in range(DRAWS)])
    return [list(draw) for draw in zip(*layers, strict=True)]


def _matched(order: list[int], neurons: list[int], generator: random.Random) -> list[int]:
    used, drawn = set(neurons), []
    for neuron in neurons:
        rank, reach = order.index(neuron), NEAREST + 2 * len(neurons)
        window = range(max(0, rank - reach), min(len(order), rank + reach + 1))
        nearest = sorted(window, key=lambda r: abs(r - rank))  # stable: of two as near, the more active first
        drawn.append(generator.choice([order[r] for r in nearest if order[r] not in used][:NEAREST]))
        used.add(drawn[-1])
    return drawn


def read_paths(
    options: Namespace, model: VisionTransformer, source: ImageSet, items: list[Item]
) -> tuple[dict[str, list], dict[Item, str], dict]:
    """Each image's path, L lists of K neurons; the items that have none, each with what to do about it; settings.

    The settings are those with which the paths were found, {} where nothing tells. UserError for records that are
    broken or do not fit the model, or of other weights.
    """
    directory, method = paths_folder(options)
    key = method.path
    origin = _origin(options, directory, model)
    images: dict[int, list[str]] = {label: [] for label in sorted({item.label for item in items})}
    for item in source.items:
        if item.label in images:
            images[item.label].append(item.image)
    c, paths = model.config, {}

    def check(record: dict) -> str:
        if is_path(record.get(key), c):
            return ""
        wanted = f"{c.depth} lists of distinct neurons, each 0 to {c.mlp_dim - 1}"
        return f"its {key} is not {wanted}; give the records of {method.job} for this model"

    for label, names in images.items():
        file = label_file(directory, options.input_prefix, label)
        if file.exists():
            found = read_class(file, label, names, check)
            paths |= {image: record[key] for image, record in found.items()}
    missing = [item for item in items if item.image not in paths]
    advice = f"no path for it in {directory} ({options.input_prefix}); run the search on it, or use --on_bad_image skip"
    return paths, {item: f"{item.image}: {advice}" for item in missing}, origin


def paths_folder(options: Namespace) -> tuple[Path, Method]:
    """Where the paths of the chosen method are, and whose they are."""
    method = METHODS["ja" if options.method == "random" else options.method]
    given = {"ja": options.ja_path, "influence_pattern": options.influence_pattern_path}[method.job]
    job = method.job if method.job != "ja" or "topK" not in options else f"ja_top{options.topK}"
    directory = given or opt.ROOT / "results" / job / opt.model_name(options)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; run the search first, or give --{method.job}_path")
    return directory, method


def _origin(options: Namespace, directory: Path, model: VisionTransformer) -> dict:
    """With which settings the paths were found, {} where nothing tells; a warning where they differ from this run's.

    UserError where other weights found them, unless that is allowed.
    """
    file = args_file(directory, options.input_prefix)
    if not file.exists():
        return {}
    found = Args.read(file).settings
    now = {**data_and_model(options, model), "target": "label"}  # edits are of the label's probability
    weights = "checkpoint_sha256"
    if found.get(weights) != now[weights] and not options.allow_other_weights:
        raise UserError(
            f"{file}: its paths were found on other weights ({differences(found, now, [weights])}); search with these "
            "weights, or give --allow_other_weights"
        )
    if changed := differences(found, now, now):
        warnings.warn(f"{file}: its paths were found with other settings ({changed})", stacklevel=2)
    return Args("", found).circumstances()
