"""The picture of smaller models."""

import pytest
from helpers import caption, legend, saved
from matplotlib.colors import to_hex

from neuronpath.analysis.shrinking import IMPORTANCES
from neuronpath.figures.shrinking import STYLES, plot_shrink

NAMES = ("path_1", "taylor", "taylor_all", "random")
SHARES = ("0.9", "0.5", "0.1")


def group(names=NAMES) -> dict:
    kept: dict = {"full": {"accuracy": 80.0, "p": 0.7}}
    for place, name in enumerate(names):
        kept[name] = {
            way: {s: {"accuracy": 70.0 - place - i, "p": base - place / 100 - i / 10} for i, s in enumerate(SHARES)}
            for way, base in (("plain", 0.6), ("folded", 0.5))
        }
    return {"training": 9, "images": 5, "kept": kept}


def test_a_row_per_model_and_a_curve_per_importance(tmp_path):
    figure = plot_shrink({"models": {"ViT": group(), "$MAE": group(("taylor",))}, "time": {}})
    assert len(figure.axes) == 6
    assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == ["ViT", r"\$MAE"]
    assert legend(figure) == [IMPORTANCES[name] for name in NAMES] + ["uncut"]
    assert r"(ViT 9 and 5; \$MAE 9 and 5)" in caption(figure)
    assert saved(figure, tmp_path)


@pytest.mark.parametrize(("panel", "way", "measure"), [(0, "plain", "accuracy"), (1, "plain", "p"), (2, "folded", "p")])
def test_what_is_drawn(panel, way, measure):
    given = group()
    axes = plot_shrink({"models": {"ViT": given}, "time": {}}).axes[panel]
    *curves, level = axes.lines
    assert {*level.get_ydata()} == {given["kept"]["full"][measure]}
    for name, line in zip(NAMES, curves, strict=True):
        assert list(line.get_xdata()) == [90, 50, 10]
        assert list(line.get_ydata()) == [given["kept"][name][way][share][measure] for share in SHARES]
        colour, shape, style = STYLES[name]
        assert (to_hex(line.get_color()).upper(), line.get_marker(), line.get_linestyle()) == (colour, shape, style)
    assert axes.xaxis_inverted()
    assert ("top-1" in axes.get_ylabel()) == (measure == "accuracy")
    assert ("folded" in axes.get_ylabel()) == (way == "folded")


def test_every_importance_looks_different():
    assert [*STYLES] == [*IMPORTANCES]
    assert len({*STYLES.values()}) == len(STYLES)
