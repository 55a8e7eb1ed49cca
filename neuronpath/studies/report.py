"""The study of searches, rules and precisions on the digits models: what is run, and its tables."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data.loading import load_images
from ..errors import UserError
from ..models.checkpoint import load, sha256
from ..models.devices import set_precision
from ..models.vit import VisionTransformer
from . import searches as study
from .parts import PARTS

FEW = 10  # images that are timed


def run(
    checkpoint: Path,
    digits: Path,
    *,
    per_class: int,
    train_per_class: int,
    kept: Path,
    device: torch.device,
    parts: Sequence[str] = PARTS,
) -> dict:
    """Calibration on training images, results on the first `per_class` of each class of the held-out ones.

    κ is calibrated on the first `train_per_class` of each class, auto on the first `per_class`.

    `kept`: folder for the scores of all candidates, which take the longest. `parts`: of PARTS, what is returned.
    """
    exact = load(checkpoint, device=device, dtype=set_precision("fp64", device))
    model = load(checkpoint, device=device, dtype=set_precision("fp32", device))
    if not isinstance(model, VisionTransformer):
        raise UserError(f"{checkpoint}: the study counts the products of the package's own models; give a file of one")
    name = f"{checkpoint.stem}-{sha256(checkpoint)[:8]}"
    x, y = first_of_each_class(*load_images(digits / "val", model), per_class)
    every = load_images(digits / "train", model)
    (tx, ty), (qx, qy) = (first_of_each_class(*every, count) for count in (train_per_class, per_class))
    few = torch.arange(len(x))[:: max(1, len(x) // FEW)][:FEW]

    def scores(which: str) -> torch.Tensor:
        given, count = ((tx, ty), train_per_class) if which == "train" else ((x, y), per_class)
        return study.every_score(model, *given, kept / f"{name}-{which}-{count}.npy")

    def check() -> dict:
        complete = kept / f"{name}-val-{per_class}-complete.npy"
        every = study.every_score(model, x[few], y[few], complete, finely=model.config.mlp_dim, at_once=1)
        return study.checked(scores("val")[few], every)

    def training() -> dict:
        return {
            "shortlist_images": len(tx),
            "shortlist": study.calibration(scores("train")),
            "quadrature": study.quadratures(exact, qx.double(), qy, rules={}, fine=(16, 32)),
        }

    half, few_rules = (x[::2].double(), y[::2]), {"gauss-legendre": (2, 3, 4), "gauss-radau": (2, 3)}
    results = {
        "training": training,
        "layers": lambda: study.per_layer(scores("val")),
        "checked": check,
        "paths": lambda: study.whole_paths(model, x, y, scores("val")),
        "quadrature": lambda: study.quadratures(exact, x.double(), y),
        "shortlist_quadrature": lambda: study.quadratures(
            exact, *half, rules=few_rules, fine=(8, 16), search="shortlist"
        ),
        "precision": lambda: study.precisions(checkpoint, x, y),
        "costs": lambda: study.costs(model, x[few], y[few]),
    }
    return {part: results[part]() for part in PARTS if part in parts}


def first_of_each_class(images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    chosen = torch.cat([(labels == label).nonzero()[:count, 0] for label in labels.unique()])
    return images[chosen], labels[chosen]


def markdown(found: dict) -> str:
    """Tables of every model's results: searches, rules, precisions, costs."""
    lines = []
    for name, r in found.items():
        layers, quadrature = r["layers"], r["quadrature"]
        short, checked = layers["shortlist"], r["checked"]
        lines += [
            f"**{name}**, {layers['images']} held-out images, {layers['layers']} layers",
            "",
            "| search | exact winner, of layers | lowest rank of it | whole paths | mean JAS |",
            "|---|---|---|---|---|",
        ]
        agreement = {"layer": layers["layer"], "shortlist": short, "exhaustive": {"agree": 1.0}}
        for search, a in agreement.items():
            rank = (layers["estimate"] if search == "shortlist" else a).get("lowest_rank", "")
            path = r["paths"][search]
            lines.append(
                f"| {search} | {_percent(a['agree'])} | {rank} | {_percent(path['agree'])} | {path['jas']:.4f} |"
            )
        stopped = ", ".join(f"{word} {count}" for word, count in short["stopped"].items())
        lines += [
            f"\nThe exact winner is that of Gauss-Legendre 8, among the {study.FINELY} best by Gauss-Radau 2. Of all "
            f"candidates, in {checked['images']} images, it is the same in {_percent(checked['agree'])} of the "
            f"layers; the two rules differ by {_percent(checked['error'])} of a layer's largest score at most. "
            f"Gauss-Radau 2 and all candidates choose it in {_percent(layers['exact']['agree'])} of the layers.",
            f"\nShortlist with the cap off: {short['mean_scored']:.2f} candidates on average ({stopped}); "
            f"misses: {short['misses'] or 'none'}.\n",
            f"| rule, {quadrature['converged']} of {quadrature['images']} images converged | nodes | whole paths |",
            "|---|---|---|",
        ]
        for rule, sizes in quadrature["rules"].items():
            lines += [f"| {rule} | {m} | {_percent(agree)} |" for m, agree in sizes.items()]
        a = quadrature["auto"]
        lines.append(
            f"| auto | {a['mean_nodes']:.2f} below α = 1 on average, repeats included | {_percent(a['agree'])} |"
        )
        short = r["shortlist_quadrature"]
        few = f"(shortlist; 8 and 16 agree on {short['converged']} of {short['images']})"
        for rule, sizes in short["rules"].items():
            lines += [f"| {rule} {few} | {m} | {_percent(agree)} |" for m, agree in sizes.items()]
        a = short["auto"]
        lines += [f"| auto {few} | {a['mean_nodes']:.2f} | {_percent(a['agree'])} |", ""]
        lines += _precisions(r["precision"])
        lines += ["| search | block passes/image | s/image |", "|---|---|---|"]
        lines += [f"| {what} | {c['block_passes']:.0f} | {c['seconds']:.3f} |" for what, c in r["costs"].items()]
        lines.append("")
    return "\n".join(lines)


def _precisions(found: dict) -> list[str]:
    lines = [
        "| precision, Gauss-Legendre 4 | layers as in fp32 | whole paths | activation paths | error of a path's JAS "
        "| mean JAS reached | largest margin where it differs, layers under it |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, a in found.items():
        if name == "fp32":
            lines.append(f"| fp32 | | | | | {a['jas']:.4f} | |")
        else:
            largest = f"{a['margins'][0]:.4f}, {_percent(a['under'])}" if a["margins"] else "none"
            shares = (a[key] for key in ("layers", "whole_paths", "whole_activation_paths", "score_error"))
            lines.append(f"| {name} | {' | '.join(map(_percent, shares))} | {a['jas']:.4f} | {largest} |")
    return [*lines, ""]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
