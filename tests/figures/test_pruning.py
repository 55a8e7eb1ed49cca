"""Pictures of pruning."""

from helpers import saved

from neuronpath.analysis.metrics import Estimate
from neuronpath.analysis.pruning import Outcome, Run, read_runs
from neuronpath.figures.pruning import plot_runs


def test_a_panel_says_its_k(pruned, tmp_path):
    figure = plot_runs(read_runs(pruned, "imgnet_all"), "tiny")
    (panel,) = [axes for axes in figure.axes if axes.get_title()]
    assert "K = 2" in panel.get_title()
    figure.savefig(tmp_path / "a.png")


def test_the_line_of_no_unit_zeroed_is_of_the_measure_drawn():
    p, top1 = Estimate(0.9, None, None, 4), Estimate(75.0, None, None, 4)
    runs = {Run("m", "cls", 6, 5, 1.0, "ja"): Outcome(None, p, p, top1, top1, p)}
    for measure, before in (("prob", 0.9), ("top1", 75.0)):
        (line,) = (x for x in plot_runs(runs, "m", measure).axes[0].lines if x.get_label() == "no unit zeroed")
        assert set(line.get_ydata()) == {before}


def test_a_model_named_by_dollar_signs_is_drawn(tmp_path):
    p = Estimate(0.9, None, None, 4)
    runs = {Run("a$_$b", "cls", 6, 5, 1.0, "ja"): Outcome(None, p, p, p, p, p)}
    assert saved(plot_runs(runs, "a$_$b"), tmp_path)
