"""Figures of what removal and enhancement do, from result folders (docs/method.md §5)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, StrMethodFormatter

from ..analysis.metrics import Edited, Missing
from ..analysis.results import EDITS, Results, control_words, edited_of, matches_of
from ..errors import UserError
from ..records.schema import EDITED, OPERATIONS
from .common import counts, escaped, finish, jitter, marker, no_records, points
from .scores import mixed

HEADS = {"cls": "ViT", "mean": "MAE"}  # a model's pooling, and what models with it are called
ACCURACY = {
    key: f"{operation.noun.lower()}_accuracy_deviation" for key, operation in OPERATIONS.items()
}  # in the table
GAP = 0.21  # from method to method; models are 1 apart
HOLLOW: dict[str, Any] = {"marker": "s", "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.3}


def of_head(results: Results, models: Sequence[str], pool: str) -> list[str]:
    """Those of `models` that pool as `pool`, a key of HEADS, by their settings or else by their names."""
    pools = {m: results.settings(m).get("model_pool") or ("mean" if m.startswith("MAE") else "cls") for m in models}
    found = [model for model in models if pools[model] == pool]
    if not found:
        raise UserError(f"{results.root}: no records of {HEADS[pool]} models, only of {', '.join(models)}")
    return found


def probability_deviation(results: Results, models: Sequence[str]) -> Figure:
    """A panel per operation: for each model and method a box plot of the classes' Probability Deviations."""
    known = results.shown(EDITED, models, edits=True)
    edited = {
        name: {model: {method: _edited(results, model, method, name) for method in known} for model in models}
        for name in OPERATIONS
    }
    found = [one for of_models in edited.values() for row in of_models.values() for one in row.values() if one]
    if not found:
        raise _no_edits(results, models)
    methods = [
        method for method in known if method != "random" or any(row[method] for row in edited["remove"].values())
    ]
    figure, panels = _operation_panels(models, len(methods))
    for panel, of_models in zip(panels, edited.values(), strict=True):
        drawn: list[float] = []
        for x, method, one in _places(of_models.values(), methods):
            values = np.array([*one.probability_deviation().values()]) if one else np.empty(0)
            drawn.extend(values)
            if len(values):
                _box(panel, x, values, EDITED[method].colour, _gap(methods) / GAP)
            else:
                no_records(panel, x, "no ratios" if one else "no records")
        _ratio_axis(panel, drawn)
    sizes = [[(len(o.labels), len(set(o.labels))) for o in row.values() if o] for row in edited["remove"].values()]
    _name_models(panels, models, ["\n".join(counts(of_model)) for of_model in sizes])
    handles = [Patch(color=EDITED[method].colour, alpha=0.5, label=EDITED[method].name) for method in methods]
    left_out = max(int((~one.usable()).sum()) for one in found)
    finish(
        figure,
        [*handles, marker("one class", marker="o", markersize=5)],
        "Probability Deviation of a class: mean over its images of p(edited) / p(original), p being the probability of "
        "the true class; 1 (dashed) is no change. Box: quartiles and median of the classes; whiskers: the last class "
        "within 1.5 box heights."
        + bool(left_out) * f" Up to {left_out} images of a model, whose p(original) is 0, are left out."
        + _about_control(results, models)
        + mixed(results, models),
    )
    return figure


def _edited(results: Results, model: str, method: str, operation: str) -> Edited | None:
    """None where there are no records."""
    try:
        return edited_of(results, model, method, operation)
    except Missing:
        return None


def _no_edits(results: Results, models: Iterable[str]) -> UserError:
    return UserError(f"{results.root}: no edit records of {', '.join(models)} in {EDITS}/<method>/<model>")


def _box(axes: Axes, x: float, values: np.ndarray, colour: str, scale: float) -> None:
    line, middle = {"color": colour, "linewidth": 1.2}, {"color": "black", "linewidth": 1.4}
    style: dict[str, Any] = {
        "boxprops": {"facecolor": colour, "edgecolor": colour, "alpha": 0.35},
        "medianprops": middle,
    }
    style |= {"whiskerprops": line, "capprops": line, "patch_artist": True, "showfliers": False}
    axes.boxplot(values, positions=[x], widths=0.16 * scale, **style)
    points(axes, x + jitter(len(values), 0.12 * scale), values, colour)


def _ratio_axis(axes: Axes, values: Sequence[float]) -> None:
    """Dashed line at no change; logarithmic where few large ratios would press the rest flat."""
    axes.axhline(1, color="black", linestyle="--", linewidth=1, zorder=0)
    low, high = min(values, default=1), max(values, default=1)
    if 0 < 10 * low < high:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylabel("Probability Deviation (ratio)")


def accuracy_deviation(results: Results, found: dict) -> Figure:
    """A panel per operation: Accuracy Deviations with 95 % intervals, beside the paper's where there are any.

    `found`: what `table.table` returns for `results` and the group "accuracy".
    """
    models = [*found["models"]]
    rows = {
        name: [{method: row[model] for method, row in found["measures"][key].items()} for model in models]
        for name, key in ACCURACY.items()
    }
    entries = [entry for of_models in rows.values() for row in of_models for entry in row.values()]
    if not any(map(_known, entries)):
        raise _no_edits(results, models)
    methods = [
        method
        for method in rows["remove"][0]
        if method != "random" or any(_known(row[method]) for row in rows["remove"])
    ]
    figure, panels = _operation_panels(models, len(methods), sharey=True)
    for panel, of_models in zip(panels, rows.values(), strict=True):
        for x, method, entry in _places(of_models, methods):
            _estimate(panel, x, entry, EDITED[method].colour)
        panel.axhline(0, color="black", linestyle="--", linewidth=1, zorder=0)
        panel.set_ylabel("Accuracy Deviation\n(percentage points)")
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(min(low, -1), max(high, 1))
    sizes = [[(entry["n"], 0) for entry in row.values() if _known(entry)] for row in rows["remove"]]
    _name_models(panels, models, [counts(of_model)[0] for of_model in sizes])
    handles = [marker(EDITED[method].name, EDITED[method].colour, marker="o", linewidth=1.5) for method in methods]
    paper = any("paper" in entry for entry in entries)
    finish(
        figure,
        handles + paper * [marker("the paper's", **HOLLOW)],
        "Accuracy Deviation = 100 (top-1 accuracy edited - original), over all images. Bars: 95 % intervals of a "
        "difference of paired proportions (Newcombe's method 10)."
        + paper * " Hollow: the paper's figures, over all validation images of ImageNet-1k."
        + _about_control(results, models)
        + mixed(results, models),
    )
    return figure


def _about_control(results: Results, models: Sequence[str]) -> str:
    """A sentence for captions; "" where there is no control."""
    words = escaped(control_words(matches_of(results, models)))
    return words and f" {words}"


def _known(entry: dict) -> bool:
    return entry["value"] is not None


def _estimate(axes: Axes, x: float, entry: dict, colour: str) -> None:
    if not _known(entry):
        no_records(axes, x)
    else:
        axes.vlines(x, entry["low"], entry["high"], color=colour, linewidth=1.5)
        axes.plot(x, entry["value"], "o", color=colour, markersize=6)
    if "paper" in entry:
        axes.plot(x + 0.07, entry["paper"], color=colour, **HOLLOW)


def _operation_panels(models: Sequence[str], methods: int, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """One above the other; a model is a group of methods around a whole number."""
    figure = Figure(figsize=(max(6.5, 0.45 * methods * len(models) + 1.5), 7), layout="constrained")
    panels = [*figure.subplots(len(OPERATIONS), 1, sharex=True, sharey=sharey)]
    for panel, operation in zip(panels, OPERATIONS.values(), strict=True):
        panel.set_title(f"{operation.noun} ({operation.what}, factor {operation.factor:g})", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        for i in range(1, len(models)):
            panel.axvline(i - 0.5, color="0.85", linewidth=0.8, zorder=0)
    return figure, panels


def _gap(methods: Sequence[str]) -> float:
    """Between methods, so that those of a model do not reach the next model's."""
    return min(GAP, 0.84 / len(methods))


def _places(rows: Iterable[dict], methods: Sequence[str]) -> Iterable[tuple[float, str, Any]]:
    """(x, method, what a row has of it) for every model's row and every method."""
    for i, row in enumerate(rows):
        for j, method in enumerate(methods):
            yield i + _gap(methods) * (j - (len(methods) - 1) / 2), method, row[method]


def _name_models(panels: Sequence[Axes], models: Sequence[str], sizes: Sequence[str]) -> None:
    names = [f"{escaped(model)}\n{n}" for model, n in zip(models, sizes, strict=True)]
    panels[-1].set_xticks(range(len(models)), names)
    panels[-1].set_xlim(-0.55, len(models) - 0.45)
