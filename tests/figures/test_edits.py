"""Pictures of edits."""

from itertools import pairwise

import pytest
from helpers import caption, legend, saved, write_lines
from made import results_of, write_results

from neuronpath.analysis.table import paper_results, table
from neuronpath.errors import UserError
from neuronpath.figures.edits import accuracy_deviation, of_head, probability_deviation
from neuronpath.records.schema import EDITED, PAPER

SHOWN = (*PAPER, "random")  # of `write_results`


def test_probability_deviation_has_a_box_per_model_and_method(tmp_path):
    results = results_of(write_results(write_results(tmp_path, "ViT-a"), "MAE-a", (2, 6), pool="mean"))
    figure = probability_deviation(results, ["MAE-a", "ViT-a"])
    assert [panel.get_title().split()[0] for panel in figure.axes] == ["Removal", "Enhancement"]
    names = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
    assert names == ["MAE-a\nn = 8 images\n2 classes", "ViT-a\nn = 12 images\n3 classes"]
    assert legend(figure) == [*(EDITED[key].name for key in SHOWN), "one class"]
    for panel in figure.axes:
        boxes = [patch for patch in panel.patches if patch.get_facecolor()[3] == 0.35]
        assert len(boxes) == 2 * len(SHOWN)
        assert [1, 1] in [[*line.get_ydata()] for line in panel.lines if line.get_linestyle() == "--"]
    assert "left out" not in caption(figure)
    assert saved(figure, tmp_path)


def test_accuracy_deviation_beside_the_paper_where_it_has_the_model(tmp_path):
    results = results_of(write_results(write_results(tmp_path, "ViT-B_16"), "ViT-a"))
    found = table(results, ["ViT-B_16", "ViT-a"], ["accuracy"])
    figure = accuracy_deviation(results, found)
    paper = paper_results()
    for panel, key in zip(figure.axes, ("removal_accuracy_deviation", "enhancement_accuracy_deviation"), strict=True):
        ours = [line.get_ydata()[0] for line in panel.lines if line.get_marker() == "o"]
        entries = found["measures"][key]
        assert ours == [entries[method][model]["value"] for model in found["models"] for method in SHOWN]
        hollow = [line.get_ydata()[0] for line in panel.lines if line.get_marker() == "s"]
        assert hollow == [paper[key][method][0] for method in PAPER]
        assert "percentage points" in panel.get_ylabel()
    names = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
    assert names == ["ViT-B_16\nn = 12 images", "ViT-a\nn = 12 images"]
    assert legend(figure)[-1] == "the paper's"
    assert "the paper's" not in legend(accuracy_deviation(results, table(results, ["ViT-a"], ["accuracy"])))
    assert saved(figure, tmp_path)


def test_images_of_probability_zero_are_left_out_and_counted(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a", (5, 3, 4), zero=(1,)))
    figure = probability_deviation(results, ["ViT-a"])
    assert "Up to 3 images of a model, whose p(original) is 0, are left out" in caption(figure)
    assert {len(p.get_offsets()) for p in figure.axes[0].collections} == {2}
    results = results_of(write_results(tmp_path, "ViT-b", (2, 2), zero=(0, 1)))
    figure = probability_deviation(results, ["ViT-b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no ratios"] * len(SHOWN)
    assert saved(figure, tmp_path)


def test_the_axis_of_large_ratios_is_logarithmic(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a"))
    tiny = {"image": "3/0.png", "original": 1e-4, "remove": 1e-5, "enhance": 0.9}
    tiny |= {f"{key}_label": 3 for key in ("original", "remove", "enhance")}
    write_lines(tmp_path / "edit/remove_enhance/ja/ViT-a" / "imgnet_all-3.rlt.jsonl", [tiny])
    assert [p.get_yscale() for p in probability_deviation(results, ["ViT-a"]).axes] == ["linear", "log"]


def test_heads_go_by_settings_before_names(tmp_path):
    results = results_of(write_results(write_results(tmp_path, "MAE-a", pool="cls"), "b", pool="mean"))
    assert of_head(results, ["MAE-a", "b"], "cls") == ["MAE-a"]
    assert of_head(results, ["MAE-a", "b"], "mean") == ["b"]
    with pytest.raises(UserError, match=r"no records of MAE models, only of MAE-a$"):
        of_head(results, ["MAE-a"], "mean")


def test_baselines_are_drawn_where_they_have_records(tmp_path):
    """All methods of a model beside those of the next, without an overlap."""
    results = results_of(write_results(write_results(tmp_path, "ViT-a", methods=tuple(EDITED)), "ViT-b"))
    models = ["ViT-a", "ViT-b"]
    figure = probability_deviation(results, models)
    assert legend(figure) == [*(method.name for method in EDITED.values()), "one class"]
    panel = figure.axes[0]
    boxes = [patch.get_path().vertices[:, 0] for patch in panel.patches if patch.get_facecolor()[3] == 0.35]
    spans = sorted((x.min(), x.max()) for x in boxes)
    assert len(spans) == len(EDITED) + 4
    assert all(end < begin for (_, end), (begin, _) in pairwise(spans))
    assert [text.get_text() for text in panel.texts] == ["no records"] * (len(EDITED) - 4)
    figure = accuracy_deviation(results, table(results, models, ["accuracy"]))
    assert legend(figure) == [method.name for method in EDITED.values()]
    assert saved(figure, tmp_path)
