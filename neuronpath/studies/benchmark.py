"""Timing of the engine against the plain search, interleaved, beside the machine's own matrix-product rate."""

import math
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..attribution.engine import Problem
from ..attribution.heads import find_head_path
from ..attribution.influence import layer_influence
from ..attribution.quadrature import Quadrature
from ..attribution.reference import plain_influence, plain_search
from ..attribution.search import find_path
from ..attribution.searches import Layer, Shortlist
from ..errors import UserError, one_line
from ..models.adapted import adapt
from ..models.devices import seconds
from ..models.staged import StagedModel
from ..models.vit import VisionTransformer
from .cost import CountFlops, block_flops, engine_flops, head_flops, plain_flops

GIB = 2**30


@dataclass(frozen=True)
class Contender:
    run: Callable[[], object]
    flops: float  # useful operations per image


def searches_table(model: VisionTransformer, images: Tensor, labels: Tensor, steps: int, rows: int | None) -> dict:
    """The plain search, the engine and its shortlists, all with path and activation scores."""
    right, four = Quadrature("right", steps), Quadrature("gauss-legendre", 4)
    plain = Contender(lambda: plain_search(model, images, labels, right), plain_flops(model.config, steps))

    def engine(quadrature: Quadrature, candidates: int = 0) -> Contender:
        """With `candidates` a shortlist of so many in every layer, whatever the rule says."""
        search = Shortlist(candidates, math.inf) if candidates else Layer()
        return Contender(
            partial(find_path, model, images, labels, quadrature, search=search, internal_batch_size=rows),
            engine_flops(model.config, quadrature, candidates),
        )

    return {
        f"plain search, right {steps}": plain,
        f"engine, right {steps}": engine(right),
        "engine, Gauss-Legendre 4": engine(four),
        "engine, Gauss-Radau 4": engine(Quadrature("gauss-radau", 4)),
        "shortlist of 4, Gauss-Radau 2": engine(Quadrature("gauss-radau", 2), 4),
        "shortlist of 8, Gauss-Legendre 3": engine(Quadrature("gauss-legendre", 3), 8),
    }


def heads_table(model: VisionTransformer, images: Tensor, labels: Tensor, quadrature: Quadrature, rows: int) -> dict:
    """The search of neurons beside the exact search of heads at the same nodes, both with all their scores."""
    given = model, images, labels, quadrature
    return {
        f"neurons, {quadrature.rule} {quadrature.steps}": Contender(
            partial(find_path, *given, internal_batch_size=rows), search_flops(model, quadrature)
        ),
        f"heads, every one alone, {quadrature.rule} {quadrature.steps}": Contender(
            partial(find_head_path, *given, internal_batch_size=rows), head_flops(model.config, quadrature)
        ),
    }


def influences_table(model: VisionTransformer, images: Tensor, labels: Tensor, steps: int, rows: int) -> dict:
    """Influence Pattern layer by layer and all layers at once, path scores excluded."""
    midpoint, L, block = Quadrature("midpoint", steps), model.config.depth, block_flops(model.config)
    problem = Problem.of(model, images, labels, midpoint, rows)
    return {
        f"influence pattern layer by layer, midpoint {steps}": Contender(
            lambda: plain_influence(model, images, labels, midpoint), steps * L * (L + (L - 1) / 2) * block
        ),
        f"influence pattern in one pass, midpoint {steps}": Contender(
            lambda: layer_influence(problem, images), steps * (2 * L - 1) * block
        ),
    }


def sizes_table(model: VisionTransformer, images: Tensor, labels: Tensor, quadrature: Quadrature, rows: int) -> dict:
    """The engine with `rows` at once, the default, beside a quarter, half, twice and four times as many."""
    flops = search_flops(model, quadrature)

    def run(most: int) -> Contender:
        return Contender(lambda: find_path(model, images, labels, quadrature, internal_batch_size=most), flops)

    others = sorted({max(1, rows // 4), max(1, rows // 2), 2 * rows, 4 * rows} - {rows})
    return {f"default: {rows} rows": run(rows), **{f"{most} rows": run(most) for most in others}}


def rules_table(model: VisionTransformer, images: Tensor, labels: Tensor, rows: int) -> dict:
    """The engine with the paper's rule and with the fast one."""
    return {
        f"{quadrature.rule} {quadrature.steps}": Contender(
            partial(find_path, model, images, labels, quadrature, internal_batch_size=rows),
            search_flops(model, quadrature),
        )
        for quadrature in (Quadrature("right", 20), Quadrature("gauss-legendre", 4), Quadrature("gauss-radau", 4))
    }


def adapted_table(model: VisionTransformer, images: Tensor, labels: Tensor, quadrature: Quadrature, rows: int) -> dict:
    """The model itself, and timm's with the same weights, adapted. UserError where timm is not installed."""
    foreign = adapt(timm_twin(model), images[:2])
    flops = search_flops(model, quadrature)

    def run(which: StagedModel) -> Contender:
        return Contender(lambda: find_path(which, images, labels, quadrature, internal_batch_size=rows), flops)

    return {"own model": run(model), "timm's, adapted": run(foreign)}


def timm_twin(model: VisionTransformer) -> nn.Module:
    """timm's model of the same shape and weights."""
    try:
        from timm.models.vision_transformer import VisionTransformer as Timm
    except ImportError as e:
        raise UserError(f"{one_line(e)}; pip install timm") from e
    c = model.config
    twin = Timm(
        img_size=c.img_size,
        patch_size=c.patch_size,
        embed_dim=c.width,
        depth=c.depth,
        num_heads=c.num_heads,
        mlp_ratio=c.mlp_dim / c.width,
        num_classes=c.num_classes,
        global_pool="token" if c.pool == "cls" else "avg",
        weight_init="skip",
    ).to(model.device, model.dtype)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def search_flops(model: VisionTransformer, quadrature: Quadrature) -> float:
    """Operations of `find_path` for one image: useful ones (CLS head), or those that its nodes take one by one."""
    config = model.config
    if config.pool == "cls":
        return engine_flops(config, quadrature)
    image = torch.zeros(1, 3, config.img_size, config.img_size).to(model.device, model.dtype)
    target = torch.zeros(1, dtype=torch.long, device=image.device)

    def count(one: Quadrature) -> int:
        with CountFlops() as counter:
            find_path(model, image, target, one)
        return counter.flops

    ramped = len(quadrature.ramped[0]) * count(Quadrature("midpoint", 1))
    return ramped + (count(Quadrature("right", 1)) if quadrature.unramped else 0)


def compare(runs: dict[str, Contender], model: VisionTransformer, images: int, repeats: int) -> str:
    """A table of medians over `repeats` interleaved repetitions; speed-ups and CPU time are against the first run."""
    weight = model.blocks[0].mlp.fc1.weight
    times: dict[str, list[float]] = {name: [] for name in runs}
    busy: dict[str, list[float]] = {name: [] for name in runs}  # of all threads of the process, on the CPU
    rates, peak = [], {}
    for name in runs:  # the warm-up
        peak[name] = _peak_memory(weight.device, runs[name].run)
    for _ in range(repeats):
        rates.append(product_rate(weight))
        for name, contender in runs.items():
            started = time.process_time()
            times[name].append(seconds(contender.run, weight.device))
            busy[name].append(time.process_time() - started)
    first = next(iter(runs))
    lines = [
        "| | s/image | images/s | speed-up, median (least-most) | CPU time, median (least-most) | block passes/image "
        "| share of product rate | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, contender in runs.items():
        ratios = sorted(a / b for a, b in zip(times[first], times[name], strict=True))
        share = sorted(b / a for a, b in zip(busy[first], busy[name], strict=True))
        each = statistics.median(times[name]) / images
        shares = [contender.flops * images / t / rate for t, rate in zip(times[name], rates, strict=True)]
        lines.append(
            f"| {name} | {each:.3g} | {1 / each:.3g} "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) "
            f"| {statistics.median(share):.2f} ({share[0]:.2f}-{share[-1]:.2f}) "
            f"| {contender.flops / block_flops(model.config):.0f} | {100 * statistics.median(shares):.0f} % "
            f"| {peak[name] / GIB:.2f} GiB |"
        )
    lines.append(f"\nproduct rate: {statistics.median(rates) / 1e9:.0f} GFLOP/s, median of {repeats}\n")
    return "\n".join(lines)


def product_rate(like: Tensor, size: int | None = None) -> float:
    """Operations per second of a large matrix product on the device and in the dtype of `like`."""
    size = size or (3072 if like.device.type == "cpu" else 8192)
    a, b = (torch.randn(size, size, device=like.device, dtype=like.dtype) for _ in range(2))
    a @ b
    count = 3
    return count * 2 * size**3 / seconds(lambda: [a @ b for _ in range(count)], like.device)


def _peak_memory(device: torch.device, run: Callable) -> float:
    """Most bytes in use during `run`: of the GPU, or of this process on Linux; elsewhere NaN."""
    status = Path("/proc/self/status")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    if not status.exists():
        run()
        return math.nan
    Path("/proc/self/clear_refs").write_text("5")  # start counting the peak anew
    run()
    (kibibytes,) = re.findall(r"VmHWM:\s*(\d+)", status.read_text())
    return 1024 * int(kibibytes)
