"""What all figures share: how opaque, how far apart, where words stand, and what is written."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from neuronpath.errors import UserError
from neuronpath.figures.common import (
    alpha,
    counts,
    escaped,
    finish,
    jitter,
    marker,
    no_records,
    points,
    save,
    write_caption,
)


@pytest.mark.parametrize(
    ("count", "opaque"), [(0, 0.8), (1, 0.8), (12, 0.8), (13, 10 / 13), (20, 0.5), (199, 10 / 199), (1000, 0.05)]
)
def test_the_more_the_fainter_from_08_to_005(count, opaque):
    assert alpha(count) == pytest.approx(opaque)


def test_jitter_goes_by_the_golden_ratio_around_0():
    assert jitter(1, 0.5).tolist() == [0]
    np.testing.assert_allclose(jitter(4, 2), [0, -0.763932, 0.472136, -0.291796], atol=1e-9)
    many = np.sort(jitter(1000, 0.5))
    assert -0.25 <= many[0] < -0.249
    assert 0.249 < many[-1] < 0.25
    assert np.diff(many).max() < 0.001


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([], ["no records"]),
        ([(12, 3)], ["n = 12 images", "3 classes"]),
        ([(12, 3), (12, 3)], ["n = 12 images", "3 classes"]),
        ([(12, 3), (5, 7), (8, 1)], ["n = 5 to 12 images", "1 to 7 classes"]),
        ([(9, 3), (10, 3)], ["n = 9 to 10 images", "3 classes"]),
    ],
)
def test_counts_are_from_least_to_most(sizes, words):
    assert counts(sizes) == words


@pytest.mark.parametrize(
    ("n", "size", "opaque", "drawn"), [(4, 26, 0.8, False), (100, 26, 0.25, False), (101, 6, 0.25, True)]
)
def test_many_points_are_small_faint_and_an_image(n, size, opaque, drawn):
    axes = Figure().subplots()
    points(axes, np.arange(n), np.arange(n) * 2, "#0072B2")
    (found,) = axes.collections
    assert found.get_offsets().tolist() == [[i, 2 * i] for i in range(n)]
    assert found.get_sizes().tolist() == [size]
    assert (found.get_alpha(), found.get_zorder(), bool(found.get_rasterized())) == (opaque, 1.5, drawn)
    assert found.get_facecolor()[0].tolist() == [*to_rgba("#0072B2", opaque)]
    assert found.get_edgecolor()[0].tolist() == [*to_rgba("white", opaque)]


def test_words_in_the_place_of_what_is_missing():
    axes = Figure().subplots()
    axes.set(ylim=(5, 9))
    no_records(axes, 3)
    no_records(axes, 4, "no ratios")
    first, second = axes.texts
    assert (first.get_text(), first.get_position(), first.get_rotation()) == ("no records", (3, 0.98), 90)
    assert (first.get_ha(), first.get_va(), first.get_color(), first.get_fontsize()) == ("center", "top", "0.4", 8)
    assert first.get_transform() == axes.get_xaxis_transform()
    assert (second.get_text(), second.get_position()) == ("no ratios", (4, 0.98))


def test_a_marker_of_a_legend_has_no_line_unless_one_is_asked_for():
    plain, own = marker("one", marker="o"), marker("two", "red", linewidth=1.5)
    assert (plain.get_label(), plain.get_color(), plain.get_linewidth(), plain.get_marker()) == ("one", "black", 0, "o")
    assert (own.get_label(), own.get_color(), own.get_linewidth()) == ("two", "red", 1.5)


def test_legend_above_in_one_row_and_caption_below():
    figure = Figure(figsize=(10, 3))
    handles = [marker(name) for name in "abc"]
    finish(figure, handles, "the caption")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]
    assert (legend._ncols, legend.get_frame_on(), legend._outside_loc, legend.get_texts()[0].get_fontsize()) == (
        3, False, "upper", 8,
    )  # fmt: skip
    assert figure.get_supxlabel() == "the caption"
    assert figure.get_layout_engine().get()["h_pad"] == 0.08


@pytest.mark.parametrize(("width", "size", "most"), [(10, 8, 166), (5, 8, 83), (10, 16, 83)])
def test_a_caption_fills_the_figures_width(width, size, most):
    figure = Figure(figsize=(width, 3))
    write_caption(figure, "m " * 200, size)
    lines = figure.get_supxlabel().split("\n")
    assert {len(line) for line in lines[:-1]} <= {most, most - 1}
    assert figure._supxlabel.get_fontsize() == size


def test_dollar_signs_are_no_mathematics():
    assert escaped("a$b$") == r"a\$b\$"


def test_a_figure_is_saved_twice_beside_each_other(tmp_path):
    written = save(Figure(figsize=(2, 1)), tmp_path / "new/a.b")
    assert written == [tmp_path / "new/a.b.png", tmp_path / "new/a.b.pdf"]
    assert Image.open(written[0]).size == (300, 150)
    assert written[1].read_bytes().startswith(b"%PDF")
    assert sorted((tmp_path / "new").iterdir()) == sorted(written)


def test_a_figure_that_cannot_be_saved_is_a_users_error_without_advice_on_options(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as e:
        save(Figure(), tmp_path / "file/a")
    assert str(e.value).startswith(f"{tmp_path}/file/a: cannot be written (")
    assert str(e.value).endswith(")")
