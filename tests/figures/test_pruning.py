"""Pictures of pruning."""

from neuronpath.analysis.pruning import read_runs
from neuronpath.figures.pruning import plot_runs


def test_a_panel_says_its_k(pruned, tmp_path):
    figure = plot_runs(read_runs(pruned, "imgnet_all"), "tiny")
    (panel,) = [axes for axes in figure.axes if axes.get_title()]
    assert "K = 2" in panel.get_title()
    figure.savefig(tmp_path / "a.png")
