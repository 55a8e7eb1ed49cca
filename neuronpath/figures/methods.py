"""What each method's paths are worth, and what they cost (docs/methods.md)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..analysis.methods import FIRST, NAMES, in_all
from ..records.schema import EDITED
from .common import SMALL, escaped, finish, marker

NEURON_PATHS = {"layer": "o", "shortlist": "s", "beam_4": "^", "beam_16": "D"}
CONTROLS = ("base", "uniform", "random")  # dotted
COLUMNS = 6  # of the legend
CURVES = {"curve_removed": "best K at their means", "curve_retained": "all but the best K at their means"}


def plot_methods(found: Mapping[str, dict]) -> Figure:
    """Of every model (rows) what removal takes against what the search costs, and p over K, removed and retained.

    `found`: the JSON of scripts/study_methods.py. Points are means over the trainings, bars from the least to the most.
    """
    figure = Figure(figsize=(10.5, 1.2 + 3 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 3, squeeze=False)
    for row, (model, group) in zip(panels, found.items(), strict=True):
        _costs(row[0], group["over"])
        row[0].set_title(escaped(model), fontsize=9, loc="left")
        for axes, (curve, title) in zip(row[1:], CURVES.items(), strict=True):
            _curves(axes, [*group["trainings"].values()], curve)
            axes.set_title(title, fontsize=9)
    used = [method for method in NAMES if any(method in group["over"] for group in found.values())]
    handles = [marker(NAMES[method], _colour(method), marker=_marker(method), markersize=5) for method in used]
    handles.append(marker("unedited", linestyle="--", linewidth=1))
    trainings = ", ".join(f"{escaped(model)} {len(group['trainings'])}" for model, group in found.items())
    finish(
        figure,
        handles,
        f"Means over trainings ({trainings}), bars from the least to the most; without bars: of the first training "
        f"alone, as far from {NAMES[FIRST]} as there. Left: probability of the label after removal to 0 minus before, "
        "against block passes per image. Middle and right: probability of the label over K, the units of every layer "
        "that are set to their means, or that alone are not; points side by side.",
        COLUMNS,
    )
    return figure


def _colour(method: str) -> str:
    return EDITED["ja" if method in NEURON_PATHS else method].colour


def _marker(method: str) -> str:
    return NEURON_PATHS.get(method, "o")


def _costs(axes: Axes, over: Mapping[str, dict]) -> None:
    unit = "block_passes" if any(own["block_passes"] for own in over.values()) else "cpu_seconds"
    for method, own in over.items():
        effect, cost = own["p_zero"], own[unit]
        if cost and cost["mean"] > 0:
            mean, bars = effect["mean"], np.array([[effect["mean"] - effect["min"]], [effect["max"] - effect["mean"]]])
            if not in_all(own, over[FIRST]["p_zero"]["of"]):  # of some trainings: as far from FIRST as there
                mean, bars = over[FIRST]["p_zero"]["mean"] - own["p_zero_minus"]["mean"], np.zeros((2, 1))
            style: dict[str, Any] = {
                "color": _colour(method),
                "marker": _marker(method),
                "markersize": 5,
                "linewidth": 1,
            }
            axes.errorbar(cost["mean"], mean, bars, linestyle="none", **style)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xscale("log")
    axes.set_xlabel("block passes" if unit == "block_passes" else "CPU s", fontsize=SMALL)
    axes.set_ylabel("change of p, removed to 0", fontsize=SMALL)
    _plain(axes)


def _curves(axes: Axes, trainings: list[dict], curve: str) -> None:
    shown = [method for method in NAMES if all(curve in found.get(method, {}) for found in trainings)]
    for method in shown:
        aside = 1.015 ** (shown.index(method) - (len(shown) - 1) / 2)  # side by side
        lines = [found[method][curve] for found in trainings]
        ks = [int(k) for k in lines[0] if k != "0"]
        values = np.mean([[line[str(k)] for k in ks] for line in lines], 0)
        style: dict[str, Any] = {
            "color": _colour(method),
            "marker": _marker(method),
            "markersize": 4,
            "linewidth": 1.2,
        }
        style["linestyle"] = ":" if method in CONTROLS else "-"
        axes.plot(np.array(ks) * aside, values, **style)
        axes.axhline(np.mean([line["0"] for line in lines]), color="black", linestyle="--", linewidth=1, zorder=0)
        axes.set_xscale("log")
        axes.set_xticks(ks, [str(k) for k in ks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("K, units per layer", fontsize=SMALL)
    axes.set_ylabel("mean p of the label", fontsize=SMALL)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
