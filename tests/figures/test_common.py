"""What every picture of result folders must do: few images or many, missing records, odd names."""

import itertools
import re

import pytest
from helpers import legend, saved, write_lines
from made import results_of, write_results

from neuronpath.analysis.results import Results
from neuronpath.analysis.table import table
from neuronpath.errors import UserError
from neuronpath.figures.edits import accuracy_deviation, of_head, probability_deviation
from neuronpath.figures.scores import class_scores, score_distributions
from neuronpath.records.schema import METHODS


def accuracy_of(results: Results, models: list[str]):
    return accuracy_deviation(results, table(results, models, ["accuracy"]))


FIGURES = (score_distributions, class_scores, probability_deviation, accuracy_of)


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("counts", [(4,), (1, 1, 1), (1,)], ids=["one class", "one image each", "one image"])
def test_few_images(draw, counts, tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a", counts))
    assert saved(draw(results, ["ViT-a"]), tmp_path)


@pytest.mark.parametrize("draw", FIGURES)
def test_many_models_and_classes_keep_their_names_apart(draw, tmp_path):
    models = [f"ViT-{i}" for i in range(7)]
    for model in models:
        write_results(tmp_path, model, [1] * 120)
    figure = draw(results_of(tmp_path), models)
    assert saved(figure, tmp_path)
    for panel in [panel for panel in figure.axes if panel.axison]:
        boxes = [tick.get_window_extent() for tick in panel.get_xticklabels() if tick.get_text()]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_missing_method_is_said(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a", methods=("base", "ja")))
    for draw in (probability_deviation, accuracy_of):
        figure = draw(results, ["ViT-a"])
        for panel in figure.axes:
            assert [text.get_text() for text in panel.texts] == ["no records"]
        assert "Matched control" not in legend(figure)
        assert saved(figure, tmp_path)
    for file in (tmp_path / "influence_pattern/ViT-a").iterdir():
        file.unlink()
    for draw in (score_distributions, class_scores):
        figure = draw(results_of(tmp_path), ["ViT-a"])
        assert [text.get_text() for text in figure.axes[0].texts] == ["no records"]
        assert saved(figure, tmp_path)


def test_the_released_layout(tmp_path):
    """No image, values wrapped, a line with a list, `base` for `original`; no settings."""
    for label in range(2):
        ja = [{"ja": [[1, 2]], "ja_score": [[0.3 + label]], "base": [[3, 4]], "base_score": [0.1]}] * 3
        write_lines(tmp_path / "ja/MAE-x" / f"imgnet_all-{label}.rlt.jsonl", [ja])
        write_lines(
            tmp_path / "influence_pattern/MAE-x" / f"imgnet_all-{label}.rlt.jsonl",
            [[{"path": [[1, 2]], "score": [0.2]}] * 3],
        )
        edit = {"base": [0.5], "remove": [[0.4]], "enhance": [0.6], "path": [1, 2]}
        edit |= {f"{key}_label": label for key in ("original", "remove", "enhance")}
        for method in METHODS:
            write_lines(
                tmp_path / f"edit/remove_enhance/{method}/MAE-x" / f"imgnet_all-{label}.rlt.jsonl", [[edit] * 3]
            )
    results = results_of(tmp_path)
    assert of_head(results, ["MAE-x", "ViT-x"], "mean") == ["MAE-x"]
    assert of_head(results, ["MAE-x", "ViT-x"], "cls") == ["ViT-x"]
    for draw in FIGURES:
        assert saved(draw(results, ["MAE-x"]), tmp_path)
    assert "Matched control" not in legend(probability_deviation(results, ["MAE-x"]))


def test_faults_name_the_folder(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a", methods=()))
    for draw in (probability_deviation, accuracy_of):
        with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}: no edit records of ViT-a"):
            draw(results, ["ViT-a"])
    for draw in (score_distributions, class_scores):
        with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}: no scores of none"):
            draw(results, ["none"])
    write_lines(tmp_path / "ja/ViT-b" / "imgnet_all-0.rlt.jsonl", [{"image": "a", "base_score": 1}])
    with pytest.raises(UserError, match=r"ja/ViT-b: records without a number ja_score"):
        score_distributions(results, ["ViT-b"])
    write_lines(tmp_path / "edit/remove_enhance/ja/ViT-b" / "imgnet_all-0.rlt.jsonl", [{"image": "a", "original": 1}])
    with pytest.raises(UserError, match=r"ja/ViT-b: records without numbers for remove"):
        probability_deviation(results, ["ViT-b"])


def test_a_name_that_looks_like_mathematics(tmp_path):
    name = r"$\frac_{ $"
    results = results_of(write_results(tmp_path, name))
    for draw in FIGURES:
        assert saved(draw(results, [name]), tmp_path)
