"""What all figures share. Figures are values: nothing is shown, no state is kept."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..files import writing

SMALL = 8  # type, in points


def save(figure: Figure, file: Path) -> list[Path]:
    """Write `file` with the endings .png and .pdf added, and return both."""
    written = [file.with_name(file.name + ending) for ending in (".png", ".pdf")]
    with writing(file, advice=""):
        file.parent.mkdir(parents=True, exist_ok=True)
        for target in written:
            figure.savefig(target, dpi=150)
    return written


def points(axes: Axes, x: np.ndarray, y: Sequence[float] | np.ndarray, colour: str) -> None:
    """One per class; smaller and fainter where there are many."""
    many = len(y) > 100
    style: dict[str, Any] = {"alpha": max(0.25, alpha(len(y))), "edgecolors": "white", "linewidths": 0.4, "zorder": 1.5}
    axes.scatter(x, y, s=6 if many else 26, color=colour, rasterized=many, **style)


def alpha(count: int) -> float:
    """How opaque one of `count` things is."""
    return min(0.8, max(0.05, 10 / max(count, 1)))


def jitter(count: int, width: float) -> np.ndarray:
    """(count,) evenly spread over `width`, neighbours far apart; 0 for a single one."""
    return width * ((0.5 + 0.618034 * np.arange(count)) % 1 - 0.5)


def no_records(axes: Axes, x: float, words: str = "no records") -> None:
    """`words`, upright, in the place of what is missing."""
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "rotation": 90, "ha": "center", "va": "top"}
    axes.text(x, 0.98, words, fontsize=SMALL, color="0.4", **place)


def marker(label: str, colour: str = "black", **style: Any) -> Line2D:
    """A legend's entry without a line."""
    return Line2D([], [], **{"color": colour, "linewidth": 0, "label": label, **style})


def counts(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """['n = 100 images', '10 classes'] of what several methods have, (images, classes); from least to most."""
    if not sizes:
        return ["no records"]
    images, classes = ([*dict.fromkeys((min(x), max(x)))] for x in zip(*sizes, strict=True))
    return [f"n = {' to '.join(map(str, images))} images", f"{' to '.join(map(str, classes))} classes"]


def finish(figure: Figure, handles: list, caption: str, columns: int | None = None) -> None:
    """Legend above, in one row or so many `columns`; caption below."""
    figure.set_layout_engine("constrained", h_pad=0.08)
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns or len(handles), frameon=False, fontsize=SMALL
    )
    write_caption(figure, caption)


def write_caption(figure: Figure, text: str, size: float = SMALL) -> None:
    width = int(figure.get_figwidth() * 72 / (0.54 * size))  # a character is about half as wide as high
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=size)


def escaped(name: str) -> str:
    """`name` with dollar signs that are no mathematics."""
    return name.replace("$", r"\$")
