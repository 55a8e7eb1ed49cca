"""The figures of scores, read off: every artist's place and colour, axes, titles, legend and caption."""

from pathlib import Path

import numpy as np
import pytest
from made import write_folder
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from scipy.stats import gaussian_kde

from neuronpath.analysis.results import Results
from neuronpath.errors import UserError
from neuronpath.figures.scores import class_scores, score_distributions

BLUE, GREEN, ORANGE = "#0072B2", "#009E73", "#D55E00"  # Neuron Path, Influence Pattern, Activation
JA = {0: [0.2, 0.4, 0.9], 3: [0.09], 7: [-0.3, 0.5]}
BASE = {0: [0.01, 0.03, -0.02], 3: [0.0], 7: [0.002, 0.05]}
PATTERN = {0: [0.3, 0.08], 7: [0.25, 0.35, 0.05]}


def write_model(root: Path, model: str, scale: float = 1, pattern: bool = True, **settings) -> None:
    joint = {
        label: [{"ja_score": scale * a, "base_score": scale * b} for a, b in zip(JA[label], BASE[label], strict=True)]
        for label in JA
    }
    write_folder(root / "ja" / model, joint, **settings)
    if pattern:
        found = {label: [{"score": scale * x} for x in values] for label, values in PATTERN.items()}
        write_folder(root / "influence_pattern" / model, found)


def results(root: Path) -> Results:
    return Results(root, "imgnet_all")


@pytest.fixture
def one(tmp_path) -> Results:
    write_model(tmp_path, "ViT$a", quadrature="right", ig_total_step=20)
    return results(tmp_path)


def caption(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


ABOUT = (
    r"JAS(P) = (1/N) $\Sigma_t$ S[t]·G[t], of the probability of the target class; n = 5 to 6 images per model and "
    "method. The axis is linear near 0 and logarithmic beyond."
)


@pytest.mark.parametrize("draw", [score_distributions, class_scores])
def test_units_are_those_of_f(tmp_path, draw):
    write_model(tmp_path, "a", quadrature="right", ig_total_step=20, objective="logit")
    write_model(tmp_path, "b", quadrature="right", ig_total_step=20)
    figure = draw(results(tmp_path), ["a"])
    assert figure.axes[0].get_ylabel() == "Joint Attribution Score (logits)"
    assert figure.axes[0].get_title().startswith("a\nquadrature right, m = 20, F = logit\n")
    assert caption(figure).startswith(ABOUT.split("probability")[0] + "logit of the target class; n = ")
    figure = draw(results(tmp_path), ["a", "b"])
    assert figure.axes[0].get_ylabel() == "Joint Attribution Score (logits or probability)"
    assert "of the logit of the target class or the probability of the target class; n = " in caption(figure)
    write_model(tmp_path, "b", quadrature="right", ig_total_step=20, objective="loss")
    with pytest.raises(UserError) as caught:
        draw(results(tmp_path), ["b"])
    words = "objective 'loss' is unknown; choose from probability, logit, sigmoid"
    expected = f"{tmp_path}: settings of records of another kind ({words}); give records of this project"
    assert str(caught.value) == expected


def test_a_violin_has_quartiles_median_and_mean_of_all_images(one):
    (panel,) = score_distributions(one, ["ViT$a"]).axes
    scale = panel.yaxis.get_transform()
    values = [np.concatenate([*scores.values()]) for scores in (BASE, PATTERN, JA)]
    bars = [c for c in panel.collections if isinstance(c, LineCollection)]
    violins = [c for c in panel.collections if not isinstance(c, LineCollection)]
    dots = [line for line in panel.lines if line.get_marker() == "o"]
    diamonds = [line for line in panel.lines if line.get_marker() == "D"]
    assert len(bars) == len(violins) == len(dots) == len(diamonds) == 3
    for x, (v, colour) in enumerate(zip(values, (ORANGE, GREEN, BLUE), strict=True)):
        low, median, high = np.percentile(v, [25, 50, 75])
        np.testing.assert_allclose(bars[x].get_segments(), [[[x, low], [x, high]]])
        assert bars[x].get_color()[0].tolist() == [*to_rgba(colour)]
        assert bars[x].get_linewidth()[0] == 4
        assert (dots[x].get_xdata().tolist(), dots[x].get_ydata().tolist()) == ([x], [median])
        assert (dots[x].get_color(), dots[x].get_markerfacecolor()) == (colour, "white")
        assert diamonds[x].get_xdata().tolist() == [x]
        assert diamonds[x].get_ydata().tolist() == pytest.approx([v.mean()])
        assert (diamonds[x].get_color(), diamonds[x].get_markeredgecolor()) == (colour, "white")
        assert violins[x].get_facecolor()[0].tolist() == [*to_rgba(colour, 0.35)]
        outline = violins[x].get_paths()[0].vertices
        assert [outline[:, 0].min(), outline[:, 0].max()] == pytest.approx([x - 0.42, x + 0.42], abs=1e-3)
        assert [outline[:, 1].min(), outline[:, 1].max()] == pytest.approx([v.min(), v.max()])
        placed = scale.transform(v)
        density = gaussian_kde(placed)
        grid = np.linspace(placed.min(), placed.max(), 200)
        right = outline[outline[:, 0] > x + 1e-9]
        expected = density(scale.transform(right[:, 1])) / density(grid).max()
        np.testing.assert_allclose((right[:, 0] - x) / 0.42, expected, atol=1e-6)


def test_a_method_whose_scores_are_all_one_has_no_violin(tmp_path):
    write_folder(tmp_path / "ja/a", {0: [{"ja_score": 0.5, "base_score": i} for i in range(3)]})
    (panel,) = score_distributions(results(tmp_path), ["a"]).axes
    violins = [c for c in panel.collections if not isinstance(c, LineCollection)]
    assert [v.get_facecolor()[0].tolist() for v in violins] == [[*to_rgba(ORANGE, 0.35)]]
    assert [(t.get_text(), t.get_position()) for t in panel.texts] == [("no records", (1, 0.98))]


def test_a_point_is_the_mean_of_a_class_and_a_line_joins_those_of_a_class(one):
    (panel,) = class_scores(one, ["ViT$a"]).axes
    means = [[np.mean(scores[label]) if label in scores else np.nan for label in JA] for scores in (BASE, PATTERN, JA)]
    spread = 0.5 * ((0.5 + 0.618034 * np.arange(3)) % 1 - 0.5)
    zero, *lines = panel.lines
    assert len(lines) == 3
    for i, line in enumerate(lines):
        np.testing.assert_allclose(line.get_xdata(), np.arange(3) + spread[i])
        np.testing.assert_allclose(line.get_ydata(), np.array(means)[:, i])
        assert (line.get_color(), line.get_linewidth(), line.get_alpha(), line.get_zorder()) == ("0.5", 0.6, 0.8, 1)
    clouds = [c for c in panel.collections if not isinstance(c, LineCollection)]
    bars = [c for c in panel.collections if isinstance(c, LineCollection)]
    for x, colour in enumerate((ORANGE, GREEN, BLUE)):
        found = np.ma.filled(clouds[x].get_offsets().astype(float), np.nan)
        expected = np.stack([x + spread, means[x]], 1)
        known = ~np.isnan(expected[:, 1])
        np.testing.assert_allclose(found[known], expected[known])
        assert clouds[x].get_facecolor()[0].tolist() == [*to_rgba(colour, 0.8)]
        median = np.nanmedian(means[x])
        np.testing.assert_allclose(bars[x].get_segments(), [[[x - 0.34, median], [x + 0.34, median]]])
        assert (bars[x].get_color()[0].tolist(), bars[x].get_linewidth()[0]) == ([*to_rgba("black")], 2)
        assert bars[x].get_zorder() > clouds[x].get_zorder() > lines[0].get_zorder()
    assert (set(zero.get_ydata()), zero.get_color(), zero.get_zorder()) == ({0}, "0.6", 0)


@pytest.mark.parametrize(
    ("draw", "legend", "what"),
    [
        (
            score_distributions,
            ["density along this axis", "quartiles", "median", "mean"],
            "A violin holds the scores of all images of a model.",
        ),
        (
            class_scores,
            ["one class", "the same class", "median of the classes"],
            "A point is the mean over the images of one class.",
        ),
    ],
)
def test_axes_titles_legend_and_caption(one, draw, legend, what):
    figure = draw(one, ["ViT$a"])
    (panel,) = figure.axes
    assert panel.get_title() == "ViT\\$a\nquadrature right, m = 20\nn = 5 to 6 images, 2 to 3 classes"
    assert panel.get_ylabel() == "Joint Attribution Score (probability)"
    assert panel.get_xlim() == (-0.6, 2.6)
    assert panel.get_xticks().tolist() == [0, 1, 2]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["Activation", "Influence\nPattern", "Neuron\nPath"]
    assert panel.get_yscale() == "asinh"
    assert panel.yaxis.get_major_formatter()(0.001) == "0.001"
    assert not panel.spines["top"].get_visible()
    assert not panel.spines["right"].get_visible()
    assert [0, 0] in [[*line.get_ydata()] for line in panel.lines]
    assert not panel.texts
    assert [text.get_text() for text in figure.legends[0].get_texts()] == legend
    assert caption(figure) == f"{ABOUT} {what}"
    assert figure.get_size_inches().tolist() == pytest.approx([6.5, 4.8])


@pytest.mark.parametrize(
    ("draw", "styles"),
    [
        (score_distributions, [("0.75", 1), ("black", 4), ("black", 0, "o", "white"), ("black", 0, "D", "black")]),
        (class_scores, [("black", 0, "o", "black"), ("0.5", 0.6), ("black", 2)]),
    ],
)
def test_the_legend_looks_as_what_it_names(one, draw, styles):
    for handle, (colour, width, *mark) in zip(draw(one, ["ViT$a"]).legends[0].legend_handles, styles, strict=True):
        if not hasattr(handle, "get_marker"):
            assert handle.get_facecolor() == to_rgba(colour)
            continue
        assert (handle.get_color(), handle.get_linewidth()) == (colour, width)
        if mark:
            assert [handle.get_marker(), handle.get_markerfacecolor()] == mark


@pytest.mark.parametrize(
    ("scales", "width"),
    [((1,), 1e-2), ((1, 10), 1e-2), ((1, 0.1), 1e-3), ((1000, 100), 1), ((0,), 1e-3), ((0, 10), 0.1)],
)
def test_the_axis_is_linear_below_every_models_median(tmp_path, scales, width):
    for i, scale in enumerate(scales):
        write_model(tmp_path, f"m{i}", scale)
    median = np.median(np.abs(np.concatenate([x for s in (BASE, PATTERN, JA) for x in s.values()])))
    assert 0.05 < median < 0.1
    panels = score_distributions(results(tmp_path), [f"m{i}" for i in range(len(scales))]).axes
    for panel in panels:
        assert panel.yaxis.get_transform().linear_width == pytest.approx(width)
        assert panel.yaxis.get_major_locator()._linthresh == pytest.approx(10 * width)
    assert all(panel.get_ylim() == panels[0].get_ylim() for panel in panels)


def test_four_panels_in_a_row(tmp_path):
    names = [f"m{i}" for i in range(6)]
    for name in names:
        write_model(tmp_path, name)
    figure = class_scores(results(tmp_path), names)
    assert [panel.get_title().split("\n")[0] for panel in figure.axes] == [*names, "", ""]
    assert [panel.axison for panel in figure.axes] == [True] * 6 + [False] * 2
    assert [bool(panel.get_ylabel()) for panel in figure.axes] == [True, False, False, False, True, False, False, False]
    assert figure.get_size_inches().tolist() == pytest.approx([15, 8.6])
    places = [panel.get_subplotspec().rowspan.start for panel in figure.axes]
    assert places == [0] * 4 + [1] * 4


def test_records_that_say_no_rule_have_none_in_the_title_and_missing_ones_no_point(tmp_path):
    write_model(tmp_path, "a", pattern=False)
    for draw in (score_distributions, class_scores):
        (panel,) = draw(results(tmp_path), ["a"]).axes
        assert panel.get_title() == "a\nn = 6 images, 3 classes"
        assert [(t.get_text(), t.get_position()[0]) for t in panel.texts] == [("no records", 1)]


@pytest.mark.parametrize("draw", [score_distributions, class_scores])
def test_records_made_otherwise_are_said(tmp_path, draw):
    for model in ("a$", "b"):
        write_model(tmp_path, model, quadrature="right", preprocess="paper")
        write_folder(tmp_path / "influence_pattern" / model, {}, quadrature="left", preprocess="paper")
    figure = draw(results(tmp_path), ["a$", "b"])
    each = [rf"{model} in influence_pattern: quadrature right → left" for model in (r"a\$", "b")]
    assert caption(figure).endswith(f" Not all alike: {each[0]}; {each[1]}.")


def test_the_caption_counts_from_the_fewest_to_the_most_images_of_any_model(tmp_path):
    write_model(tmp_path, "a")
    write_folder(tmp_path / "ja/b", {0: [{"ja_score": 0.5, "base_score": i} for i in range(3)]})
    assert "n = 3 to 6 images per model" in caption(class_scores(results(tmp_path), ["a", "b"]))
