"""Pruning by class: keep the units that a class's paths use most often, zero others (docs/method.md §5)."""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..attribution.edits import edit
from ..cli import options as opt
from ..cli.parsing import Parser
from ..data.images import Item
from ..errors import UserError
from ..models.vit import VisionTransformer
from .editing import Edit, check_finite, label_probability, read_paths
from .job import Job
from .summary import EditSummary

TOPK_SCRIPT = "topK/experiments/quantitative-comparison/manipulation/ViT/edit.py"


def prune(model: VisionTransformer, retained: Tensor, draws: Tensor, proportion: float, depth: int) -> Tensor:
    """The edit (B, L, H) that zeroes, in the first `depth` layers, each unit whose draw is under `proportion`.

    retained (B, L, K): units that stay whatever their draw; draws (B, L, H) in [0, 1). Masks of one draw are nested in
    `proportion`: 0 leaves all units, 1 only the retained ones.
    """
    zeroed = (draws < proportion).to(retained.device).scatter(2, retained, False)
    zeroed[:, depth:] = False
    return (~zeroed).to(model.pos_embed)


def retained_units(paths: Sequence[list[list[int]]], k: int) -> list[list[int]]:
    """Per layer the `k` units most frequent in `paths` (n × L lists of neurons), ties by lowest index.

    ValueError naming the layer where fewer than `k` distinct units occur.
    """
    retained = []
    for layer, neurons in enumerate(zip(*paths, strict=True)):
        counts = Counter(neuron for chosen in neurons for neuron in chosen)
        ranked = sorted(counts, key=lambda neuron: (-counts[neuron], neuron))
        if len(ranked) < k:
            raise ValueError(f"layer {layer}: its paths hold {len(ranked)} distinct units, fewer than {k}")
        retained.append(ranked[:k])
    return retained


def unit_draws(seed: int, label: int, depth: int, num_neurons: int) -> np.ndarray:
    """(L, H) uniform in [0, 1), each layer from a generator of its own for (seed, label, layer)."""
    return np.stack([np.random.default_rng((seed, label, layer)).random(num_neurons) for layer in range(depth)])


def random_units(seed: int, label: int, depth: int, num_neurons: int, k: int) -> list[list[int]]:
    """Per layer `k` distinct units drawn uniformly: the random control. Not of the generators of `unit_draws`."""
    generators = (np.random.default_rng((seed, label, layer, 1)) for layer in range(depth))
    return [generator.choice(num_neurons, k, replace=False).tolist() for generator in generators]


def split(items: Sequence[Item], fraction: float) -> tuple[list[Item], list[Item]]:
    """A class's items in order, as selection, the first ⌊fraction·n⌋, and evaluation; at least one in each."""
    first = min(max(1, int(fraction * len(items) + 1e-9)), len(items) - 1)
    return list(items[:first]), list(items[first:])


class TopKEdit(Edit):
    """Remove or enhance the K best neurons of every layer, or prune all but a class's K most frequent."""

    name = "edit_topk"
    scripts = {"cls": TOPK_SCRIPT}  # noqa: RUF012

    def add_options(self, parser: Parser) -> None:
        opt.add_paths(parser, "ja_top<K>", "random")
        opt.add_top_k(parser)
        opt.add_pruning(parser)

    def chosen(self) -> Job:
        if self.options.edit_operation != "prune":
            return self
        job = Prune(self.pool)
        job.options = self.options
        return job

    @property
    def factors(self) -> dict[str, float]:
        return {self.options.edit_operation: super().factors[self.options.edit_operation]}

    @property
    def gains(self) -> list[float]:
        return []

    def folder(self) -> str:
        return f"edit/{self.options.edit_operation}/{self.options.method}"

    def settings(self) -> dict:
        o = self.options
        return {"method": o.method, "operation": o.edit_operation, "topK": o.topK, "seed": o.seed}

    def read_paths(self, model, source, items):
        paths, missing, origin = read_paths(self.options, model, source, items)
        k = self.options.topK
        for item in items:
            least = min((len(layer) for layer in paths.get(item.image, [range(k)])), default=k)
            if least < k:
                raise UserError(
                    f"{item.image}: its path has {least} neurons per layer; lower --topK {k}, or search with it"
                )
        return best(paths, k), missing, origin


def best(paths: dict[str, list], k: int) -> dict[str, list]:
    """`paths` by image, cut to the best `k` neurons of every layer."""
    return {image: [layer[:k] for layer in path] for image, path in paths.items()}


class Prune(Job):
    """One record for every evaluation image: with all units, and with most of them zeroed at the CLS token."""

    name = "edit_topk"
    keys = ("pred", "prob", "method", "path", "original", "original_label", "prune", "prune_label")
    scripts = {"cls": TOPK_SCRIPT}  # noqa: RUF012

    def folder(self) -> str:
        return f"edit/prune/{self.options.method}"

    def settings(self) -> dict:
        # images_per_class: a class's first images select, so that their number changes what is retained.
        names = ("method", "topK", "mask_proportion", "select_fraction", "prune_tokens", "seed", "images_per_class")
        chosen = {name: getattr(self.options, name) for name in names}
        return {"operation": "prune", "depth_prune": self.depth, **chosen}

    def prepare(self, model, source, items):
        config, options = model.config, self.options
        self.depth = config.depth if options.depth_prune is None else options.depth_prune
        if self.depth > config.depth:
            raise UserError(f"--depth_prune {self.depth}: this model has {config.depth} layers")
        if options.topK > config.mlp_dim:
            raise UserError(f"--topK {options.topK}: a layer of this model has {config.mlp_dim} neurons")
        classes: dict[int, list[Item]] = {}
        for item in items:
            classes.setdefault(item.label, []).append(item)
        alone = [label for label, members in classes.items() if len(members) == 1]
        if alone:
            fault = f"classes of one image, of which nothing is left to evaluate: {', '.join(map(str, alone[:10]))}"
            if len(alone) == len(classes) and options.share.count == 1:
                raise UserError(f"{source.root}: {fault}; give classes of two images or more")
            warnings.warn(f"{source.root}: left out, {fault}", stacklevel=2)
        parts = {
            label: split(members, options.select_fraction) for label, members in classes.items() if len(members) > 1
        }
        missing = self._select(model, source, parts)
        return [item for _, evaluation in parts.values() for item in evaluation], missing

    def _select(self, model, source, parts: dict[int, tuple[list[Item], list[Item]]]) -> dict[Item, str]:
        """Set the retained units and the edit of every class; the selection images without a path."""
        options, L, H = self.options, model.config.depth, model.config.mlp_dim
        self.retained, missing = {}, {}
        if options.method == "random":
            self.retained = {label: random_units(options.seed, label, L, H, options.topK) for label in parts}
        else:
            selection = [item for chosen, _ in parts.values() for item in chosen]
            paths, missing, self.origin = read_paths(options, model, source, selection)
            paths = best(paths, options.topK)
            for label, (chosen, _) in parts.items():
                found = [paths[item.image] for item in chosen if item.image in paths]
                if found or options.on_bad_image == "skip":
                    self.retained[label] = self._retained(label, found)
        draws = {label: torch.from_numpy(unit_draws(options.seed, label, L, H)) for label in self.retained}
        self.edits = {
            label: prune(model, torch.tensor([units]), draws[label][None], options.mask_proportion, self.depth)
            for label, units in self.retained.items()
        }
        return missing

    def _retained(self, label: int, paths: list) -> list[list[int]]:
        k = self.options.topK
        if not paths:
            raise UserError(f"label {label}: none of its selection images has a path; leave it out with --labels")
        try:
            return retained_units(paths, k)
        except ValueError as e:
            raise UserError(
                f"label {label}, {e}; lower --topK, or give more selection images or records of more neurons per layer"
            ) from e

    def summary(self) -> EditSummary:
        return EditSummary(("prune",))

    def check(self, record, config) -> str:
        if record.get("path") != self.retained.get(record.get("label")):
            return "its retained units are not those that are now selected for its class"
        return super().check(record, config)

    def records(self, model, items, images) -> list[dict]:
        options = self.options
        factors = torch.cat([self.edits[item.label] for item in items]).to(images)
        rows, everywhere = options.internal_batch_size, options.prune_tokens == "all"
        logits = edit(model, images, None, factors, all_tokens=everywhere, internal_batch_size=rows)
        probabilities = torch.stack([x.softmax(-1) for x in logits])  # (2, B, C)
        check_finite(*probabilities)
        labels = torch.tensor([item.label for item in items], device=images.device)
        prob, pred = label_probability(probabilities, labels), probabilities.argmax(-1).T.tolist()
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
