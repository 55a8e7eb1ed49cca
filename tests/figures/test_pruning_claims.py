"""The figure of pruning, read off: a panel per K, tokens and depth, a line per method, and the line without pruning."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from neuronpath.analysis.metrics import Estimate
from neuronpath.analysis.pruning import Outcome, Run
from neuronpath.figures.pruning import plot_runs

COLOURS = {"base": "#D55E00", "influence_pattern": "#009E73", "ja": "#0072B2", "random": "#7F7F7F"}
NAMES = {
    "base": "Activation",
    "influence_pattern": "Influence Pattern",
    "ja": "Neuron Path",
    "random": "Random units",
}


def outcome(prob: float, top1: float, n: int = 12, bounds: bool = True) -> Outcome:
    def around(value: float, width: float) -> Estimate:
        low, high = (value - width, value + 2 * width) if bounds else (None, None)
        return Estimate(value, low, high, n)

    return Outcome(None, around(0.9, 0.1), around(prob, 0.01), around(75, 4), around(top1, 3), around(0, 0))


def runs() -> dict[Run, Outcome]:
    """Two K, both kinds of tokens, two depths; larger shares first."""
    found = {}
    for tokens, depth in (("all", 2), ("cls", 2), ("cls", 6)):
        for k in (10, 5):
            for m, method in enumerate(COLOURS):
                for share in (1.0, 0.5):
                    run = Run("a$b", tokens, depth, k, share, method)
                    found[run] = outcome(0.1 * m + share / 10 + k / 100, 10 * m + share + k, n=5 + m)
    found[Run("other", "all", 1, 7, 0.1, "ja")] = outcome(0, 0, 99)
    return found


ROWS = [("cls", 6), ("cls", 2), ("all", 2)]


@pytest.mark.parametrize("measure", ["prob", "top1"])
def test_lines_of_methods_with_intervals_side_by_side(measure):
    found = runs()
    figure = plot_runs(found, "a$b", measure)
    panels = np.array(figure.axes).reshape(3, 2)
    for i, (tokens, depth) in enumerate(ROWS):
        for j, k in enumerate((5, 10)):
            lines = [line for line in panels[i, j].lines if line.get_marker() == "o"]
            bars = [c for c in panels[i, j].collections if isinstance(c, LineCollection)]
            for m, (method, colour) in enumerate(COLOURS.items()):
                each = [getattr(found[Run("a$b", tokens, depth, k, share, method)], measure) for share in (0.5, 1)]
                x = np.array([50, 100]) + 0.8 * m - 1.2
                np.testing.assert_allclose(lines[m].get_xdata(), x)
                np.testing.assert_allclose(lines[m].get_ydata(), [e.value for e in each])
                assert lines[m].get_color() == colour
                assert bars[m].get_color()[0].tolist() == [*to_rgba(colour)]
                ends = [[[a, e.low], [a, e.high]] for a, e in zip(x, each, strict=True)]
                np.testing.assert_allclose(bars[m].get_segments(), ends, atol=1e-9)
            (before,) = (line for line in panels[i, j].lines if line.get_label() == "no unit zeroed")
            assert set(before.get_ydata()) == {{"prob": 0.9, "top1": 75}[measure]}
            assert (before.get_color(), before.get_linestyle()) == ("black", "--")


@pytest.mark.parametrize(("measure", "said"), [("prob", "mean p of the label"), ("top1", "top-1 accuracy, %")])
def test_axes_titles_legend_and_caption(measure, said):
    figure = plot_runs(runs(), "a$b", measure)
    assert [panel.get_title() for panel in figure.axes] == [
        "K = 5, CLS token, 6 layers",
        "K = 10, CLS token, 6 layers",
        "K = 5, CLS token, 2 layers",
        "K = 10, CLS token, 2 layers",
        "K = 5, all tokens, 2 layers",
        "K = 10, all tokens, 2 layers",
    ]
    assert [panel.get_ylabel() for panel in figure.axes] == [said, ""] * 3
    assert [panel.get_xlabel() for panel in figure.axes] == [""] * 4 + ["other units set to 0, %"] * 2
    assert {panel.get_xlim() for panel in figure.axes} == {(-5, 105)}
    limits = [panel.get_ylim() for panel in figure.axes]
    assert limits[::2] == limits[1::2]
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {*NAMES.values(), "no unit zeroed"}
    by_name = dict(
        zip((t.get_text() for t in figure.legends[0].get_texts()), figure.legends[0].legend_handles, strict=True)
    )
    for method, name in NAMES.items():
        assert by_name[name].get_color()[0].tolist() == [*to_rgba(COLOURS[method])]
    assert figure.get_supxlabel() == (
        "a\\$b: per class and layer the K units most frequent in the paths of its selection images are kept.\n"
        "Mean over n = 8 held-out images of the classes, 95 % bootstrap intervals."
    )
    assert figure.get_size_inches().tolist() == pytest.approx([7.8, 9])


def test_probability_is_what_is_drawn_unless_otherwise_asked():
    assert plot_runs(runs(), "a$b").axes[0].get_ylabel() == "mean p of the label"


def test_values_without_intervals_have_bars_of_no_length():
    run = {Run("m", "cls", 6, 5, 0.5, "ja"): outcome(0.25, 50, bounds=False)}
    (panel,) = plot_runs(run, "m").axes
    (bar,) = (c for c in panel.collections if isinstance(c, LineCollection))
    assert bar.get_segments()[0][:, 1].tolist() == [0.25, 0.25]
