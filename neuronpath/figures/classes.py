"""Pictures of classes: which units their images choose (the paper's Figure 4), and which classes are alike."""

from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from tqdm import tqdm

from ..analysis.classes import Classes
from ..analysis.similarity import modes, most_frequent
from ..files import writing
from ..records.schema import METHODS
from .common import escaped, write_caption

LONGEST = 40  # characters of a class name
WHITE_EDGE = [withStroke(linewidth=1.5, foreground="white")]


def shown(text: str) -> str:
    """`text` short enough for a picture, its dollar signs no mathematics."""
    return escaped(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def plot_classes(classes: Classes, labels: list[int]) -> Figure:
    """Figure 4: a panel per class, per layer a violin of unit index / H over the images, mode and most frequent unit.

    docs/method.md §6 defines both; a layer in which all images choose one unit is a line.
    """
    depth, K = classes.paths[labels[0]].shape[1:]
    columns = min(2, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(max(5.5, 0.42 * depth + 1) * columns, 3.1 * rows + 1.1), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, label in zip(panels.flat, labels, strict=False):
        paths = classes.paths[label]
        _draw_class(panel, paths, classes.num_neurons, METHODS[classes.method].colour)
        panel.set_title(f"{shown(classes.title(label))}, n = {len(paths)} image{'s' * (len(paths) > 1)}", fontsize=9)
        panel.set_xlabel("layer", fontsize=8)
    for panel in panels.flat[len(labels) :]:
        panel.set_axis_off()
    for panel in panels[:, 0]:
        panel.set_ylabel("unit index / H", fontsize=8)
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8
    )
    write_caption(
        figure,
        f"{METHODS[classes.method].name}, K = {K} per layer, H = {classes.num_neurons}. Violin: unit index / H over "
        "the images of the class. Dashed: per layer the arg max over the grid j/H of the Gaussian kernel density, "
        "SciPy's default bandwidth. Number: index of the unit chosen most often. "
        "The order of the indices carries no meaning.",
    )
    return figure


def _draw_class(axes: Axes, paths: np.ndarray, num_neurons: int, colour: str) -> None:
    depth = paths.shape[1]
    values = [x.ravel() / num_neurons for x in np.moveaxis(paths, 1, 0)]
    constant = [layer for layer, x in enumerate(values) if np.ptp(x) == 0]
    spread = [layer for layer in range(depth) if layer not in constant]
    if spread:
        violins = axes.violinplot([values[layer] for layer in spread], spread, widths=0.6, showextrema=False)
        for body in cast("list[Artist]", violins["bodies"]):
            body.set(facecolor=colour, edgecolor=colour, alpha=0.35, linewidth=0.8)
    heights = [values[layer][0] for layer in constant]
    axes.hlines(heights, np.array(constant) - 0.3, np.array(constant) + 0.3, color=colour, linewidth=2, alpha=0.5)
    axes.plot(modes(paths, num_neurons), "k--", linewidth=1, label="mode of the density")
    units = most_frequent(paths)
    axes.plot(units / num_neurons, "D", color=colour, markersize=4, markeredgecolor="white", label="most frequent unit")
    for layer, unit in enumerate(units):
        axes.annotate(
            str(unit),
            (layer, unit / num_neurons),
            xytext=(3, 1.5),
            textcoords="offset points",
            fontsize=6.5,
            path_effects=WHITE_EDGE,
        )
    axes.set(xlim=(-0.6, depth - 0.1), ylim=(-0.03, 1.06), xticks=range(depth))
    axes.tick_params(labelsize=7)


def save_pages(classes: Classes, directory: Path) -> list[Path]:
    """Figure 4 of every class: a page each of freq-figure-all.pdf, and `directory`/freq-figure-all/<label>.png."""
    book, folder = directory / "freq-figure-all.pdf", directory / "freq-figure-all"
    with writing(directory):
        folder.mkdir(parents=True, exist_ok=True)
        with PdfPages(book) as pages:
            for label in tqdm(classes.labels, desc="figures", unit="class", dynamic_ncols=True):
                figure = plot_classes(classes, [label])
                figure.savefig(pages, format="pdf")
                figure.savefig(folder / f"{label}.png", dpi=150)
    return [book, folder]


def cluster(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average linkage on 1 - cosine, (C-1, 4) as SciPy's, and the order of the leaves, (C,)."""
    tree = linkage(squareform(np.clip(1 - similarity, 0, None), checks=False), "average")
    return tree, leaves_list(tree)


def plot_similarity(similarity: np.ndarray, classes: Classes) -> Figure:
    """The cosines (C, C) of `classes` as a heat map, clustered, with the dendrogram and every class's name.

    The figure grows with C so that names, down to 3 points at 1000 classes, never overlap: zoom in.
    """
    C = len(similarity)
    tree, order = cluster(similarity)
    side = max(5.0, 0.16 * C) if C <= 60 else 9.6 + 0.036 * (C - 60)  # of the map, in inches
    size, of_names = max(8.0, 0.75 * side), min(8.0, 0.85 * 72 * side / C)  # of type, in points
    figure = Figure(figsize=(1.3 * side + 2, 1.1 * side + 2), layout="constrained")
    dendrogram, heat = figure.subplots(1, 2, width_ratios=(1, 5))
    others = similarity[~np.eye(C, dtype=bool)]
    low, high = (others.min(), others.max()) if np.ptp(others) > 0 else (0, 1)
    cells = similarity[np.ix_(order, order)]
    colours = ScalarMappable(Normalize(low, high), "viridis")
    heat.imshow(colours.to_rgba(cells, bytes=True), aspect="auto", interpolation="none")  # bytes: a tenth of the memory
    names = [shown(classes.title(classes.labels[i])) for i in order]
    heat.yaxis.tick_right()
    heat.set_yticks(range(C), names, fontsize=of_names)
    heat.set_xticks(range(C), names, fontsize=of_names, rotation=90)
    heat.tick_params(length=0, pad=2)
    if C <= 16:
        for (i, j), cell in np.ndenumerate(cells):
            dark = cell < (low + high) / 2
            heat.text(j, i, f"{cell:.2f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
    _draw_tree(dendrogram, tree, order, size)
    dendrogram.set_ylim(heat.get_ylim())
    bar = figure.colorbar(colours, ax=heat, extend="max", location="top", shrink=0.6, aspect=40)
    bar.set_label("cosine similarity of two classes", fontsize=size, labelpad=0.5 * size)
    bar.ax.tick_params(labelsize=size, pad=0.4 * size)
    counts = [len(paths) for paths in classes.paths.values()]
    each = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    write_caption(
        figure,
        f"{METHODS[classes.method].name}: cos(a, b) = a·b / (|a| |b|) of the classes' unit counts per layer; "
        f"n = {C} classes, {each} images each, {sum(counts)} in all. Colours span the pairs of different classes. "
        "Tree: average linkage on 1 - cosine.",
        size,
    )
    return figure


def _draw_tree(axes: Axes, tree: np.ndarray, order: np.ndarray, size: float) -> None:
    """A dendrogram growing to the left; drawn here, as SciPy's own recursion fails on deep trees."""
    C = len(order)
    position, height = np.empty(2 * C - 1), np.concatenate([np.zeros(C), tree[:, 2]])
    position[order] = np.arange(C)
    forks = []
    for node, (left, right) in enumerate(tree[:, :2].astype(int), C):
        position[node] = (position[left] + position[right]) / 2
        h, (a, b) = height[node], position[[left, right]]
        forks.append([(height[left], a), (h, a), (h, b), (height[right], b)])
    axes.add_collection(LineCollection(forks, colors="black", linewidths=1 if C <= 60 else 0.6))
    first, last = tree[0, 2], tree[-1, 2]
    margin = 0.1 * (last - first) or 0.1
    axes.set(xlim=(last + margin, max(0, first - margin)), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.tick_params(labelsize=size)
    axes.set_xlabel("1 - cosine", fontsize=size)
    axes.xaxis.set_major_locator(MaxNLocator(3))
