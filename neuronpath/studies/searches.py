"""How far searches and quadrature rules agree, and what they cost: what `scripts/study_search.py` puts together.

Every comparison is on given images of one model, K = 1. Results are plain dicts, ready for JSON; the slow part, the
scores of all candidates of all layers, is kept in a file of its own.
"""

import io
import statistics
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..attribution.adaptive import NODES, THRESHOLD, find_path_auto
from ..attribution.candidates import FIRST, STOPPED, Frontier, Rule, shortlist
from ..attribution.choice import choose
from ..attribution.engine import Problem, search_ramps
from ..attribution.forward import gather_neurons
from ..attribution.quadrature import Quadrature
from ..attribution.rows import default_rows
from ..attribution.score import score_path
from ..attribution.search import NeuronPath, Search, Shortlist, find_path
from ..errors import UserError
from ..files import replace_file
from ..models.checkpoint import load
from ..models.devices import seconds, set_precision
from ..models.vit import VisionTransformer
from .cost import CountFlops, block_flops

THREE, FOUR = Quadrature("gauss-legendre", 3), Quadrature("gauss-legendre", 4)
SCORE = Quadrature("gauss-legendre", 16)  # of the paths of all searches, so that their JAS can be compared
RULES = {"right": (4, 8, 20), "left": (8, 20), "midpoint": (4, 8, 20), "gauss-legendre": (2, 3, 4, 6, 8, 16)}
KAPPAS = (0.5, 1, 2, 3, 4)
FIRSTS = (2, 4, 8)
THRESHOLDS = (0, 3e-4, 6e-4, 1e-3, 2e-3, 5e-3, 1e-2)


def every_score(model: VisionTransformer, images: Tensor, labels: Tensor, file: Path, at_once: int = 10) -> Tensor:
    """Of every candidate on the exhaustive search's own prefix, (n, 3, L, H): shortcut's, estimate's, exact score.

    `THREE` nodes. Kept in `file` (.npy), which must name the model and the images, and written after `at_once` images;
    what is there already, of a run that was killed too, is not computed again. Cost: H tails per image, layer and node.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (0, 3, model.config.depth, model.config.mlp_dim)
    found = torch.from_numpy(np.load(file) if file.exists() else np.empty(shape, np.float32))
    images, labels = images[len(found) :], labels[len(found) :]
    batches = list(zip(images.split(at_once), labels.split(at_once), strict=True)) if len(images) else []
    for x, y in tqdm(batches, unit="batch", desc=file.stem):
        found = torch.cat((found, _every_score(model, x, y).cpu()))
        np.save(content := io.BytesIO(), found.numpy())
        replace_file(file, content.getvalue())
    return found.to(images.device)


def _every_score(model: VisionTransformer, images: Tensor, labels: Tensor) -> Tensor:
    rows = default_rows(model, images.device)
    problem = Problem.of(model, images, labels, THREE, rows)
    ramps, hidden = search_ramps(problem), problem.plain.hidden
    S, layers = torch.zeros_like(hidden[0][..., 0]), []
    for layer, h in enumerate(hidden):
        frontier = Frontier(ramps, layer, S, h, 1, rows)
        quick = [frontier.layer_scores(whole_layer) for whole_layer in (True, False)]
        exact = frontier.all_exact_scores()
        chosen = choose(exact, 1)[0]
        for ramp in ramps:
            ramp.extend(chosen)
        S = S + gather_neurons(h, chosen).sum(-1)
        layers.append(torch.stack([*quick, exact], 1))  # (B, 3, H)
    return torch.stack(layers, 2)


def per_layer(scores: Tensor, first: int = FIRST, kappa: float = Shortlist().kappa) -> dict:
    """Layers in which each search chooses what the exhaustive one does, on its prefix; `scores` as of `every_score`.

    `first` and `kappa` of the shortlist, by default the package's; its cap is off.
    """
    n, _, L, H = scores.shape
    shortcut, estimate, exact = scores.transpose(0, 1).flatten(1, 2)  # (n·L, H) each
    winner, margin = choose(exact, 1)
    found = shortlist(estimate, 1, lambda rows, neurons: exact[rows, neurons], Rule(H, kappa, first))
    hit = (found.chosen == winner)[:, 0]
    misses = [
        {"image": i // L, "layer": i % L, "margin": margin[i].item(), "rank": _ranks(estimate, winner)[i].item()}
        for i in (~hit).nonzero()[:, 0].tolist()
    ]
    counts = zip(*(x.tolist() for x in found.scored.unique(return_counts=True)), strict=True)
    return {
        "images": n,
        "layers": n * L,
        "margins_under_1e-4": (margin < 1e-4).sum().item(),
        "layer": _first(shortcut, winner),
        "estimate": _first(estimate, winner),
        "shortlist": {
            "agree": hit.double().mean().item(),
            "mean_scored": found.scored.double().mean().item(),
            "scored": {str(count): share for count, share in counts},
            "stopped": {word: int((found.stopped == i).sum()) for i, word in enumerate(STOPPED)},
            "misses": misses,
        },
    }


def _ranks(scores: Tensor, winner: Tensor) -> Tensor:
    """The place of `winner` (n, 1) in the order of `scores` (n, H), from 1."""
    return 1 + (scores.argsort(dim=-1, descending=True, stable=True) == winner).long().argmax(1)


def _first(scores: Tensor, winner: Tensor) -> dict:
    ranks = _ranks(scores, winner)
    agree, eight = ((ranks <= top).double().mean().item() for top in (1, 8))
    return {"agree": agree, "among_first_8": eight, "lowest_rank": ranks.max().item()}


def calibration(scores: Tensor) -> list[dict]:
    """Agreement and candidates scored for each κ and first length, the cap off."""
    rows = []
    for first in FIRSTS:
        for kappa in KAPPAS:
            found = per_layer(scores, first=first, kappa=kappa)["shortlist"]
            rows.append({"first": first, "kappa": kappa, "agree": found["agree"], "mean_scored": found["mean_scored"]})
    return rows


def whole_paths(model: VisionTransformer, images: Tensor, labels: Tensor, scores: Tensor) -> dict:
    """Whole paths equal to the exhaustive search's, and the mean JAS reached, scored with the same 16 nodes."""
    exact = choose(scores[:, 2].flatten(0, 1), 1)[0].view(*scores.shape[:1], -1, 1)  # (n, L, 1)
    paths = {search: find_path(model, images, labels, THREE, search=search).path for search in ("layer", "shortlist")}
    found = {}
    for name, path in (paths | {"exhaustive": exact}).items():
        jas = score_path(model, images, labels, path, SCORE)
        same = (path == exact).flatten(1).all(1)
        found[name] = {"agree": same.double().mean().item(), "jas": jas.mean().item()}
    return found


def quadratures(
    model: VisionTransformer,
    images: Tensor,
    labels: Tensor,
    *,
    rules: dict = RULES,
    fine: tuple[int, int] = (32, 64),
    search: Search | str = "layer",
) -> dict:
    """Whole paths equal to the converged one, of each of `rules` and of auto; `model` and `images` in float64.

    Converged: Gauss-Legendre with `fine` nodes, both, find the same path. Images where they do not count apart.
    """

    @cache
    def find(rule: str, nodes: int) -> NeuronPath:
        return find_path(model, images, labels, Quadrature(rule, nodes), search=search)

    finer, finest = (find("gauss-legendre", nodes).path for nodes in fine)
    converged = (finer == finest).flatten(1).all(1)

    def agree(path: Tensor) -> float:
        return (path == finest).flatten(1).all(1)[converged].double().mean().item()

    by_nodes = {m: find("gauss-legendre", m) for m in NODES}
    by_threshold = [{"threshold": t, **auto(by_nodes, t)} for t in (*THRESHOLDS, THRESHOLD)]
    for row in by_threshold:
        row["agree"] = agree(row.pop("path"))
    return {
        "images": len(images),
        "converged": converged.sum().item(),
        "rules": {rule: {str(m): agree(find(rule, m).path) for m in sizes} for rule, sizes in rules.items()},
        "auto": by_threshold.pop(),
        "auto_by_threshold": by_threshold,
    }


def auto(found: dict, threshold: float) -> dict:
    """What `find_path_auto` would return with `threshold`, from the results of its rules by nodes."""
    path, again = found[NODES[0]].path.clone(), found[NODES[0]].margin.amin(1) < threshold
    nodes = torch.full_like(path[:, 0, 0], NODES[0])
    for m in NODES[1:]:
        before = path.clone()
        path[again] = found[m].path[again]
        nodes += m * again
        again = again & (path != before).flatten(1).any(1)
    return {"path": path, "mean_nodes": nodes.double().mean().item(), "not_converged": again.sum().item()}


def precisions(checkpoint: Path, images: Tensor, labels: Tensor) -> dict:
    """What fp32 finds and tf32 (where the images' device has it) and bf16 do not, Gauss-Legendre 4.

    `layers`: agreement as long as the layers before agree; `whole_paths`, and those of the activation paths;
    `margins`: the other's own, of the layers in which it first chooses differently, largest first, and `under` them the
    share of all its layers; `score_error`: root mean square of the differences of JAS, of fp32's paths, in units of
    that of JAS; `jas`: mean of the paths, all scored in fp32.
    """
    exact = load(checkpoint, device=images.device)
    expected = find_path(exact, images, labels, FOUR)
    jas = score_path(exact, images, labels, expected.path, FOUR)
    found: dict[str, dict] = {"fp32": {"jas": jas.mean().item()}}
    for name in ("tf32", "bf16"):
        try:
            model = load(checkpoint, device=images.device, dtype=set_precision(name, images.device))
            other = find_path(model, images, labels, FOUR)
            scores = score_path(model, images, labels, expected.path, FOUR)
        except UserError:
            continue
        finally:
            set_precision("fp32", images.device)
        same = (other.path == expected.path)[..., 0]
        first = (~same).any(1).nonzero()[:, 0]  # images with a difference
        margins = other.margin[first, same.long().argmin(1)[first]].sort(descending=True).values
        found[name] = {
            "layers": 1 - len(first) / (same.long().cumprod(1).sum().item() + len(first)),
            "whole_paths": same.all(1).double().mean().item(),
            "whole_activation_paths": (other.base_path == expected.base_path).flatten(1).all(1).double().mean().item(),
            "margins": margins.tolist(),
            "under": (other.margin <= margins.max()).double().mean().item() if len(first) else 0.0,
            "score_error": ((scores - jas).norm() / jas.norm()).item(),
            "jas": score_path(exact, images, labels, other.path, FOUR).mean().item(),
        }
    return found


def costs(model: VisionTransformer, images: Tensor, labels: Tensor, repeats: int = 3) -> dict:
    """Block passes and seconds per image of each search and rule, medians of interleaved repetitions."""
    twenty = Quadrature("right", 20)
    runs = {
        "layer, right 20": lambda x, y: find_path(model, x, y, twenty),
        "layer, Gauss-Legendre 3": lambda x, y: find_path(model, x, y, THREE),
        "layer, Gauss-Legendre 4": lambda x, y: find_path(model, x, y, FOUR),
        "layer, auto": lambda x, y: find_path_auto(model, x, y),
        "shortlist, Gauss-Legendre 3": lambda x, y: find_path(model, x, y, THREE, search="shortlist"),
        "shortlist, auto": lambda x, y: find_path_auto(model, x, y, search="shortlist"),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(partial(run, images, labels), images.device) / len(images))
    found = {
        name: {
            "seconds": statistics.median(times[name]),
            "block_passes": _block_passes(model, partial(run, images, labels)) / len(images),
        }
        for name, run in runs.items()
    }
    one, passes = partial(find_path, model, images[:1], labels[:1], THREE, search="exhaustive"), []
    counted = partial(_block_passes, model, one)
    once = seconds(lambda: passes.append(counted()), images.device)  # and of one image: it takes long
    return found | {"exhaustive, Gauss-Legendre 3": {"seconds": once, "block_passes": passes[0]}}


def _block_passes(model: VisionTransformer, run: Callable) -> float:
    with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:  # the counter knows the products of this kernel
        run()
    return count.flops / block_flops(model.config)
