"""Which method finds the neurons that matter? Means, differences and tables of what `studies.methods` measures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..errors import UserError, in_markdown, one_line
from ..files import ROOT
from ..records.schema import EDITED
from .curves import log_area
from .metrics import Edited, Estimate, accuracy_difference, difference, estimate
from .seeds import is_clear, spread
from .validity import overlap, spearman

#: By its key in the JSON the name of each method.
NAMES = {
    "layer": "Neuron Path, layer",
    "shortlist": "Neuron Path, shortlist",
    "beam_4": "Neuron Path, beam 4",
    "beam_16": "Neuron Path, beam 16",
    **{key: method.name for key, method in EDITED.items() if key != "ja" and not method.job.startswith("heads/")},
}
FIRST = "layer"  # what the others are compared with

#: By its key in the JSON the heading and the digits of each measure, and whether more (1) or less (-1) is better.
TABLES: dict[str, dict[str, tuple[str, int, int]]] = {
    "Scores and costs": {
        "jas": ("mean JAS", 4, 1),
        "validity": ("Spearman of JAS and what removal takes", 2, 1),
        "stability": ("stability", 2, 1),
        "block_passes": ("block passes", 0, 0),
        "cpu_seconds": ("CPU s", 3, 0),
    },
    "Change of the label's probability": {
        "p_zero": ("removed to 0", 4, -1),
        "p_mean": ("to means", 4, -1),
        "p_resample": ("to other images'", 4, -1),
        "p_double": ("doubled", 4, 1),
    },
    "Change of accuracy, points": {
        "accuracy_zero": ("removed to 0", 2, -1),
        "accuracy_mean": ("to means", 2, -1),
        "accuracy_resample": ("to other images'", 2, -1),
        "accuracy_double": ("doubled", 2, 1),
    },
    "Mean probability over ln K": {
        "area_removed": ("best K at their means", 4, -1),
        "area_retained": ("all but the best K at their means", 4, 1),
    },
}
EDITS = ("zero", "mean", "resample", "double")
Arrays = Mapping[str, np.ndarray]


def of_training(labels: np.ndarray, measured: Mapping[str, Arrays]) -> dict:
    """Of one model by method and measure the value over the images with a 95 % interval.

    `measured`: by method what `studies.measure` returns, FIRST among them. `…_minus` is FIRST's minus the method's own,
    paired, of probabilities and accuracies that after the edit. `labels` (n,).
    """
    first = measured[FIRST]
    return {
        method: _values(labels, own) | ({} if method == FIRST else _differences(labels, first, own))
        for method, own in measured.items()
    }


def _values(labels: np.ndarray, own: Arrays) -> dict:
    found: dict[str, dict | float | None] = {
        "jas": _mean(labels, own["jas"]),
        "validity": asdict(estimate(labels, lambda i: _validity(own, i))),
    }
    if "again" in own:
        found["stability"] = _mean(labels[own["again_of"]], _stability(own))
    found |= {key: _number(own[key]) for key in ("block_passes", "cpu_seconds", "seconds")}
    for name in EDITS:
        found[f"p_{name}"] = _mean(labels, own[f"p_{name}"] - own["p"])
        found[f"accuracy_{name}"] = asdict(_edited(labels, own, name).accuracy_deviation())
    for name in ("removed", "retained") if "ks" in own else ():
        found[f"area_{name}"] = _mean(labels, log_area(own["ks"].tolist(), own[name]))
        ks, means = [0, *own["ks"].tolist()], [own["p"].mean(), *own[name].mean(0)]
        found[f"curve_{name}"] = {str(k): float(mean) for k, mean in zip(ks, means, strict=True)}
    return found


def _differences(labels: np.ndarray, first: Arrays, own: Arrays) -> dict:
    found = {
        "jas_minus": _mean(labels, first["jas"] - own["jas"]),
        "validity_minus": asdict(estimate(labels, lambda i: _validity(first, i) - _validity(own, i))),
    }
    if "again" in own:
        found["stability_minus"] = _mean(labels[own["again_of"]], _stability(first) - _stability(own))
    for name in EDITS:
        pair = _edited(labels, first, name), _edited(labels, own, name)
        found[f"p_{name}_minus"] = asdict(difference(*pair, "after"))
        found[f"accuracy_{name}_minus"] = asdict(accuracy_difference(*pair))
    for name in ("removed", "retained") if "ks" in own else ():
        areas = (log_area(arrays["ks"].tolist(), arrays[name]) for arrays in (first, own))
        found[f"area_{name}_minus"] = _mean(labels, np.subtract(*areas))
    return found


def _mean(labels: np.ndarray, values: np.ndarray) -> dict:
    return asdict(estimate(labels, lambda i: values[i].mean(-1)))


def _validity(own: Arrays, i: np.ndarray) -> np.ndarray:
    return spearman(own["jas"][i], (own["p"] - own["p_zero"])[i])


def _stability(own: Arrays) -> np.ndarray:
    return overlap(own["path"][0, own["again_of"], :, None], own["again"][..., None])


def _edited(labels: np.ndarray, own: Arrays, name: str) -> Edited:
    images = [str(i) for i in range(len(labels))]
    return Edited(images, labels, own["p"], own[f"p_{name}"], own["right"], own[f"right_{name}"])


def _number(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)


def over_trainings(trainings: Sequence[dict]) -> dict:
    """By method and measure mean, `sd`, `min` and `max` over those of `trainings` that have it, and how many (`of`).

    Of differences also in how many FIRST's is larger or smaller than the method's own beyond the images' chance: the
    95 % interval is without 0, of accuracies the exact test's p is under 0.05.
    """
    result: dict[str, dict] = {}
    for method in dict.fromkeys(method for found in trainings for method in found):
        entries = [found[method] for found in trainings if method in found]
        keys = [key for key in entries[0] if not key.startswith("curve_")]
        result[method] = {key: _agreed([entry[key] for entry in entries]) for key in keys}
    return result


def _agreed(entries: Sequence[dict | float | None]) -> dict | None:
    known = [entry for entry in entries if entry is not None]
    if not known:
        return None
    values = [entry["value"] if isinstance(entry, dict) else entry for entry in known]
    clear = [np.sign(entry["value"]) for entry in known if isinstance(entry, dict) and is_clear(entry)]
    return {**spread(values), "of": len(values), "larger": clear.count(1), "smaller": clear.count(-1)}


def read_study(file: Path) -> dict[str, dict]:
    """What scripts/study_methods.py wrote. UserError where there is none, or where it is something else."""
    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    make = f"python scripts/study_methods.py … --output {name.with_suffix('')} makes it"
    try:
        found = json.loads(file.read_text())
        whole = all(group["trainings"] and {*group["over"]} <= {*NAMES} for group in found.values())
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; {make}") from None
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as e:
        raise UserError(f"{name}: not of study_methods.py ({one_line(e)}); {make}") from e
    if not (found and whole):
        raise UserError(f"{name}: not of study_methods.py (no trainings, or unknown methods); {make}")
    return found


def method_tables(found: Mapping[str, dict]) -> str:
    """Of every model its tables: means over the trainings, ± standard deviation, and how they compare with FIRST's.

    Methods that only some trainings have are beside FIRST in tables of the first training alone.
    """
    lines: list[str] = []
    for name, group in found.items():
        trainings, over = [*group["trainings"].values()], group["over"]
        whole = {method: own for method, own in over.items() if in_all(own, len(trainings))}
        lines += [
            f"### {in_markdown(name)}: {_count(len(trainings))}, {group['images']} images each",
            "",
            *_tables(whole),
        ]
        if len(whole) < len(over):
            first = {method: own for method, own in trainings[0].items() if method == FIRST or method not in whole}
            lines += [f"{in_markdown(name)}, the first training alone:", "", *_tables(over_trainings([first]))]
        if paired := _paired(trainings[0]):
            title = f"{in_markdown(name)}, the first training: {NAMES[FIRST]} minus the method, of probabilities"
            lines += [f"{title} those after the edit, with 95 % intervals over its images:", "", *paired, ""]
    return "\n".join(lines)


def in_all(own: Mapping[str, dict | None], trainings: int) -> bool:
    """Whether so many trainings have a method, whose measures over trainings are `own`."""
    return max((entry["of"] for entry in own.values() if entry), default=0) >= trainings


def _tables(over: Mapping[str, dict]) -> list[str]:
    lines: list[str] = []
    for title, columns in TABLES.items():
        shown = {key: column for key, column in columns.items() if any(own.get(key) for own in over.values())}
        lines += [f"| {title} | {' | '.join(heading for heading, *_ in shown.values())} |"]
        lines += ["|---" * (1 + len(shown)) + "|"]
        for method, own in over.items():
            cells = [_cell(own, key) for key in shown]
            if any(cells):
                lines.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _paired(training: Mapping[str, dict]) -> list[str]:
    """FIRST's minus each method's own, of one training; nothing where there is nothing to compare."""
    keys = {"jas": TABLES["Scores and costs"]["jas"], **TABLES["Change of the label's probability"]}
    rows = {method: own for method, own in training.items() if any(f"{key}_minus" in own for key in keys)}
    lines = [
        f"| {NAMES[FIRST]} minus | {' | '.join(heading for heading, *_ in keys.values())} |",
        "|---" * (1 + len(keys)) + "|",
    ]
    for method, own in rows.items():
        found = [own.get(f"{key}_minus") for key in keys]
        cells = [Estimate(**entry).shown(4, True) if entry else "" for entry in found]
        lines.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
    return lines if rows else []


def _count(trainings: int) -> str:
    return f"{trainings} training{'s' if trainings > 1 else ''}"


def _cell(own: Mapping[str, dict | None], key: str) -> str:
    """`mean ± sd`; in how many trainings it is worse and better than FIRST's, beyond the images' chance."""
    entry = own.get(key)
    if not entry:
        return ""
    digits, better = next(columns[key][1:] for columns in TABLES.values() if key in columns)
    text = f"{round(entry['mean'], digits) + 0.0:.{digits}f}"  # no -0.0
    if better and entry["sd"] is not None:
        text += f" ± {entry['sd']:.{digits}f}"
    if minus := own.get(f"{key}_minus"):
        counts = {"worse": minus["larger"], "better": minus["smaller"]}
        if better < 0:
            counts = {"worse": minus["smaller"], "better": minus["larger"]}
        text += "".join(f", {word} {count}" for word, count in counts.items() if count)
    return text
