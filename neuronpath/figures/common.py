"""What all figures share, and the picture of a few paths. Figures are values: nothing is shown, no state is kept."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..data.images import DECODING_ERRORS, ImageSet, Item
from ..errors import UserError, one_line, writing
from ..records.methods import METHODS

SMALL = 8  # type, in points
SEARCHED = {"ja": "neuron path", "base": "activation path"}  # what joint_attr records, with the legend's words


def plot_paths(records: Sequence[dict], source: ImageSet, num_neurons: int, rule: str, file: Path) -> list[Path]:
    """For each record the image, both its paths (layer × neuron index, area by activation) and both their JAS.

    `records` of joint_attr, their images in `source`; `num_neurons` H; `rule` names the quadrature for the caption.
    Writes `file` with the endings .png and .pdf added and returns both. UserError for an image that is not there.
    """
    known = {item.image: item for item in source.items}
    figure = Figure(figsize=(10, 2.1 * len(records) + 0.9), layout="constrained")
    axes = figure.subplots(len(records), 3, width_ratios=(1, 4, 1.6), squeeze=False)
    largest = max(abs(a) for record in records for key in SEARCHED for layer in record[f"{key}_act"] for a in layer)
    scores = [0, *(record[f"{key}_score"] for record in records for key in SEARCHED)]
    spread = max(scores) - min(scores)
    for (picture, path, score), record in zip(axes, records, strict=True):
        picture.imshow(_image(source, known.get(record["image"]), record["image"]))
        picture.set_title(f"label {record['label']}, predicted {record['pred']}", fontsize=9)
        picture.set_xlabel(record["image"], fontsize=8)
        picture.set(xticks=[], yticks=[])
        for row, (key, name) in enumerate(SEARCHED.items()):
            colour = METHODS[key].colour
            _draw_path(path, record, key, name, colour, largest)
            score.barh(row, record[f"{key}_score"], color=colour)
            shown = round(record[f"{key}_score"], 3) + 0.0  # no minus before a zero
            score.text(max(0, shown), row, f" {shown:.3f}", va="center", fontsize=8)
        path.set(xticks=range(len(record["ja"])), ylim=(-0.05 * num_neurons, 1.05 * num_neurons), ylabel="neuron index")
        score.set(yticks=[], ylim=(1.6, -0.6), xlim=(min(scores) - 0.02 * spread, max(scores) + 0.3 * spread))
        score.axvline(0, color="black", linewidth=0.8)
        score.spines[["top", "right"]].set_visible(False)
    axes[0, 1].set_title("paths through the layers (area: |activation|)", fontsize=9)
    axes[0, 2].set_title("Joint Attribution Score", fontsize=9)
    axes[-1, 1].set_xlabel("layer")
    axes[-1, 2].set_xlabel("in units of probability")
    handles, names = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel(
        f"JAS(P) = (1/N) $\\Sigma_t$ S[t]·G[t], {rule}; n = {len(records)} images. "
        "The order of the neuron indices carries no meaning.",
        fontsize=8,
    )
    return save(figure, file)


def _image(source: ImageSet, item: Item | None, name: str) -> np.ndarray:
    """As the model sees it but for size and normalisation."""
    if item is None:
        raise UserError(f"{name}: this record's image is not in {source.root}; does --dataset_path fit the records?")
    try:
        return np.asarray(source.rgb(item))
    except DECODING_ERRORS as e:
        raise UserError(f"{source.root / name}: cannot be read ({one_line(e)}); replace it or its record") from e


def _draw_path(axes, record: dict, key: str, name: str, colour: str, largest: float) -> None:
    layers = [layer for layer, neurons in enumerate(record[key]) for _ in neurons]
    neurons = [neuron for layer in record[key] for neuron in layer]
    areas = [8 + 160 * abs(a) / largest for layer in record[f"{key}_act"] for a in layer]
    axes.plot(range(len(record[key])), [layer[0] for layer in record[key]], color=colour, linewidth=1, alpha=0.6)
    axes.scatter(layers, neurons, s=areas, color=colour, alpha=0.8, edgecolors="white", linewidths=0.5, label=name)


def save(figure: Figure, file: Path) -> list[Path]:
    """Write `file` with the endings .png and .pdf added, and return both."""
    written = [file.with_name(file.name + ending) for ending in (".png", ".pdf")]
    with writing(file, advice=""):
        file.parent.mkdir(parents=True, exist_ok=True)
        for target in written:
            figure.savefig(target, dpi=150)
    return written


def points(axes: Axes, x: np.ndarray, y: Sequence[float], colour: str) -> None:
    """One per class; smaller and fainter where there are many."""
    many = len(y) > 100
    style = {"alpha": max(0.25, alpha(len(y))), "edgecolors": "white", "linewidths": 0.4, "zorder": 1.5}
    axes.scatter(x, y, s=6 if many else 26, color=colour, rasterized=many, **style)


def alpha(count: int) -> float:
    """How opaque one of `count` things is."""
    return min(0.8, max(0.05, 10 / max(count, 1)))


def jitter(count: int, width: float) -> np.ndarray:
    """(count,) evenly spread over `width`, neighbours far apart; 0 for a single one."""
    return width * ((0.5 + 0.618034 * np.arange(count)) % 1 - 0.5)


def no_records(axes: Axes, x: float, words: str = "no records") -> None:
    """`words`, upright, in the place of what is missing."""
    place = {"transform": axes.get_xaxis_transform(), "rotation": 90, "ha": "center", "va": "top"}
    axes.text(x, 0.98, words, fontsize=SMALL, color="0.4", **place)


def marker(label: str, colour: str = "black", **style) -> Line2D:
    """A legend's entry without a line."""
    return Line2D([], [], **{"color": colour, "linewidth": 0, "label": label, **style})


def counts(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """['n = 100 images', '10 classes'] of what several methods have, (images, classes); from least to most."""
    if not sizes:
        return ["no records"]
    images, classes = ([*dict.fromkeys((min(x), max(x)))] for x in zip(*sizes, strict=True))
    return [f"n = {' to '.join(map(str, images))} images", f"{' to '.join(map(str, classes))} classes"]


def finish(figure: Figure, handles: list, caption: str) -> None:
    """Legend above, caption below."""
    figure.get_layout_engine().set(h_pad=0.08)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=SMALL)
    write_caption(figure, caption)


def write_caption(figure: Figure, text: str, size: float = SMALL) -> None:
    width = int(figure.get_figwidth() * 72 / (0.54 * size))  # a character is about half as wide as high
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=size)


def escaped(name: str) -> str:
    """`name` with dollar signs that are no mathematics."""
    return name.replace("$", r"\$")
