"""Which method finds the neurons that matter? Every method's paths of the same images: scored, removed, doubled.

What is measured of every image is here; `analysis.methods` makes means, differences and tables of it. All paths are
scored with one fine rule, `SCORED`, whatever they were searched with.
"""

import copy
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..attribution.activations import DRAWS, Others, mean_activations, resample
from ..attribution.baselines import baseline_path
from ..attribution.controls import matched_draws, noisy
from ..attribution.edits import edit, enhance, remove, retain
from ..attribution.influence import influence_path
from ..attribution.quadrature import Quadrature
from ..attribution.rankings import RandomUnits, Ranking
from ..attribution.rows import default_rows
from ..attribution.score import score_path
from ..attribution.search import activation_path, find_path
from ..attribution.searches import Beam, Layer, Search, Shortlist
from ..files import replace_file
from ..models.devices import synchronize
from ..models.staged import StagedModel
from ..models.vit import VisionTransformer
from .cost import CountFlops, block_flops

FOUR, TWO, SCORED = Quadrature("gauss-radau", 4), Quadrature("gauss-radau", 2), Quadrature("gauss-legendre", 8)
KS = (1, 2, 5, 10, 20, 50)  # units per layer of the curves
SEED, AT_ONCE = 42, 50
COUNTED = 10  # images of which block passes are counted
REMOVALS = ("zero", "mean", "resample")


@dataclass(frozen=True)
class Images:
    """What is explained: normalised `x` (n, 3, S, S), labels `y` (n,), names; `std` of the normalisation."""

    x: Tensor
    y: Tensor
    names: list[str]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> "Images":
        return Images(self.x[part], self.y[part], self.names[part], self.std)

    def digest(self) -> str:
        """Of all that is explained."""
        found = hashlib.sha256("\0".join(self.names).encode(errors="surrogateescape"))
        for values in (self.y, self.x.float()):
            found.update(values.cpu().numpy().tobytes())
        return found.hexdigest()[:8]

    def with_noise(self) -> "Images":
        return Images(noisy(self.x, self.names, self.std, SEED), self.y, self.names, self.std)


@dataclass(frozen=True)
class Subject:
    """A model and all its images."""

    model: StagedModel
    images: Images

    @cached_property
    def means(self) -> Tensor:
        """Of every unit's activation, (L, H) in float64."""
        return mean_activations(self.model, self.images.x)

    @cached_property
    def pool(self) -> Others:
        """All images, of which those of other classes are drawn."""
        return Others(zip(self.images.y.tolist(), self.images.names, strict=True))

    @cached_property
    def double(self) -> StagedModel:
        """The model in float64, for draws that do not depend on batches."""
        return copy.deepcopy(self.model).double()


#: Of some images the best k units per layer, (B, L, k), one tensor per draw.
Find = Callable[[Subject, Images, int], list[Tensor]]


@dataclass(frozen=True)
class Method:
    """`nested`: the best k of every layer are the first of more; None: only k = 1 can be had.

    `drawn`: with a random generator of each image's name, so that noise in the image says nothing of the method.
    """

    find: Find
    nested: bool | None = True
    drawn: bool = False


def searched(search: Search, rule: Quadrature) -> Find:
    return lambda subject, of, k: [find_path(subject.model, of.x, of.y, rule, k, search=search).path]


def ranked(method: Ranking | str) -> Find:
    return lambda subject, of, k: [baseline_path(subject.model, of.x, of.y, method, FOUR, k=k, names=of.names).path]


def control(subject: Subject, of: Images, k: int) -> list[Tensor]:
    """Draws of units that write as much as those of the layer search."""
    (path,) = METHODS["layer"].find(subject, of, k)
    rows = default_rows(subject.double, subject.double.device)
    draws, _ = matched_draws(subject.double, of.x, path.tolist(), of.names, seed=SEED, rows=rows)
    return [draw.to(path.device) for draw in draws]


def uniform(subject: Subject, of: Images, k: int) -> list[Tensor]:
    return [path for draw in range(DRAWS) for path in ranked(RandomUnits(seed=SEED + draw))(subject, of, k)]


#: By name, one for each of METHOD_NAMES. The first is what the others are compared with.
METHODS: dict[str, Method] = {
    "layer": Method(searched(Layer(), FOUR), nested=False),
    "shortlist": Method(searched(Shortlist(), TWO), nested=None),
    "beam_4": Method(searched(Beam(4, Shortlist()), TWO), nested=None),
    "beam_16": Method(searched(Beam(16, Shortlist()), TWO), nested=None),
    "influence_pattern": Method(
        lambda subject, of, k: [influence_path(subject.model, of.x, of.y, FOUR).path], nested=None
    ),
    "gradient_activation": Method(ranked("gradient_activation")),
    "conductance": Method(ranked("conductance")),
    "layer_ig": Method(ranked("layer_ig")),
    "ablation": Method(ranked("ablation")),
    "base": Method(lambda subject, of, k: [activation_path(subject.model, of.x, k)]),
    "uniform": Method(uniform, drawn=True),
    "random": Method(control, nested=False, drawn=True),
}


def measure(subject: Subject, method: Method, few: int) -> dict[str, np.ndarray]:
    """Of n images and L layers what is known of the method's paths; of several draws the means.

    `path` (draws, n, L). `jas`, `p` and `right` (n,), and `p_…` and `right_…` after removal to zero, mean and resample
    and after doubling (`double`): the label's probability, and whether it is predicted, 0 or 1. Where k may be more
    than 1 `ks`, and `removed` and `retained` (n, number of ks), of the first draw: the label's probability with the
    best k of every layer at their means, and with all but these. But for drawn ones `again` (few, L), the paths of the
    images at `again_of` with noise. Per image of the search alone `seconds`, and `cpu_seconds`, of all threads.
    """
    images, parts, seconds, busy = subject.images, [], 0.0, 0.0
    ks = [k for k in KS if 2 * k <= subject.model.config.mlp_dim]  # the control takes as many units beside them
    for first in range(0, len(images), AT_ONCE):
        of = images[first : first + AT_ONCE]
        synchronize(of.x.device)
        started, cpu = time.perf_counter(), time.process_time()
        wide = method.find(subject, of, max(ks) if method.nested else 1)
        synchronize(of.x.device)
        seconds, busy = seconds + time.perf_counter() - started, busy + time.process_time() - cpu
        draws, others = [path[..., :1] for path in wide], _others(subject, of)
        found = [_effects(subject, of, path, others) for path in draws]
        part = {name: np.mean([one[name] for one in found], 0) for name in found[0]}
        if method.nested is not None:
            best = wide if method.nested else method.find(subject, of, max(ks))
            part |= _curves(subject, of, best[0], ks)
        part["path"] = torch.stack(draws, 1)[..., 0].cpu().numpy()
        parts.append(part)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole["path"] = whole["path"].swapaxes(0, 1)
    if method.nested is not None:
        whole["ks"] = np.array(ks)
    if not method.drawn:
        (again,) = method.find(subject, images[spread(len(images), few)].with_noise(), 1)
        whole |= {"again": again[..., 0].cpu().numpy(), "again_of": np.arange(len(images))[spread(len(images), few)]}
    return {**whole, "seconds": np.array(seconds / len(images)), "cpu_seconds": np.array(busy / len(images))}


def spread(n: int, count: int) -> slice:
    """About `count` of `n` images, evenly."""
    return slice(None, None, max(1, n // count))


def _effects(subject: Subject, of: Images, path: Tensor, others: Sequence[Tensor]) -> dict[str, np.ndarray]:
    model = subject.model
    resampled = [resample(model, path, images) for images in others]
    edits = [None, remove(model, path), remove(model, path, subject.means), *resampled, enhance(model, path)]
    shares = torch.stack([logits.softmax(-1) for logits in edit(model, of.x, *edits)])  # (edits, B, C)
    p = shares[:, torch.arange(len(of)), of.y].double().cpu().numpy()
    right = (shares.argmax(-1) == of.y).double().cpu().numpy()
    after = dict(zip((*REMOVALS, "double"), (slice(1, 2), slice(2, 3), slice(3, -1), slice(-1, None)), strict=True))
    found = {"jas": score_path(model, of.x, of.y, path, SCORED).double().cpu().numpy(), "p": p[0], "right": right[0]}
    found |= {f"p_{name}": p[part].mean(0) for name, part in after.items()}
    return found | {f"right_{name}": right[part].mean(0) for name, part in after.items()}


def _others(subject: Subject, of: Images) -> list[Tensor]:
    """Of every draw for each of the images `of` one of another class."""
    every, pairs = subject.images, [*zip(of.names, of.y.tolist(), strict=True)]
    places = {name: i for i, name in enumerate(every.names)}
    return [
        every.x[[places[next(subject.pool.draw(name, label, draw, SEED))[1]] for name, label in pairs]]
        for draw in range(DRAWS)
    ]


def _curves(subject: Subject, of: Images, path: Tensor, ks: list[int]) -> dict[str, np.ndarray]:
    """The label's probability with the best k of every layer at their means, and with all but these, (B, ks) each."""
    model = subject.model
    edits = [change(model, path[..., :k], subject.means) for k in ks for change in (remove, retain)]
    shares = torch.stack([logits.softmax(-1) for logits in edit(model, of.x, *edits)], -1)  # (B, C, edits)
    p = shares[torch.arange(len(of)), of.y].double().cpu().numpy()
    return {"removed": p[:, 0::2], "retained": p[:, 1::2]}


def block_passes(subject: Subject, method: Method) -> float:
    """Per image, of the search, on the first images; NaN for a model of another library, whose products are its own."""
    if not isinstance(subject.model, VisionTransformer):
        return float("nan")
    few = subject.images[spread(len(subject.images), COUNTED)]
    with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:  # the counter knows the products of this kernel
        method.find(subject, few, 1)
    return count.flops / block_flops(subject.model.config) / len(few)


@torch.no_grad()
def compare_methods(
    name: str, subject: Subject, methods: Sequence[str], kept: Path, few: int
) -> dict[str, dict[str, np.ndarray]]:
    """By method what `measure` finds, and `block_passes`; kept in `kept`, from where a run that was killed goes on.

    `name` must tell the model. What is kept is found by it and the images.
    """
    kept.mkdir(parents=True, exist_ok=True)
    name, results = f"{name}-{subject.images.digest()}", dict[str, dict[str, np.ndarray]]()
    for key in tqdm(methods, desc=name, unit="method", dynamic_ncols=True):
        file = kept / f"{name}-{few}-{key}.npz"
        if not file.exists():
            found = measure(subject, METHODS[key], few)
            content = io.BytesIO()
            arrays: dict[str, Any] = {**found, "block_passes": block_passes(subject, METHODS[key])}
            np.savez(content, **arrays)
            replace_file(file, content.getvalue())
        with np.load(file) as content:
            results[key] = {part: content[part] for part in content.files}
    return results
