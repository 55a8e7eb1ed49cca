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

from ..attribution.adaptive import NODES, find_path_auto
from ..attribution.candidates import STOPPED, Frontier, shortlist
from ..attribution.choice import Choice, best
from ..attribution.engine import Problem, search_ramps
from ..attribution.forward import gather_neurons
from ..attribution.quadrature import Quadrature
from ..attribution.rows import default_rows
from ..attribution.score import score_path
from ..attribution.search import NeuronPath, find_path
from ..attribution.searches import Search, Shortlist, search_of
from ..errors import UserError
from ..files import replace_file
from ..models.checkpoint import load
from ..models.devices import seconds, set_precision
from ..models.staged import StagedModel
from ..models.vit import VisionTransformer
from .cost import CountFlops, block_flops

THREE, FOUR, EIGHT = (Quadrature("gauss-legendre", m) for m in (3, 4, 8))
TWO, RADAU_FOUR = Quadrature("gauss-radau", 2), Quadrature("gauss-radau", 4)
SCORE = Quadrature("gauss-legendre", 16)  # of the paths of all searches, so that their JAS can be compared
RULES = {
    "right": (4, 8, 20),
    "left": (8, 20),
    "midpoint": (4, 8, 20),
    "gauss-legendre": (2, 3, 4, 6, 8, 16),
    "gauss-radau": (2, 3, 4, 5, 6),
}
KAPPAS = (0.5, 1, 2, 3, 4)
FIRSTS = (2, 4, 8)
FINELY = 32  # candidates of a layer that are scored with many nodes


def every_score(
    model: StagedModel, images: Tensor, labels: Tensor, file: Path, *, finely: int = FINELY, at_once: int = 10
) -> Tensor:
    """Scores of every candidate on the exhaustive search's own prefix, (n, 4, L, H).

    They are the shortcut's (`EIGHT`), the estimate's and the exact ones (both `TWO`), and the exact ones of `EIGHT` of
    the best `finely` by those of `TWO`, -inf elsewhere. The last decide.

    Kept in `file` (.npy), which must name the model, the images and `finely`, and written after `at_once` images; what
    is there already, of a run that was killed too, is not computed again. Cost: H + 8·`finely` tails per image and
    layer.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (0, 4, model.config.depth, model.config.mlp_dim)
    found = torch.from_numpy(np.load(file) if file.exists() else np.empty(shape, np.float32))
    images, labels = images[len(found) :], labels[len(found) :]
    batches = list(zip(images.split(at_once), labels.split(at_once), strict=True)) if len(images) else []
    for x, y in tqdm(batches, unit="batch", desc=file.stem):
        found = torch.cat((found, _every_score(model, x, y, finely).cpu()))
        np.save(content := io.BytesIO(), found.numpy())
        replace_file(file, content.getvalue())
    return found.to(images.device)


def _every_score(model: StagedModel, images: Tensor, labels: Tensor, finely: int) -> Tensor:
    rows = default_rows(model, images.device)
    problems = [Problem.of(model, images, labels, rule, rows) for rule in (TWO, EIGHT)]
    coarse, fine = (search_ramps(problem) for problem in problems)
    hidden = problems[0].plain.hidden
    S, layers = torch.zeros_like(hidden[0][..., 0]), []
    for layer, h in enumerate(hidden):
        few, many = (Frontier(ramps, layer, S, h, 1, rows) for ramps in (coarse, fine))
        estimate, exact = few.layer_scores(whole_layer=False)[0], few.all_exact_scores()[0]
        shortcut = many.layer_scores()[0]
        candidates = exact.topk(min(finely, exact.shape[1])).indices  # (B, finely)
        each = torch.arange(len(images), device=images.device).repeat(candidates.shape[1])
        decisive = torch.full_like(exact, -torch.inf)
        decisive[each, candidates.T.flatten()] = many.exact_scores(each, candidates.T.flatten())[0]
        chosen = _winners(decisive).chosen
        for ramp in (*coarse, *fine):
            ramp.extend(chosen)
        S = S + gather_neurons(h, chosen).sum(-1)
        layers.append(torch.stack([shortcut, estimate, exact, decisive], 1))  # (B, 4, H)
    return torch.stack(layers, 2)


def _winners(decisive: Tensor) -> Choice:
    """The best of scores (B, H) that are -inf where there is none."""
    return best([decisive], 1, decisive > -torch.inf)


def per_layer(scores: Tensor, first: int = Shortlist().first, kappa: float = Shortlist().kappa) -> dict:
    """Layers in which each search chooses what the exhaustive one does, on its prefix; `scores` as of `every_score`.

    `first` and `kappa` of the shortlist, by default the package's; its cap is off.
    """
    n, _, L, H = scores.shape
    shortcut, estimate, exact, decisive = scores.transpose(0, 1).flatten(1, 2)  # (n·L, H) each
    choice = _winners(decisive)
    winner, margin = choice.chosen, choice.margin
    found = shortlist(estimate, 1, lambda rows, neurons: [exact[rows, neurons]], Shortlist(H, kappa, first))
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
        "exact": _first(exact, winner),
        "shortlist": {
            "agree": hit.double().mean().item(),
            "mean_scored": found.scored.double().mean().item(),
            "scored": {str(count): share for count, share in counts},
            "stopped": {word: int((found.stopped == i).sum()) for i, word in enumerate(STOPPED)},
            "misses": misses,
        },
    }


def checked(scores: Tensor, complete: Tensor) -> dict:
    """Whether the candidates that `every_score` leaves out could have won: `complete` has the decisive score of all.

    `error`: the largest difference between the two exact scores, in units of the layer's largest.
    """
    winners = [_winners(x[:, 3].flatten(0, 1)).chosen for x in (scores, complete)]
    exact, decisive = complete[:, 2], complete[:, 3]
    error = (exact - decisive).abs().amax(-1) / decisive.abs().amax(-1)
    agree = (winners[0] == winners[1]).double().mean().item()
    return {"images": len(scores), "agree": agree, "error": error.max().item()}


def _ranks(scores: Tensor, winner: Tensor) -> Tensor:
    """The place of `winner` (n, 1) in the order of `scores` (n, H), from 1."""
    return 1 + (scores.argsort(dim=-1, descending=True, stable=True) == winner).long().argmax(1)


def _first(scores: Tensor, winner: Tensor) -> dict:
    ranks = _ranks(scores, winner)
    agree, eight = ((ranks <= top).double().mean().item() for top in (1, 8))
    return {"agree": agree, "among_first_8": eight, "lowest_rank": ranks.max().item()}


def calibration(scores: Tensor) -> list[dict]:
    """Agreement and candidates scored for each κ and first length, the cap off.

    `missed`: layers in which the rule alone errs, as all candidates with the same nodes would win another, and
    `missed_by` the largest margin of these.
    """
    rows = []
    exhaustive = torch.stack([*scores[:, :3].unbind(1), scores[:, 2]], 1)  # the coarse nodes decide, too
    for first in FIRSTS:
        for kappa in KAPPAS:
            found = per_layer(scores, first=first, kappa=kappa)["shortlist"]
            missed = [miss["margin"] for miss in per_layer(exhaustive, first=first, kappa=kappa)["shortlist"]["misses"]]
            rows.append(
                {
                    "first": first,
                    "kappa": kappa,
                    "agree": found["agree"],
                    "mean_scored": found["mean_scored"],
                    "missed": len(missed),
                    "missed_by": max(missed, default=0.0),
                }
            )
    return rows


def whole_paths(model: StagedModel, images: Tensor, labels: Tensor, scores: Tensor) -> dict:
    """Whole paths equal to the exhaustive search's, and the mean JAS reached, scored with the same 16 nodes.

    The shortcut by Gauss-Radau 4, the shortlist by `TWO`, the exhaustive search as of `every_score`.
    """
    exact = _winners(scores[:, 3].flatten(0, 1)).chosen.view(len(scores), -1, 1)  # (n, L, 1)
    rules = {"layer": RADAU_FOUR, "shortlist": TWO}
    paths = {search: find_path(model, images, labels, rule, search=search).path for search, rule in rules.items()}
    found = {}
    for name, path in (paths | {"exhaustive": exact}).items():
        jas = score_path(model, images, labels, path, SCORE)
        same = (path == exact).flatten(1).all(1)
        found[name] = {"agree": same.double().mean().item(), "jas": jas.mean().item()}
    return found


def quadratures(
    model: StagedModel,
    images: Tensor,
    labels: Tensor,
    *,
    rules: dict = RULES,
    fine: tuple[int, int] = (32, 64),
    search: Search | str = "layer",
) -> dict:
    """Whole paths equal to the converged one, of each of `rules` and of auto; `model` and `images` in float64.

    `mean_nodes` of auto: those below α = 1, repeats included.

    Converged: Gauss-Legendre with `fine` nodes, both, find the same path. Images where they do not count apart.
    """

    @cache
    def find(rule: str, nodes: int) -> NeuronPath:
        return find_path(model, images, labels, Quadrature(rule, nodes), search=search)

    finer, finest = (find("gauss-legendre", nodes).path for nodes in fine)
    converged = (finer == finest).flatten(1).all(1)

    def agree(path: Tensor) -> float:
        return (path == finest).flatten(1).all(1)[converged].double().mean().item()

    found = find_path_auto(model, images, labels, search=search)
    assert found.nodes is not None
    assert found.converged is not None
    paid = [sum(m - 1 for m in NODES[search_of(search).name] if m <= last) for last in found.nodes.tolist()]
    return {
        "images": len(images),
        "converged": converged.sum().item(),
        "rules": {rule: {str(m): agree(find(rule, m).path) for m in sizes} for rule, sizes in rules.items()},
        "auto": {
            "agree": agree(found.path),
            "mean_nodes": statistics.mean(paid),
            "searched_again": (found.converged >= 0).sum().item(),
            "not_converged": (found.converged == 0).sum().item(),
        },
    }


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
        "layer, Gauss-Legendre 4": lambda x, y: find_path(model, x, y, FOUR),
        "layer, Gauss-Radau 4": lambda x, y: find_path(model, x, y, RADAU_FOUR),
        "layer, auto": lambda x, y: find_path_auto(model, x, y),
        "shortlist, Gauss-Radau 2": lambda x, y: find_path(model, x, y, TWO, search="shortlist"),
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
    one, passes = partial(find_path, model, images[:1], labels[:1], TWO, search="exhaustive"), []
    counted = partial(_block_passes, model, one)
    once = seconds(lambda: passes.append(counted()), images.device)  # and of one image: it takes long
    return found | {"exhaustive, Gauss-Radau 2": {"seconds": once, "block_passes": passes[0]}}


def _block_passes(model: VisionTransformer, run: Callable) -> float:
    with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:  # the counter knows the products of this kernel
        run()
    return count.flops / block_flops(model.config)
