"""How much of a smaller model is left, by what its units were chosen (docs/shrink.md)."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.shrinking import IMPORTANCES
from ..records.schema import EDITED
from .common import SMALL, escaped, finish, marker

#: By importance its colour, marker and line.
STYLES = {
    **{f"path_{k}": (EDITED["ja"].colour, shape, "-") for k, shape in ((1, "o"), (5, "s"), (20, "^"))},
    "activation": (EDITED["base"].colour, "v", "-"),
    "activation_all": (EDITED["base"].colour, "v", "--"),
    "taylor": (EDITED["gradient_activation"].colour, "D", "-"),
    "taylor_all": (EDITED["gradient_activation"].colour, "D", "--"),
    "magnitude": (EDITED["influence_pattern"].colour, "P", "-"),
    "random": (EDITED["random"].colour, "x", ":"),
}
PANELS = (
    ("plain", "accuracy", "top-1, %; cut units at 0"),
    ("plain", "p", "mean p of the label; cut units at 0"),
    ("folded", "p", "mean p of the label; their means folded"),
)


def plot_shrink(found: Mapping[str, Any]) -> Figure:
    """Of every model (rows) accuracy and mean p against the share of units kept; `found`: JSON of study_shrink.py."""
    models = found["models"]
    figure = Figure(figsize=(10.5, 1.2 + 3.1 * len(models)), layout="constrained")
    rows = figure.subplots(len(models), len(PANELS), squeeze=False)
    for row, (name, group) in zip(rows, models.items(), strict=True):
        for axes, (way, measure, title) in zip(row, PANELS, strict=True):
            _curves(axes, group["kept"], way, measure)
            axes.set_ylabel(title, fontsize=SMALL)
        row[0].set_title(escaped(name), fontsize=9, loc="left")
    used = [key for key in IMPORTANCES if any(key in group["kept"] for group in models.values())]
    handles = [
        marker(IMPORTANCES[key], colour, marker=shape, markersize=4, linestyle=line, linewidth=1.2)
        for key, (colour, shape, line) in ((key, STYLES[key]) for key in used)
    ]
    handles.append(marker("uncut", linestyle="-", linewidth=0.8))
    sizes = "; ".join(f"{escaped(name)} {g['training']} and {g['images']}" for name, g in models.items())
    finish(
        figure,
        handles,
        "FFN units of every layer cut out, those kept being the first by each importance; random: mean of 5 draws. "
        f"Chosen by training images, measured on held-out ones ({sizes}).",
        5,
    )
    return figure


def _curves(axes: Axes, kept: Mapping[str, Any], way: str, measure: str) -> None:
    for key in (key for key in IMPORTANCES if key in kept):
        colour, shape, line = STYLES[key]
        own = kept[key][way]
        x, y = [100 * float(share) for share in own], [entry[measure] for entry in own.values()]
        axes.plot(x, y, color=colour, marker=shape, linestyle=line, markersize=4, linewidth=1.2)
    axes.axhline(kept["full"][measure], color="black", linewidth=0.8, zorder=0)
    axes.invert_xaxis()
    axes.set_xlabel("units kept, %", fontsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
