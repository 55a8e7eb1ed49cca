"""Figures of what is left over K, the units per layer that are removed or retained (docs/method.md §5)."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..analysis.curves import AREA, MEASURES
from ..records.schema import ABLATIONS, EDITED
from .common import SMALL, counts, escaped, finish, marker


def plot_curves(rows: Sequence[dict], model: str) -> Figure:
    """Over K mean p and top-1 (rows of panels), by operation and what units are set to (columns).

    `rows`: what `analysis.curves.table` returns. A line per method, 95 % intervals; dashed: the unedited model.
    """
    chosen = [row for row in rows if row["model"] == model]
    columns = list(dict.fromkeys((row["operation"], row["ablation"]) for row in chosen))
    methods = [method for method in EDITED if any(row["method"] == method for row in chosen)]
    figure = Figure(figsize=(max(6.5, 1 + 3.1 * len(columns)), 6.2), layout="constrained")
    panels = figure.subplots(len(MEASURES), len(columns), squeeze=False, sharex=True, sharey="row")
    for (i, measure), (j, (operation, ablation)) in product(enumerate(MEASURES), enumerate(columns)):
        here = [row for row in chosen if (row["operation"], row["ablation"]) == (operation, ablation)]
        _draw(panels[i, j], here, measure, methods)
        if i == 0:
            what = (
                f"removed: set to\n{ABLATIONS[ablation]}"
                if operation == "remove"
                else "retained: all others at\ntheir means"
            )
            panels[i, j].set_title(what, fontsize=9)
    for panel, words in zip(panels[:, 0], MEASURES.values(), strict=True):
        panel.set_ylabel(words, fontsize=SMALL)
    ks = sorted({k for row in chosen for k in row["ks"]})
    for panel in panels[-1]:  # whose axis all of a column share
        panel.set_xscale("log")
        panel.set_xticks(ks, [str(k) for k in ks])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("K, units per layer", fontsize=SMALL)
    handles = [
        marker(EDITED[method].name, EDITED[method].colour, marker="o", linewidth=1.5, markersize=4)
        for method in methods
    ]
    handles.append(marker("unedited", linestyle="--", linewidth=1))
    n = counts([(row["n"], 0) for row in chosen])[0]
    finish(
        figure,
        handles,
        f"{escaped(model)}: of each image's own path the best K units of every layer are removed, or all others are. "
        f"p: probability of the true class. Means over {n}, with 95 % bootstrap intervals, images resampled within "
        f"their classes. Areas in the tables: {AREA}.",
    )
    return figure


def _draw(axes: Axes, rows: Sequence[dict], measure: str, methods: Sequence[str]) -> None:
    style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 1.2, "capsize": 2}
    for row in rows:
        values = np.array([found["value"] for found in row[measure]["at"]])
        bounds = np.array([(found["low"], found["high"]) for found in row[measure]["at"]], float).T  # (2, ks)
        bars = np.abs(np.where(np.isfinite(bounds), bounds, values) - values)
        aside = 1.03 ** (methods.index(row["method"]) - (len(methods) - 1) / 2)  # side by side
        axes.errorbar(np.array(row["ks"]) * aside, values, bars, color=EDITED[row["method"]].colour, **style)
    axes.axhline(rows[0][measure]["unedited"], color="black", linestyle="--", linewidth=1, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
