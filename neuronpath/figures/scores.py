"""Figures of the Joint Attribution Scores in result folders (docs/method.md §2)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator
from scipy.stats import gaussian_kde

from ..analysis.metrics import Missing
from ..analysis.results import Results, objective_found, scores_of
from ..attribution.objectives import Objective
from ..errors import UserError
from ..records.args import describe_rule
from ..records.schema import METHODS
from .common import alpha, counts, escaped, finish, jitter, marker, no_records, points

COLUMNS = 4  # panels in a row


def score_distributions(results: Results, models: Sequence[str]) -> Figure:
    """A panel per model: for each method a violin of all images' Joint Attribution Scores, quartiles and mean."""
    figure, panels, scores = _score_panels(results, models)
    for panel, of_methods in zip(panels, scores, strict=True):
        for x, (method, by_label) in enumerate(of_methods.items()):
            if by_label:
                _violin(panel, x, np.concatenate([*by_label.values()]), METHODS[method].colour)
    handles = [
        Patch(facecolor="0.75", label="density along this axis"),
        Line2D([], [], color="black", linewidth=4, label="quartiles"),
        marker("median", marker="o", markerfacecolor="white"),
        marker("mean", marker="D", markersize=5),
    ]
    about = _about_scores(scores, _objectives(results, models))
    caption = f"{about} A violin holds the scores of all images of a model.{mixed(results, models)}"
    finish(figure, handles, caption)
    return figure


def class_scores(results: Results, models: Sequence[str]) -> Figure:
    """A panel per model: for each method and class the mean of its images' scores; a line joins those of a class."""
    figure, panels, scores = _score_panels(results, models)
    for panel, of_methods in zip(panels, scores, strict=True):
        labels = sorted({label for found in of_methods.values() for label in found})
        ys = [[found[label].mean() if label in found else np.nan for label in labels] for found in of_methods.values()]
        xs = np.arange(len(ys))[:, None] + jitter(len(labels), 0.5)  # (methods, C), as ys
        panel.plot(xs, np.array(ys), color="0.5", linewidth=0.6, alpha=alpha(len(labels)), zorder=1)
        for x, (method, found) in enumerate(of_methods.items()):
            if found:
                points(panel, xs[x], ys[x], METHODS[method].colour)
                panel.hlines(np.nanmedian(ys[x]), x - 0.34, x + 0.34, color="black", linewidth=2, zorder=4)
    handles = [
        marker("one class", marker="o", markersize=5),
        Line2D([], [], color="0.5", linewidth=0.6, label="the same class"),
        Line2D([], [], color="black", linewidth=2, label="median of the classes"),
    ]
    about = _about_scores(scores, _objectives(results, models))
    caption = f"{about} A point is the mean over the images of one class.{mixed(results, models)}"
    finish(figure, handles, caption)
    return figure


def _score_panels(results: Results, models: Sequence[str]) -> tuple[Figure, list[Axes], list[dict]]:
    """A panel per model with titles and axes, and per model {method: {label: scores (n,)}}."""
    methods = results.shown(METHODS, models)
    scores = [{method: _scores(results, model, method) for method in methods} for model in models]
    width = _linear_width(scores)
    if width is None:
        raise UserError(f"{results.root}: no scores of {', '.join(models)}")
    columns = min(COLUMNS, len(models))
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(max(6.5, 1.2 * len(methods) * columns + 0.6), 3.8 * rows + 1), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    units = [objective.unit for objective in _objectives(results, models)]
    for panel in panels[:, 0]:
        panel.set_ylabel(f"Joint Attribution Score ({' or '.join(units)})")
    for panel in panels.flat[len(models) :]:
        panel.set_axis_off()
    for panel, model, of_methods in zip(panels.flat, models, scores, strict=False):
        panel.set_yscale("asinh", linear_width=width)
        panel.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10 * width))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        panel.set_xticks(range(len(methods)), [METHODS[method].name.replace(" ", "\n") for method in methods])
        panel.set_xlim(-0.6, len(methods) - 0.4)
        n, settings = ", ".join(counts(_sizes(of_methods))), results.settings(model)
        rule = describe_rule(settings) + "\n" if "quadrature" in settings else ""
        panel.set_title(f"{escaped(model)}\n{rule}{n}", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        for x, found in enumerate(of_methods.values()):
            if not found:
                no_records(panel, x)
    return figure, [*panels.flat[: len(models)]], scores


def _scores(results: Results, model: str, method: str) -> dict[int, np.ndarray]:
    """By label; {} where there are no records."""
    try:
        return scores_of(results, model, method)
    except Missing:
        return {}


def _linear_width(scores: list[dict]) -> float | None:
    """Up to where the axis is about linear: a power of ten below every model's median size. None without scores."""
    values = [[x for found in of_methods.values() for x in found.values()] for of_methods in scores]
    medians = [np.median(np.abs(np.concatenate(of_model))) for of_model in values if of_model]
    return min((10.0 ** np.floor(np.log10(m)) for m in medians if m > 0), default=1e-3) if medians else None


def _violin(axes: Axes, x: float, values: np.ndarray, colour: str) -> None:
    """The density is that of the values as the axis places them; all violins are equally wide."""
    scale = axes.yaxis.get_transform()
    placed = scale.transform(values)
    if np.var(placed) > 0:
        grid = np.linspace(placed.min(), placed.max(), 200)
        density = gaussian_kde(placed)(grid)
        half, heights = 0.42 * density / density.max(), scale.inverted().transform(grid)
        axes.fill_betweenx(heights, x - half, x + half, color=colour, alpha=0.35, linewidth=0.8)
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    axes.vlines(x, low, high, color=colour, linewidth=4)
    axes.plot(x, median, "o", color=colour, markerfacecolor="white", markersize=6)
    axes.plot(x, values.mean(), "D", color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.5)


def _about_scores(scores: list[dict], objectives: list[Objective]) -> str:
    n = counts([size for of_methods in scores for size in _sizes(of_methods)])[0]
    nouns = " or ".join(f"the {objective.noun}" for objective in objectives)
    return (
        rf"JAS(P) = (1/N) $\Sigma_t$ S[t]·G[t], of {nouns}; {n} per model and method. "
        "The axis is linear near 0 and logarithmic beyond."
    )


def _objectives(results: Results, models: Sequence[str]) -> list[Objective]:
    """What F was for these models, each once."""
    return [*dict.fromkeys(objective_found(results.settings(model), results.root) for model in models)]


def _sizes(of_methods: dict[str, dict[int, np.ndarray]]) -> list[tuple[int, int]]:
    """(images, classes) of each method that has records."""
    return [(sum(map(len, found.values())), len(found)) for found in of_methods.values() if found]


def mixed(results: Results, models: Sequence[str]) -> str:
    """A sentence for captions on records that were made in different circumstances; "" where there are none."""
    found = [f"{escaped(model)} in {job}: {text}" for model in models for job, text in results.mixed(model).items()]
    return f" Not all alike: {'; '.join(found)}." if found else ""
