"""Do paths say which units a smaller model can do without? Differences and tables of what `studies` measures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, in_markdown, one_line
from ..files import ROOT
from .metrics import Edited, Estimate, accuracy_difference, difference

#: By its key in the JSON the name of each importance.
IMPORTANCES = {
    **{f"path_{k}": f"paths, K = {k}" for k in (1, 5, 20)},
    "activation": "activation",
    "activation_all": "activation, all tokens",
    "taylor": "Taylor",
    "taylor_all": "Taylor, all tokens",
    "magnitude": "magnitude",
    "random": "random",
}
RIVALS = ("taylor", "taylor_all", "random")  # what every other importance is compared with
WAYS = {"plain": "cut units at 0", "folded": "means of cut units folded"}
MEASURES = {"accuracy": ("top-1, %", 1), "p": ("mean p of the label", 4)}  # heading, digits

Arrays = Mapping[str, np.ndarray]


def of_smaller_models(labels: np.ndarray, shares: Sequence[float], measured: Mapping[str, Any]) -> dict:
    """By importance, way and share the accuracy in per cent and the mean p, and how they compare.

    `measured`: what `studies.measure_smaller` returns of images of classes `labels` (n,). `minus`: its own minus that
    of each of RIVALS, in points and of p, with 95 % intervals over the images, paired; `fold`, of folded ones: minus
    without folding; `full`: minus the full model.
    """
    images = [str(i) for i in range(len(labels))]
    full = measured["full"]

    def edited(key: str, way: str, i: int) -> Edited:
        own = measured[key][way]
        return Edited(images, labels, full["p"], own["p"][i], full["right"], own["right"][i])

    whole = Edited(images, labels, full["p"], full["p"], full["right"], full["right"])
    found: dict[str, dict] = {"full": _level(full)}
    for key in (key for key in measured if key != "full"):
        found[key] = {}
        for way in WAYS:
            entries = found[key][way] = {}
            for i, share in enumerate(shares):
                own = edited(key, way, i)
                others = [other for other in RIVALS if other in measured and other != key]
                entry = _level({part: measured[key][way][part][i] for part in ("p", "right")})
                entry["minus"] = {other: _compared(own, edited(other, way, i)) for other in others}
                entry["minus"]["full"] = _compared(own, whole)
                if way == "folded":
                    entry["fold"] = _compared(own, edited(key, "plain", i))
                entries[f"{share:g}"] = entry
    return found


def _level(arrays: Arrays) -> dict:
    return {"accuracy": 100 * float(arrays["right"].mean()), "p": float(arrays["p"].mean())}


def _compared(one: Edited, other: Edited) -> dict:
    return {"accuracy": asdict(accuracy_difference(one, other)), "p": asdict(difference(one, other, "after"))}


def verdict(entry: Mapping[str, Any]) -> str:
    """win, tie or loss of a difference: whether its 95 % interval is without 0, of accuracies its p under 0.05."""
    low, high, p = entry["low"], entry["high"], entry["p"]
    clear = p < 0.05 if p is not None else low is not None and (low > 0 or high < 0)
    return ("win" if entry["value"] > 0 else "loss") if clear else "tie"


def verdicts_of(kept: Mapping[str, Any], key: str, way: str, other: str, measure: str) -> list[str]:
    """Of one importance against another, share by share."""
    return [verdict(entry["minus"][other][measure]) for entry in kept[key][way].values()]


def read_shrink(file: Path) -> dict:
    """What scripts/study_shrink.py wrote. UserError where there is none, or where it is something else."""
    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    make = f"python scripts/study_shrink.py … --output {name.with_suffix('')} makes it"
    try:
        found = json.loads(file.read_text())
        whole = all({*group["kept"]} <= {"full", *IMPORTANCES} for group in found["models"].values())
        whole = whole and (not found["time"] or bool(found["time"]["shares"]))
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; {make}") from None
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as e:
        raise UserError(f"{name}: not of study_shrink.py ({one_line(e)}); {make}") from e
    if not whole:
        raise UserError(f"{name}: not of study_shrink.py (unknown importances); {make}")
    return found


def shrink_tables(found: Mapping[str, Any]) -> str:
    """Of every model how the smaller ones do and how paths compare; what they cost."""
    lines: list[str] = []
    for name, group in found["models"].items():
        lines += [f"### {in_markdown(name)}: {group['images']} held-out images, {group['training']} to choose by", ""]
        lines += [line for way in WAYS for measure in MEASURES for line in _levels(group["kept"], way, measure)]
        lines += _costs(group)
        lines += [line for measure in ("p", "accuracy") for line in _counts(group["kept"], measure)]
        lines += [line for other in RIVALS if other in group["kept"] for line in _differences(group["kept"], other)]
    if found["time"]:
        lines += _times(found["time"])
    return "\n".join(lines).strip() + "\n"


def _shares(kept: Mapping[str, Any]) -> list[str]:
    return [*next(own["plain"] for key, own in kept.items() if key != "full")]


def _levels(kept: Mapping[str, Any], way: str, measure: str) -> list[str]:
    heading, digits = MEASURES[measure]
    shares = _shares(kept)
    title = f"{heading}; {WAYS[way]}; {kept['full'][measure]:.{digits}f} uncut"
    lines = [f"| {title} | {' | '.join(shares)} |", "|---" * (1 + len(shares)) + "|"]
    for key in (key for key in IMPORTANCES if key in kept):
        cells = [f"{kept[key][way][share][measure]:.{digits}f}" for share in shares]
        lines.append(f"| {IMPORTANCES[key]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _costs(group: Mapping[str, Any]) -> list[str]:
    """Operations of a forward, and of the paths' units the share that any path holds."""
    flops = {share: value for share, value in group["flops"].items() if share != "1"}
    full = group["flops"]["1"]
    lines = [f"| operations; {full / 1e6:.1f} million uncut | {' | '.join(flops)} |", "|---" * (1 + len(flops)) + "|"]
    cells = [f"{100 * value / full:.0f} %" for value in flops.values()]
    lines += [f"| of the uncut model's | {' | '.join(cells)} |", ""]
    held = [f"{IMPORTANCES[key].partition(', ')[2]}: {100 * share:.0f} %" for key, share in group["held"].items()]
    return [*lines, *([f"Units that are in any path, {'; '.join(held)}.", ""] if held else [])]


def _counts(kept: Mapping[str, Any], measure: str) -> list[str]:
    """In how many of the shares each importance wins, ties and loses."""
    others = [other for other in RIVALS if other in kept]
    columns = [(way, other) for way in WAYS for other in others]
    heads = [f"against {IMPORTANCES[other]}, {'folded' if way == 'folded' else 'at 0'}" for way, other in columns]
    title = f"{'mean p' if measure == 'p' else 'accuracy'}: wins, ties, losses"
    lines = [f"| {title} | {' | '.join(heads)} |", "|---" * (1 + len(columns)) + "|"]
    for key in (key for key in IMPORTANCES if key in kept):
        cells = []
        for way, other in columns:
            found = [] if key == other else verdicts_of(kept, key, way, other, measure)
            cells.append(", ".join(str(found.count(word)) for word in ("win", "tie", "loss")) if found else "")
        lines.append(f"| {IMPORTANCES[key]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _differences(kept: Mapping[str, Any], other: str) -> list[str]:
    """Paths minus a rival, cut units at 0: of p and of accuracy, with intervals."""
    paths = [key for key in IMPORTANCES if key.startswith("path_") and key in kept]
    if not paths:
        return []
    columns = [(key, measure) for key in paths for measure in ("p", "accuracy")]
    heads = [f"{IMPORTANCES[key]}: {'p' if measure == 'p' else 'points'}" for key, measure in columns]
    lines = [f"| minus {IMPORTANCES[other]}, cut units at 0 | {' | '.join(heads)} |", "|---" * (1 + len(columns)) + "|"]
    for share in _shares(kept):
        cells = []
        for key, measure in columns:
            entry = kept[key]["plain"][share]["minus"][other][measure]
            cells.append(Estimate(**{**entry, "p": None}).shown(3 if measure == "p" else 1, True))
        lines.append(f"| {share} | {' | '.join(cells)} |")
    return [*lines, ""]


def _times(found: Mapping[str, Any]) -> list[str]:
    full = found["shares"]["1"]
    lines = [
        f"### What they cost at {in_markdown(found['model'])} sizes: {found['images']} images at once, one thread, "
        f"{found['rounds']} interleaved rounds, {in_markdown(found['device'])}",
        "",
        "| share kept | GFLOP per image | of the full model's | weights, millions | CPU s per image | of the full "
        "model's, median (least-most) | elapsed |",
        "|---" * 7 + "|",
    ]
    for share, entry in found["shares"].items():
        cpu, wall = entry["cpu_ratio"], entry["ratio"]
        lines.append(
            f"| {share} | {entry['flops'] / 1e9:.2f} | {100 * entry['flops'] / full['flops']:.0f} % "
            f"| {entry['weights'] / 1e6:.1f} | {entry['cpu']:.4f} "
            f"| {cpu['median']:.2f} ({cpu['low']:.2f}-{cpu['high']:.2f}) | {wall['median']:.2f} |"
        )
    return [*lines, ""]
