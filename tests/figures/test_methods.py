"""Pictures of the study of methods."""

import numpy as np
import pytest
from helpers import caption, legend, saved
from matplotlib.colors import to_hex

from neuronpath.analysis.methods import NAMES
from neuronpath.figures.methods import plot_methods
from neuronpath.records.schema import EDITED

KS = ("1", "2", "5")
NESTED = ("layer", "conductance", "base", "random")  # of which there are curves
METHODS = (*NESTED, "beam_4", "beam_16")


def spread(value: float) -> dict:
    return {"mean": value, "sd": 0.1, "min": value - 0.1, "max": value + 0.3, "of": 2, "larger": 0, "smaller": 0}


def group(methods=METHODS, trainings: int = 2, passes: bool = True, seed: int = 0) -> dict:
    """A model in the JSON of the study; the beam of 16 is of the first training only."""
    rng, found, over = np.random.default_rng(seed), {}, {}
    for training in range(trainings):
        own = found[f"{training}"] = {}
        for method in methods if training == 0 else [m for m in methods if m != "beam_16"]:
            own[method] = {"jas": None}
            if method in NESTED:
                for curve in ("curve_removed", "curve_retained"):
                    own[method][curve] = {"0": 0.7 + 0.1 * training, **{k: rng.random() for k in KS}}
    for place, method in enumerate(methods):
        cost = spread(10.0 * (1 + place))
        over[method] = {"p_zero": spread(-0.1 * place), "cpu_seconds": spread(0.5 * (1 + place))}
        over[method]["block_passes"] = cost if passes and method != "conductance" else None
    return {"images": 9, "trainings": found, "over": over}


def points(axes) -> dict[tuple[float, float], tuple[str, str]]:
    """By place the colour and the marker of what has bars."""
    lines = [container[0] for container in axes.containers]
    return {(*line.get_xdata(), *line.get_ydata()): (line.get_color(), line.get_marker()) for line in lines}


def lines(axes, style: tuple[str, ...] = ("-", ":")) -> list:
    return [line for line in axes.lines if line.get_linestyle() in style]


def test_a_row_per_model_and_all_that_is_drawn(tmp_path):
    figure = plot_methods({"ViT": group(), "MAE": group(("layer", "base"), 1)})
    assert len(figure.axes) == 6
    assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == ["ViT", "MAE"]
    titles = [axes.get_title() for axes in figure.axes[1:3]]
    assert titles == ["best K at their means", "all but the best K at their means"]
    assert "(ViT 2, MAE 1)" in caption(figure)
    assert legend(figure) == [NAMES[method] for method in NAMES if method in METHODS] + ["unedited"]
    assert figure.legends[0]._ncols == 6
    assert saved(figure, tmp_path)


def test_points_are_means_and_bars_reach_from_the_least_to_the_most():
    axes = plot_methods({"ViT": group()}).axes[0]
    found = points(axes)
    for place, method in enumerate(METHODS):
        at = (10.0 * (1 + place), -0.1 * place)
        if method == "conductance":
            assert at not in found, "without block passes there is no place for it"
            continue
        colour, marker = found[at]
        key = "ja" if method in ("layer", "beam_4", "beam_16") else method
        assert to_hex(colour).upper() == EDITED[key].colour
        assert marker == {"beam_4": "^", "beam_16": "D"}.get(method, "o")
    for container, (_, y) in zip(axes.containers, found, strict=True):
        (bars,) = container[2]
        (segment,) = bars.get_segments()
        assert segment[:, 1].tolist() == pytest.approx([y - 0.1, y + 0.3])
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "block passes"


def test_seconds_where_nothing_tells_block_passes():
    axes = plot_methods({"ViT": group(passes=False)}).axes[0]
    assert axes.get_xlabel() == "CPU s"
    assert {x for x, _ in points(axes)} == {0.5 * (1 + place) for place in range(len(METHODS))}


@pytest.mark.parametrize(("panel", "curve"), [(1, "curve_removed"), (2, "curve_retained")])
def test_curves_are_means_over_the_trainings_side_by_side(panel, curve):
    given = group()
    axes = plot_methods({"ViT": given}).axes[panel]
    drawn = lines(axes)
    shown = [method for method in NAMES if method in NESTED]
    assert len(drawn) == len(shown)
    for method, line in zip(shown, drawn, strict=True):
        runs = [training[method][curve] for training in given["trainings"].values()]
        assert line.get_ydata() == pytest.approx([(runs[0][k] + runs[1][k]) / 2 for k in KS])
        assert line.get_xdata() == pytest.approx([1, 2, 5], rel=0.05)
        assert line.get_linestyle() == (":" if method in ("base", "random") else "-")
    firsts = [line.get_xdata()[0] for line in drawn]
    assert firsts == sorted({*firsts})
    assert np.prod(firsts) == pytest.approx(1), "about K itself"
    dashed = lines(axes, ("--",))
    assert [y for line in dashed for y in line.get_ydata()] == pytest.approx([0.75] * 2 * len(dashed))
    assert dashed
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [*KS]


def test_what_some_trainings_lack_is_drawn_as_far_from_the_first_method_as_there_and_has_no_curve():
    given = group(("layer", "base"))
    del given["trainings"]["1"]["base"]
    given["over"]["base"] |= {"p_zero": spread(-9.0) | {"of": 1}, "p_zero_minus": spread(-0.25) | {"of": 1}}
    given["over"]["base"] = {key: value | {"of": 1} for key, value in given["over"]["base"].items()}
    axes = plot_methods({"ViT": given}).axes
    assert {y for _, y in points(axes[0])} == {0.0, 0.25}
    assert len(lines(axes[1])) == 1


def test_a_name_that_looks_like_mathematics(tmp_path):
    name = r"$\frac_{ $"
    figure = plot_methods({name: group(trainings=1)})
    assert figure.axes[0].get_title(loc="left") == r"\$\frac_{ \$"
    assert saved(figure, tmp_path)
