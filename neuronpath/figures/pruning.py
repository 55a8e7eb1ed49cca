"""Figures of what pruning does, over K, share of units and depth (docs/method.md §5)."""

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.pruning import NAMES, Outcome, Run
from ..records.schema import EDITED
from .common import escaped


def plot_runs(runs: dict[Run, Outcome], model: str, measure: str = "prob") -> Figure:
    """`measure`, "prob" or "top1", over the share of zeroed units: a panel per K (columns), tokens and depth (rows)."""
    chosen = {run: o for run, o in runs.items() if run.model == model}
    rows = sorted({(run.tokens, run.depth) for run in chosen}, key=lambda r: (r[0] != "cls", -r[1]))
    columns = sorted({run.topK for run in chosen})
    figure = Figure(figsize=(1.6 + 3.1 * len(columns), 1.5 + 2.5 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    for (i, (tokens, depth)), (j, k) in product(enumerate(rows), enumerate(columns)):
        panel = panels[i, j]
        here = {run: o for run, o in chosen.items() if (run.tokens, run.depth, run.topK) == (tokens, depth, k)}
        _draw_runs(panel, here, measure)
        panel.set_title(f"K = {k}, {'CLS token' if tokens == 'cls' else 'all tokens'}, {depth} layers", fontsize=9)
        panel.tick_params(labelsize=8)
    for panel in panels[:, 0]:
        panel.set_ylabel("mean p of the label" if measure == "prob" else "top-1 accuracy, %", fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("other units set to 0, %", fontsize=8)
    handles = {name: handle for p in panels.flat for handle, name in zip(*p.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    n = max(o.prob.n for o in chosen.values())
    figure.supxlabel(
        f"{escaped(model)}: per class and layer the K units most frequent in the paths of its selection images are "
        "kept.\n"
        f"Mean over n = {n} held-out images of the classes, 95 % bootstrap intervals.",
        fontsize=8,
    )
    return figure


def _draw_runs(panel: Axes, runs: dict[Run, Outcome], measure: str) -> None:
    for method in EDITED:
        points = [(run.proportion, getattr(o, measure)) for run, o in runs.items() if run.method == method]
        if points:
            shares, estimates = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            values = np.array([e.value for e in estimates])
            bounds = np.array([(e.low, e.high) for e in estimates], float).T
            panel.errorbar(
                100 * np.array(shares) + 0.8 * list(EDITED).index(method) - 1.2,  # side by side
                values,
                np.abs(np.nan_to_num(bounds, nan=0) - values) * np.isfinite(bounds),
                color=EDITED[method].colour,
                label=NAMES[method],
                marker="o",
                markersize=4,
                linewidth=1,
                capsize=2,
            )
    for outcome in list(runs.values())[:1]:
        before = getattr(outcome, f"{measure}_before").value
        panel.axhline(before, color="black", linestyle="--", linewidth=0.8, label="no unit zeroed")
    panel.set_xlim(-5, 105)
