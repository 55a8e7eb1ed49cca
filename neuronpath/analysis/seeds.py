"""What several trainings of the same models agree on: means and spreads of the table's entries (docs/method.md §5)."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..records.args import shared_differences
from ..records.schema import EDITED
from .results import Results, control_words
from .table import GROUPS, MEASURES, table

WEIGHTS = "checkpoint_sha256"


def tables_of(
    folders: Sequence[Path], prefix: str, models: Sequence[str] | None = None, groups: Iterable[str] = GROUPS
) -> list[dict]:
    """The `table` of each of `folders`, one per training, each with the same `models` (default: all that any has).

    UserError for fewer than two folders, one without records, and two with records of the same weights. A warning where
    records were made otherwise than the first folder's.
    """
    if len(folders) < 2:
        raise UserError(f"{len(folders)} folders of results; give two or more, one for each training")
    opened = [Results(folder, prefix) for folder in folders]
    names = [results.models() for results in opened]
    chosen = models or sorted({model for found in names for model in found})
    for model in chosen:
        _check(opened, model)
    return [table(results, chosen, groups) for results in opened]


def _check(opened: Sequence[Results], model: str) -> None:
    """That these are trainings of their own, searched and edited alike."""
    seen: dict[str, Path] = {}
    first: dict | None = None
    for results in opened:
        made = next((args.circumstances() for args in results.args(model).values()), {})
        weights = made.pop(WEIGHTS, None)
        if weights in seen:
            raise UserError(
                f"{seen[weights]} and {results.root}: the same weights of {model}; give a folder for each training"
            )
        if weights is not None:
            seen[weights] = results.root
        if first and (text := shared_differences(first, made)):
            warnings.warn(f"{results.root}: {model} was made otherwise than in {opened[0].root} ({text})", stacklevel=2)
        first = first or made


def over_seeds(tables: Sequence[dict]) -> dict:
    """{"seeds": n, "control": {model: …}, "measures": {measure: {method: {model: entry}}}} of `tables`, n trainings.

    An entry holds `mean`, `sd` (None of a single one), `min` and `max` of the trainings' values, and `seeds`, how many
    have one. Of a claim, Neuron Path minus another method, also in how many it `holds`, that is, is on the claimed side
    of 0, and in how many of these `clear`: the exact test's p is under 0.05, or the 95 % interval is without 0.
    `control` is the mean of the trainings' ratios and shares.
    """
    measures: dict[str, dict[str, dict[str, dict]]] = {}
    for key, methods in tables[0]["measures"].items():
        for method, row in methods.items():
            for model in row:
                entries = [found["measures"][key][method][model] for found in tables]
                measures.setdefault(key, {}).setdefault(method, {})[model] = _agreed(entries, MEASURES[key].claim)
    return {"seeds": len(tables), "control": _control([found["control"] for found in tables]), "measures": measures}


def _agreed(entries: Sequence[dict], claim: int) -> dict:
    known = [entry for entry in entries if entry["value"] is not None]
    if not known:
        return {"seeds": 0, "mean": None}
    found: dict = {"seeds": len(known), **spread([entry["value"] for entry in known])}
    if claim:
        holding = [entry for entry in known if claim * entry["value"] > 0]
        found |= {"holds": len(holding), "clear": sum(map(is_clear, holding))}
    return found


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Of one or more trainings' values `mean`, `sd` (None of a single one), `min` and `max`."""
    found = np.array(values)
    sd = float(found.std(ddof=1)) if len(found) > 1 else None
    return {"mean": float(found.mean()), "sd": sd, "min": float(found.min()), "max": float(found.max())}


def is_clear(entry: Mapping[str, Any]) -> bool:
    """Whether a difference is beyond the images' chance: the exact test's p < 0.05, or a 95 % interval without 0."""
    if entry.get("p") is not None:
        return entry["p"] < 0.05
    return entry["low"] is not None and (entry["low"] > 0 or entry["high"] < 0)


def _control(matches: Sequence[dict]) -> dict[str, dict[str, float] | None]:
    """By model the means over those trainings that tell."""
    found: dict[str, dict[str, float] | None] = {}
    for model in dict.fromkeys(model for of_seed in matches for model in of_seed):
        told = [of_seed[model] for of_seed in matches if of_seed.get(model)]
        means = {key: float(np.mean([match[key] for match in told])) for key in ("ratio", "within")} if told else None
        found[model] = means
    return found


def text_of(found: dict) -> str:
    """The claims of `over_seeds` as Markdown."""
    claims = {key: methods for key, methods in found["measures"].items() if MEASURES[key].claim}
    models = [*dict.fromkeys(model for methods in claims.values() for row in methods.values() for model in row)]
    lines = [f"| {found['seeds']} trainings | | {' | '.join(models)} |", "|---" * (2 + len(models)) + "|"]
    for key, methods in claims.items():
        claimed = "above" if MEASURES[key].claim > 0 else "below"
        for i, (method, row) in enumerate(methods.items()):
            name = "" if i else f"{MEASURES[key].name} (claim: {claimed} 0)"
            lines.append(f"| {name} | {EDITED[method].name} | {' | '.join(_cell(row[m], key) for m in models)} |")
    lines += [
        "",
        "Mean ± standard deviation over the trainings (least to most); in how many of them the claim holds, and in how "
        "many of these beyond the images' chance: p < 0.05 of accuracies, a 95 % interval without 0 of the others.",
    ]
    words = control_words(found["control"])
    return "\n".join([*lines, *(["", words] if words else [])])


def _cell(entry: dict, key: str) -> str:
    if not entry["seeds"]:
        return "missing"

    def shown(x: float, sign: str = "+") -> str:
        return f"{round(x, MEASURES[key].digits) + 0.0:{sign}.{MEASURES[key].digits}f}"  # no -0.0

    spread = (
        "" if entry["sd"] is None else f" ± {shown(entry['sd'], '')} ({shown(entry['min'])} to {shown(entry['max'])})"
    )
    return f"{shown(entry['mean'])}{spread}, holds in {entry['holds']} of {entry['seeds']}, clear in {entry['clear']}"
