"""Pictures of curves over K."""

import numpy as np
import pytest
from helpers import caption, legend, saved

from neuronpath.figures.curves import plot_curves


def row(operation: str, ablation: str, method: str, ks=(1, 5, 50), model: str = "ViT$_$") -> dict:
    rng = np.random.default_rng(len(method))

    def entry(value: float) -> dict:
        return {"value": value, "low": value - 0.1, "high": value + 0.2, "n": 9, "left_out": 0}

    found = {"model": model, "operation": operation, "ablation": ablation, "method": method, "ks": list(ks), "n": 9}
    for measure, scale in (("prob", 1), ("top1", 100)):
        at = [entry(scale * rng.random()) for _ in ks]
        found[measure] = {"unedited": 0.9 * scale, "at": at, "area": None, "ja_minus": None}
    return found


ROWS = [
    *(row("remove", "zero", method) for method in ("base", "ja")),
    *(row("remove", "mean", method) for method in ("base", "ja")),
    *(row("retain", "mean", method) for method in ("base", "ja")),
    row("remove", "zero", "influence_pattern", (1,)),
    row("remove", "zero", "ja", model="other"),
]


def test_a_panel_per_operation_and_measure(tmp_path):
    figure = plot_curves(ROWS, "ViT$_$")
    assert len(figure.axes) == 6
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert [title.split(":")[0] for title in titles] == ["removed", "removed", "retained"]
    assert "their means" in titles[1]
    assert figure.axes[0].get_ylabel() == "mean p of the label"
    assert figure.axes[3].get_ylabel() == "top-1 accuracy, %"
    assert legend(figure) == ["Activation", "Influence Pattern", "Neuron Path", "unedited"]
    assert "n = 9 images" in caption(figure)
    assert "over ln K by trapezoids" in caption(figure)
    assert saved(figure, tmp_path)


def test_values_bars_and_the_unedited_model():
    axes, below = plot_curves(ROWS, "other").axes
    (found,) = [row for row in ROWS if row["model"] == "other"]
    (container,) = axes.containers
    line, _, (bars,) = container
    values = [entry["value"] for entry in found["prob"]["at"]]
    assert line.get_ydata().tolist() == values
    assert line.get_xdata().tolist() == [1, 5, 50]
    for segment, value in zip(bars.get_segments(), values, strict=True):
        assert segment[:, 1].tolist() == pytest.approx([value - 0.1, value + 0.2])
    (dashed,) = [x for x in axes.lines if x.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {0.9}
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in below.get_xticklabels()] == ["1", "5", "50"]


def test_classes_of_one_image_have_no_bars():
    found = row("remove", "zero", "ja")
    for entry in found["prob"]["at"]:
        entry |= {"low": None, "high": None}
    (container,) = plot_curves([found], found["model"]).axes[0].containers
    assert all(np.ptp(segment[:, 1]) == 0 for segment in container[2][0].get_segments())
