"""The figures of edits, read off: boxes, points, intervals, the paper's figures, axes, legend and caption."""

from pathlib import Path

import numpy as np
import pytest
from made import write_folder
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from neuronpath.analysis.proportions import newcombe
from neuronpath.analysis.results import Results
from neuronpath.analysis.table import table
from neuronpath.errors import UserError
from neuronpath.figures.edits import accuracy_deviation, of_head, probability_deviation

COLOURS = {"base": "#D55E00", "influence_pattern": "#009E73", "ja": "#0072B2", "random": "#7F7F7F"}
NAMES = ["Activation", "Influence Pattern", "Neuron Path", "Matched control"]
PLACES = {4: [-0.315, -0.105, 0.105, 0.315], 3: [-0.21, 0, 0.21]}  # of the methods around their model


def edited(label: int, ratio: float, original: float = 0.5, right=(True, True, True)) -> dict:
    record = {"original": original, "remove": ratio * original, "enhance": (2 - ratio) * original}
    keys = ("original", "remove", "enhance")
    return record | {f"{key}_label": label if r else label + 1 for key, r in zip(keys, right, strict=True)}


def write_edits(root: Path, model: str, *methods: str, classes: int = 5) -> None:
    """Ratios of removal: one more percent for every class and ten for every method; the last of 3 images lost."""
    for m, method in enumerate(methods or COLOURS):
        records = {
            label: [edited(label, 0.5 + 0.1 * m + 0.01 * label, right=(True, i < 2 - (m == 2), True)) for i in range(3)]
            for label in range(classes)
        }
        if method == "random":
            for record in (record for found in records.values() for record in found):
                record["control_ratio"] = [[1.0, 0.95], [1.2]]
        write_folder(root / f"edit/remove_enhance/{method}" / model, records)


def results(root: Path) -> Results:
    return Results(root, "imgnet_all")


def caption(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def boxes(panel) -> list:
    return [patch for patch in panel.patches if patch.get_facecolor()[3] == 0.35]


PROBABILITY = (
    "Probability Deviation of a class: mean over its images of p(edited) / p(original), p being the probability of the "
    "true class; 1 (dashed) is no change. Box: quartiles and median of the classes; whiskers: the last class within "
    "1.5 box heights."
)
ACCURACY = (
    "Accuracy Deviation = 100 (top-1 accuracy edited - original), over all images. Bars: 95 % intervals of a "
    "difference of paired proportions (Newcombe's method 10)."
)


def control(**matches: str) -> str:
    found = "; ".join(f"{model}: {words}" for model, words in matches.items())
    return f" What the matched control's units write, |activation|·‖fc2 column‖: {found}."


MATCHED = "1.05 times what the path's do, 67 % of them within 10 %"


class TestProbabilityDeviation:
    def test_a_box_and_a_point_per_class_stand_at_each_method_of_each_model(self, tmp_path):
        write_edits(tmp_path, "a")
        write_edits(tmp_path, "b", classes=3)
        figure = probability_deviation(results(tmp_path), ["a", "b"])
        for panel, sign in zip(figure.axes, (1, -1), strict=True):
            clouds = [c for c in panel.collections if not isinstance(c, LineCollection)]
            found = boxes(panel)
            assert len(found) == len(clouds) == 8
            for i, (model, classes) in enumerate((("a", 5), ("b", 3))):
                jitter = 0.12 * ((0.5 + 0.618034 * np.arange(classes)) % 1 - 0.5)
                for m, colour in enumerate(COLOURS.values()):
                    ratio = 0.5 + 0.1 * m + 0.01 * np.arange(classes)
                    ratio = ratio if sign > 0 else 2 - ratio
                    x, box, cloud = i + PLACES[4][m], found[4 * i + m], clouds[4 * i + m]
                    np.testing.assert_allclose(cloud.get_offsets(), np.stack([x + jitter, ratio], 1), err_msg=model)
                    assert cloud.get_facecolor()[0].tolist() == [*to_rgba(colour, 0.8)]
                    corners = box.get_path().vertices
                    assert box.get_facecolor() == to_rgba(colour, 0.35)
                    assert box.get_edgecolor() == to_rgba(colour, 0.35)
                    assert [corners[:, 0].min(), corners[:, 0].max()] == pytest.approx([x - 0.08, x + 0.08])
                    quartiles = np.percentile(ratio, [25, 75])
                    assert [corners[:, 1].min(), corners[:, 1].max()] == pytest.approx(quartiles)
                    middle = [line for line in panel.lines if line.get_linewidth() == 1.4][4 * i + m]
                    assert middle.get_ydata().tolist() == pytest.approx([np.median(ratio)] * 2)
                    assert middle.get_color() == "black"
                    others = [line for line in panel.lines if line.get_linewidth() == 1.2]
                    assert {line.get_color() for line in others[16 * i + 4 * m : 16 * i + 4 * m + 4]} == {colour}
            dashed = [line for line in panel.lines if line.get_linestyle() == "--"]
            assert [(*line.get_ydata(), line.get_color(), line.get_zorder()) for line in dashed] == [(1, 1, "black", 0)]

    def test_axes_legend_and_caption(self, tmp_path):
        write_edits(tmp_path, "a$")
        write_edits(tmp_path, "b", classes=3)
        figure = probability_deviation(results(tmp_path), ["a$", "b"])
        assert [panel.get_title() for panel in figure.axes] == [
            "Removal (zero-out, factor 0)",
            "Enhancement (doubling, factor 2)",
        ]
        assert {panel.get_ylabel() for panel in figure.axes} == {"Probability Deviation (ratio)"}
        low = figure.axes[1]
        assert low.get_xlim() == figure.axes[0].get_xlim() == (-0.55, 1.55)
        assert low.get_xticks().tolist() == [0, 1]
        assert [t.get_text() for t in low.get_xticklabels()] == [
            "a\\$\nn = 15 images\n5 classes",
            "b\nn = 9 images\n3 classes",
        ]
        assert legend(figure) == [*NAMES, "one class"]
        assert [h.get_facecolor() for h in figure.legends[0].legend_handles[:4]] == [
            to_rgba(colour, 0.5) for colour in COLOURS.values()
        ]
        assert figure.legends[0].legend_handles[4].get_marker() == "o"
        assert caption(figure) == PROBABILITY + control(**{"a\\$": MATCHED, "b": MATCHED})
        for panel in figure.axes:
            between = [line for line in panel.lines if line.get_color() == "0.85"]
            assert [line.get_xdata() for line in between] == [[0.5, 0.5]]
            assert not panel.spines["top"].get_visible()
            assert not panel.spines["right"].get_visible()
        assert figure.get_size_inches().tolist() == pytest.approx([6.5, 7])

    @pytest.mark.parametrize(("models", "width"), [(1, 6.5), (4, 0.45 * 16 + 1.5)])
    def test_it_grows_with_models_and_methods(self, tmp_path, models, width):
        for i in range(models):
            write_edits(tmp_path, f"m{i}")
        figure = probability_deviation(results(tmp_path), [f"m{i}" for i in range(models)])
        assert figure.get_size_inches().tolist() == pytest.approx([width, 7])

    def test_without_a_control_the_others_move_together(self, tmp_path):
        write_edits(tmp_path, "a", "base", "ja")
        figure = probability_deviation(results(tmp_path), ["a"])
        assert legend(figure) == [*NAMES[:3], "one class"]
        for panel in figure.axes:
            middles = [box.get_path().vertices[:, 0] for box in boxes(panel)]
            assert [(x.min() + x.max()) / 2 for x in middles] == pytest.approx([-0.21, 0.21])
            assert [(t.get_text(), t.get_position()[0]) for t in panel.texts] == [("no records", 0)]

    def test_what_is_left_out_is_the_most_of_any_model_and_named(self, tmp_path):
        write_edits(tmp_path, "a", "ja")
        write_folder(
            tmp_path / "edit/remove_enhance/ja" / "a", {0: [edited(0, 0.5, 0.0), edited(0, 0.5)], 1: [edited(1, 1, 0)]}
        )
        write_folder(tmp_path / "edit/remove_enhance/base" / "a", {0: [edited(0, 0.5, 0.0)]})
        figure = probability_deviation(results(tmp_path), ["a"])
        words = " Up to 2 images of a model, whose p(original) is 0, are left out."
        assert caption(figure) == PROBABILITY + words
        assert [t.get_text() for t in figure.axes[0].texts] == ["no ratios", "no records"]

    @pytest.mark.parametrize(
        ("ratios", "scale", "subs"),
        [
            ((0.11, 1), "linear", None),
            ((0.09, 1), "log", [1, 2, 5]),
            ((0.0011, 1), "log", [1, 2, 5]),
            ((0.0009, 1), "log", [1]),
            ((0, 1), "linear", None),
        ],
    )
    def test_the_axis_is_logarithmic_where_a_ratio_is_ten_times_another(self, tmp_path, ratios, scale, subs):
        write_folder(
            tmp_path / "edit/remove_enhance/ja" / "a", {label: [edited(label, r)] for label, r in enumerate(ratios)}
        )
        panel = probability_deviation(results(tmp_path), ["a"]).axes[0]
        assert panel.get_yscale() == scale
        if subs:
            assert list(panel.yaxis.get_major_locator()._subs) == subs
            assert panel.yaxis.get_major_formatter()(0.5) == "0.5"

    def test_no_edits_name_the_folder_and_where_they_belong(self, tmp_path):
        with pytest.raises(UserError) as e:
            probability_deviation(results(tmp_path), ["a", "b"])
        assert str(e.value) == f"{tmp_path}: no edit records of a, b in edit/remove_enhance/<method>/<model>"

    def test_records_made_otherwise_are_said(self, tmp_path):
        write_edits(tmp_path, "a")
        write_folder(tmp_path / "edit/remove_enhance/ja" / "a", {}, preprocess="native")
        write_folder(tmp_path / "edit/remove_enhance/random" / "a", {}, preprocess="paper")
        words = " Not all alike: a in edit/remove_enhance/random: preprocess native → paper."
        words = control(a=MATCHED) + words
        assert caption(probability_deviation(results(tmp_path), ["a"])) == PROBABILITY + words
        found = table(results(tmp_path), ["a"], ["accuracy"])
        assert caption(accuracy_deviation(results(tmp_path), found)) == ACCURACY + words

    def test_a_control_of_older_records_is_said_to_be_drawn_by_rank(self, tmp_path):
        write_edits(tmp_path, "a", "ja")
        write_folder(tmp_path / "edit/remove_enhance/random" / "a", {0: [edited(0, 1)]})
        words = control(a="not recorded, drawn by the rank of activations alone")
        assert caption(probability_deviation(results(tmp_path), ["a"])) == PROBABILITY + words


class TestAccuracyDeviation:
    def draw(self, root: Path, *models: str):
        found = table(results(root), models, ["accuracy"])
        return found["measures"], accuracy_deviation(results(root), found)

    def test_a_dot_and_its_interval_for_each_method_and_the_papers_beside_it(self, tmp_path):
        write_edits(tmp_path, "ViT-B_32")
        write_edits(tmp_path, "b", "ja")
        measures, figure = self.draw(tmp_path, "ViT-B_32", "b")
        keys = ("removal_accuracy_deviation", "enhancement_accuracy_deviation")
        for panel, key in zip(figure.axes, keys, strict=True):
            dots = [line for line in panel.lines if line.get_marker() == "o"]
            bars = [c for c in panel.collections if isinstance(c, LineCollection)]
            places = [(m, i, i + PLACES[4][m]) for i, model in enumerate(("a", "b")) for m in range(4)]
            known = [place for place in places if place[1] == 0 or place[0] == 2]
            for (m, i, x), dot, bar in zip(known, dots, bars, strict=True):
                method, model = [*COLOURS][m], ("ViT-B_32", "b")[i]
                entry = measures[key][method][model]
                assert dot.get_xdata().tolist() == pytest.approx([x])
                assert dot.get_ydata().tolist() == [entry["value"]]
                np.testing.assert_allclose(bar.get_segments(), [[[x, entry["low"]], [x, entry["high"]]]])
                assert (dot.get_color(), bar.get_color()[0].tolist()) == (COLOURS[method], [*to_rgba(COLOURS[method])])
            hollow = [line for line in panel.lines if line.get_marker() == "s"]
            assert [line.get_ydata()[0] for line in hollow] == [
                measures[key][method]["ViT-B_32"]["paper"] for method in [*COLOURS][:3]
            ]
            assert [line.get_xdata()[0] for line in hollow] == pytest.approx([x + 0.07 for x in PLACES[4][:3]])
            assert [line.get_color() for line in hollow] == [*COLOURS.values()][:3]
            assert {line.get_markerfacecolor() for line in hollow} == {"none"}
            dashed = [line for line in panel.lines if line.get_linestyle() == "--"]
            assert [(*line.get_ydata(), line.get_color()) for line in dashed] == [(0, 0, "black")]
            missing = [t.get_position()[0] for t in panel.texts]
            assert missing == pytest.approx([1 + PLACES[4][m] for m in (0, 1, 3)])

    def test_axes_legend_and_caption(self, tmp_path):
        write_edits(tmp_path, "ViT-B_32")
        write_edits(tmp_path, "b", "ja", classes=2)
        _, figure = self.draw(tmp_path, "ViT-B_32", "b")
        assert [panel.get_title() for panel in figure.axes] == [
            "Removal (zero-out, factor 0)",
            "Enhancement (doubling, factor 2)",
        ]
        assert {panel.get_ylabel() for panel in figure.axes} == {"Accuracy Deviation\n(percentage points)"}
        assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
        names = [t.get_text() for t in figure.axes[1].get_xticklabels()]
        assert names == ["ViT-B_32\nn = 15 images", "b\nn = 6 images"]
        assert legend(figure) == [*NAMES, "the paper's"]
        handles = figure.legends[0].legend_handles
        assert [(h.get_color(), h.get_marker(), h.get_linewidth()) for h in handles[:4]] == [
            (colour, "o", 1.5) for colour in COLOURS.values()
        ]
        assert (handles[4].get_marker(), handles[4].get_markerfacecolor()) == ("s", "none")
        paper = " Hollow: the paper's figures, over all validation images of ImageNet-1k."
        assert caption(figure) == ACCURACY + paper + control(**{"ViT-B_32": MATCHED})
        _, alone = self.draw(tmp_path, "b")
        assert caption(alone) == ACCURACY
        assert legend(alone) == NAMES[:3]

    def test_small_changes_are_shown_between_minus_and_plus_a_point_at_least(self, tmp_path):
        write_folder(tmp_path / "edit/remove_enhance/ja" / "a", {0: [edited(0, 0.9)] * 1000})
        _, figure = self.draw(tmp_path, "a")
        assert figure.axes[0].get_ylim() == (-1, 1)

    def test_one_image_has_an_interval_too(self, tmp_path):
        write_folder(tmp_path / "edit/remove_enhance/ja" / "a", {0: [edited(0, 0.9, right=(True, False, True))]})
        _, figure = self.draw(tmp_path, "a")
        (bar,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
        low, high = bar.get_segments()[0][:, 1]
        assert (low, high) == pytest.approx([100 * x for x in newcombe(0, 0, 1, 0)])
        assert low < high


@pytest.mark.parametrize(
    ("settings", "pool"),
    [({"x": {"model_pool": "mean"}}, "mean"), ({"x": {"model_pool": "cls"}}, "cls"), ({}, "cls")],
)
def test_a_model_is_of_the_head_that_its_settings_say_or_else_its_name(tmp_path, settings, pool):
    for model in ("x", "MAE-y"):
        write_folder(tmp_path / "ja" / model, {0: [{"ja_score": 1, "base_score": 0}]}, **settings.get(model, {}))
    found = {head: of_head(results(tmp_path), ["x", "MAE-y"], head) for head in ("mean",)}
    assert found["mean"] == (["x", "MAE-y"] if pool == "mean" else ["MAE-y"])
    with pytest.raises(UserError) as e:
        of_head(results(tmp_path), ["MAE-y"], "cls")
    assert str(e.value) == f"{tmp_path}: no records of ViT models, only of MAE-y"
