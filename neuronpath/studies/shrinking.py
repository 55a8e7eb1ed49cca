"""Do paths say which units a smaller model can do without? Units chosen by training images, measured on held-out ones.

What is measured of every image is here; `analysis.shrinking` compares. The choice is made by `rank_units`, which is
given training images alone; `measure_smaller` takes the others.
"""

import io
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..attribution.importance import (
    UnitSums,
    best_first,
    kept_count,
    most_important,
    path_frequency,
    random_importance,
    unit_sums,
)
from ..attribution.quadrature import Quadrature
from ..attribution.search import find_path
from ..files import replace_file
from ..models.configs import Config
from ..models.devices import seconds
from ..models.shrinking import shrink
from ..models.staged import StagedModel
from ..models.vit import VisionTransformer
from .cost import CountFlops
from .methods import AT_ONCE, Images

RULE = Quadrature("gauss-legendre", 4)  # of the layer search for paths
DRAWS = 5  # of random units, with seeds from the given one on


@dataclass(frozen=True)
class Ranked:
    """By name of an importance all units, best first, (L, H), one per draw; of paths which share of units they hold.

    `means` (L, H): each unit's mean activation, to be folded.
    """

    units: dict[str, list[Tensor]]
    held: dict[str, float]
    means: Tensor


def rank_units(
    name: str,
    model: StagedModel,
    images: Images,
    importances: Sequence[str],
    kept: Path,
    *,
    seed: int = 42,
    anew: bool = False,
    internal_batch_size: int | None = None,
) -> Ranked:
    """By `images` alone. Paths are kept in `kept`, found there by `name`, which must tell the model, and the images.

    `anew`: paths that are kept are found again. `seed`: of the first random draw.
    """
    H, rows = model.config.mlp_dim, internal_batch_size
    own, every = (_sums(model, images, all_tokens, rows) for all_tokens in (False, True))
    units, held = dict[str, list[Tensor]](), dict[str, float]()
    for key in importances:
        kind, _, more = key.partition("_")
        frequency, draws = None, DRAWS if kind == "random" else 1
        if kind == "path":
            file = kept / f"{name}-{images.digest()}-{RULE.rule}-{RULE.steps}-top{more}.npy"
            if anew:
                file.unlink(missing_ok=True)
            frequency = path_frequency(find_paths(file, model, images, int(more), rows), images.y, H)
            held[key] = float((frequency > 0).double().mean())
        sums = every if more == "all" else own
        units[key] = [best_first(kind, model, sums=sums, frequency=frequency, seed=seed + i) for i in range(draws)]
    return Ranked(units, held, every.means)


def find_paths(file: Path, model: StagedModel, images: Images, k: int, rows: int | None) -> Tensor:
    """Paths of K = k of the layer search, (n, L, k), kept in `file`; found again where that is damaged."""
    shape, H = (len(images), model.config.depth, k), model.config.mlp_dim
    if file.exists():
        with suppress(OSError, ValueError, EOFError):
            found = np.load(file, allow_pickle=False)
            if found.shape == shape and found.dtype == np.int64 and found.min() >= 0 and found.max() < H:
                return torch.from_numpy(found)
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in tqdm(range(0, len(images), AT_ONCE), desc=file.stem, dynamic_ncols=True):
        of = images[first : first + AT_ONCE]
        parts.append(find_path(model, of.x, of.y, RULE, k, internal_batch_size=rows).path.cpu())
    content, paths = io.BytesIO(), torch.cat(parts)
    np.save(content, paths.numpy())
    replace_file(file, content.getvalue())
    return paths


def _sums(model: StagedModel, images: Images, all_tokens: bool, rows: int | None) -> UnitSums:
    parts = [images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE)]
    found = [unit_sums(model, of.x, of.y, all_tokens=all_tokens, internal_batch_size=rows) for of in parts]
    return sum(found[1:], found[0])


def measure_smaller(model: StagedModel, images: Images, ranked: Ranked, shares: Sequence[float]) -> dict[str, Any]:
    """`full`, and by importance `plain` and `folded`, of n `images`; of several draws the means.

    Each has `p` and `right`, (n,) of the full model and (shares, n) of the smaller ones: the label's probability, and
    whether it is predicted, 0 or 1.
    """
    found: dict[str, Any] = {"full": _effects(model, images)}
    H = model.config.mlp_dim
    for key, draws in tqdm(ranked.units.items(), desc="smaller models", unit="importance", dynamic_ncols=True):
        found[key] = {}
        for name, means in (("plain", None), ("folded", ranked.means)):
            parts = []
            for share in shares:
                kept = [units[:, : kept_count(share, H)] for units in draws]
                of_draws = [_effects(shrink(model, own, means), images) for own in kept]
                parts.append({part: np.mean([one[part] for one in of_draws], 0) for part in ("p", "right")})
            found[key][name] = {part: np.stack([one[part] for one in parts]) for part in ("p", "right")}
    return found


@torch.no_grad()
def _effects(model: StagedModel, images: Images) -> dict[str, np.ndarray]:
    parts = [model(x).softmax(-1).cpu() for x in images.x.split(AT_ONCE)]
    shares, labels = torch.cat(parts), images.y.cpu()
    p = shares[torch.arange(len(labels)), labels]
    return {"p": p.double().numpy(), "right": (shares.argmax(-1) == labels).double().numpy()}


@torch.no_grad()
def flops(model: StagedModel, images: Tensor) -> float:
    """Operations of a forward, per image: all matrix products."""
    with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:  # the counter knows the products of this kernel
        model(images)
    return count.flops / len(images)


def flops_of_smaller(model: StagedModel, images: Tensor, shares: Sequence[float]) -> dict[str, float]:
    """Operations of a forward by the share of units kept, 1 first; `images` are a few of what it takes."""
    L, H = model.config.depth, model.config.mlp_dim
    kept = {share: most_important(random_importance(0, L, H), kept_count(share, H)) for share in (1.0, *shares)}
    return {f"{share:g}": flops(shrink(model, units), images) for share, units in kept.items()}


@torch.no_grad()
def times_of_smaller(config: Config, shares: Sequence[float], images: int, rounds: int, device: torch.device) -> dict:
    """By share of kept units, 1 first, what a forward of so many `images` takes; random weights, one CPU thread.

    Rounds are interleaved: in each every model runs once, after one to warm up. `seconds` and `cpu` (of the process's
    clock) are medians per image; `ratio` and `cpu_ratio` are those to the full model in the same round, with their
    least and most (`low`, `high`). Also `flops` per image and `weights`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    full = VisionTransformer(config).requires_grad_(False).to(device)
    x = torch.randn(images, 3, config.img_size, config.img_size, device=device)
    models = {share: _random_part(full, share) for share in (1.0, *shares)}
    clocks: dict[float, list[tuple[float, float]]] = {share: [] for share in models}
    try:
        for _ in tqdm(range(rounds + 1), desc="rounds", dynamic_ncols=True):
            for share, model in models.items():
                started = time.process_time()
                wall = seconds(lambda model=model: model(x), device)  # type: ignore[misc]
                clocks[share].append((wall, time.process_time() - started))
    finally:
        torch.set_num_threads(threads)
    found = {}
    for share, model in models.items():
        entry: dict[str, Any] = {"flops": flops(model, x[:1]), "weights": sum(p.numel() for p in model.parameters())}
        for place, (clock, ratio) in enumerate((("seconds", "ratio"), ("cpu", "cpu_ratio"))):
            own, whole = ([one[place] for one in clocks[key][1:]] for key in (share, 1.0))
            ratios = [a / b for a, b in zip(own, whole, strict=True)]
            entry[clock] = statistics.median(own) / images
            entry[ratio] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        found[f"{share:g}"] = entry
    return {"images": images, "rounds": rounds, "device": str(device), "shares": found}


def _random_part(model: VisionTransformer, share: float) -> VisionTransformer:
    L, H = model.config.depth, model.config.mlp_dim
    return shrink(model, most_important(random_importance(0, L, H), kept_count(share, H)))
