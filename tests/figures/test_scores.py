"""Pictures of scores."""

import numpy as np
import pytest
from helpers import caption, saved, write_lines
from made import results_of, write_results

from neuronpath.figures.scores import class_scores, score_distributions
from neuronpath.records.schema import METHODS, PAPER


def test_the_black_line_is_the_median_of_the_classes(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a", (5, 3, 4, 2, 6)))
    lines = {
        segment[:, 0].mean().round(6): segment[0, 1]
        for collection in class_scores(results, ["ViT-a"]).axes[0].collections
        if hasattr(collection, "get_segments")
        for segment in collection.get_segments()
    }
    for x, method in enumerate(METHODS[key] for key in PAPER):
        records = results.records(method.job, "ViT-a").values()
        means = [np.mean([record[method.score] for record in found]) for found in records]
        assert lines[x] == pytest.approx(np.median(means))
        assert lines[x] != pytest.approx(np.mean(means))


def test_scores_have_a_panel_per_model_and_all_methods(tmp_path):
    results = results_of(write_results(write_results(tmp_path, "ViT-a"), "MAE-a", (2, 6), pool="mean"))
    for draw in (score_distributions, class_scores):
        figure = draw(results, ["ViT-a", "MAE-a"])
        assert [panel.get_title().split("\n") for panel in figure.axes] == [
            ["ViT-a", "quadrature right, m = 20", "n = 12 images, 3 classes"],
            ["MAE-a", "quadrature right, m = 20", "n = 8 images, 2 classes"],
        ]
        names = [tick.get_text().replace("\n", " ") for tick in figure.axes[0].get_xticklabels()]
        assert names == [METHODS[key].name for key in PAPER]
        assert "JAS(P)" in caption(figure)
        assert "n = 8 to 12 images per model" in caption(figure)
        assert saved(figure, tmp_path)


def test_baselines_are_drawn_where_they_have_records(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a"))
    found = [{"image": str(i), "path": [[0]], "score": i / 10} for i in range(3)]
    write_lines(tmp_path / "baseline/random/ViT-a" / "imgnet_all-0.rlt.jsonl", found)
    for draw in (score_distributions, class_scores):
        panel = draw(results, ["ViT-a"]).axes[0]
        names = [tick.get_text().replace("\n", " ") for tick in panel.get_xticklabels()]
        assert names == [*(METHODS[key].name for key in PAPER), "Random"]
        assert panel.get_xlim() == (-0.6, 3.6)


def test_mean_and_class_means_are_where_they_belong(tmp_path):
    results = results_of(write_results(tmp_path, "ViT-a"))
    records = results.records("ja", "ViT-a")
    scores = [record["ja_score"] for found in records.values() for record in found]
    drawn = [line.get_ydata()[0] for line in score_distributions(results, ["ViT-a"]).axes[0].lines]
    assert np.mean(scores) in drawn
    assert np.median(scores) in drawn
    points = class_scores(results, ["ViT-a"]).axes[0].collections
    of_path = [p.get_offsets()[:, 1] for p in points if len(p.get_offsets()) == 3][-1]
    np.testing.assert_allclose(of_path, [np.mean([r["ja_score"] for r in found]) for found in records.values()])


def test_scores_that_are_all_zero(tmp_path):
    for label in range(2):
        records = [{"image": str(i), "ja_score": 0.0, "base_score": 0} for i in range(3)]
        write_lines(tmp_path / "ja/ViT-a" / f"imgnet_all-{label}.rlt.jsonl", records)
    for draw in (score_distributions, class_scores):
        assert saved(draw(results_of(tmp_path), ["ViT-a"]), tmp_path)
