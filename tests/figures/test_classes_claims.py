"""The figures of classes, read off: violins, marks and their words, the heat map and its tree."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from PIL import Image
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from neuronpath.analysis.classes import Classes
from neuronpath.figures.classes import cluster, plot_classes, plot_similarity, save_pages, shown

H, L = 20, 4
PATHS = np.array([[[3], [7], [0], [19]], [[5], [7], [1], [18]], [[5], [7], [9], [2]], [[11], [7], [9], [2]]])


def classes(*paths: np.ndarray, method: str = "ja", labels=None, **more) -> Classes:
    return Classes(dict(zip(labels or range(len(paths)), paths, strict=True)), {}, H, method, **more)


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize(
    ("text", "short"),
    [("a" * 40, "a" * 40), ("a" * 41, "a" * 39 + "…"), ("a$b", r"a\$b"), ("$" * 40, r"\$" * 40)],
)
def test_long_names_are_cut_to_40_characters(text, short):
    assert shown(text) == short


class TestPlotClasses:
    def test_violins_where_units_differ_and_a_line_where_they_do_not(self):
        (panel,) = plot_classes(classes(PATHS, method="base"), [0]).axes
        violins = [c for c in panel.collections if isinstance(c, PolyCollection)]
        (line,) = (c for c in panel.collections if isinstance(c, LineCollection))
        for violin, layer in zip(violins, (0, 2, 3), strict=True):
            outline = violin.get_paths()[0].vertices
            assert [outline[:, 0].min(), outline[:, 0].max()] == pytest.approx([layer - 0.3, layer + 0.3], abs=1e-3)
            own = PATHS[:, layer] / H
            assert [outline[:, 1].min(), outline[:, 1].max()] == pytest.approx([own.min(), own.max()])
            assert violin.get_facecolor()[0].tolist() == [*to_rgba("#D55E00", 0.35)]
        np.testing.assert_allclose(line.get_segments(), [[[0.7, 7 / H], [1.3, 7 / H]]])
        assert line.get_color()[0].tolist() == [*to_rgba("#D55E00", 0.5)]

    def test_every_mark_has_its_units_index_beside_it(self):
        (panel,) = plot_classes(classes(PATHS, method="influence_pattern"), [0]).axes
        assert [(t.get_text(), t.xy) for t in panel.texts] == [
            ("5", (0, 5 / H)),
            ("7", (1, 7 / H)),
            ("9", (2, 9 / H)),
            ("2", (3, 2 / H)),
        ]
        dashed, marks = panel.lines
        assert (dashed.get_label(), dashed.get_color(), dashed.get_linestyle()) == ("mode of the density", "k", "--")
        assert (marks.get_label(), marks.get_marker(), marks.get_color()) == ("most frequent unit", "D", "#009E73")
        assert marks.get_ydata().tolist() == pytest.approx([5 / H, 7 / H, 9 / H, 2 / H])
        assert marks.get_xdata().tolist() == dashed.get_xdata().tolist() == [0, 1, 2, 3]

    def test_axes_titles_legend_and_caption(self):
        given = classes(PATHS, PATHS[:1], PATHS[:2], labels=(4, 9, 2), names={4: "cat", 9: "9"})
        figure = plot_classes(given, [9, 4, 2])
        assert [p.get_title() for p in figure.axes] == [
            "class 9, n = 1 image",
            "4 cat, n = 4 images",
            "class 2, n = 2 images",
            "",
        ]
        used = figure.axes[:3]
        assert [(p.get_xlabel(), p.get_ylabel()) for p in used] == [
            ("layer", "unit index / H"),
            ("layer", ""),
            ("layer", "unit index / H"),
        ]
        for panel in used:
            assert (panel.get_xlim(), panel.get_ylim()) == ((-0.6, 3.9), (-0.03, 1.06))
            assert panel.get_xticks().tolist() == [0, 1, 2, 3]
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["mode of the density", "most frequent unit"]
        assert caption(figure) == (
            f"Neuron Path, K = 1 per layer, H = {H}. Violin: unit index / H over the images of the class. Dashed: per "
            "layer the arg max over the grid j/H of the Gaussian kernel density, SciPy's default bandwidth. Number: "
            "index of the unit chosen most often. The order of the indices carries no meaning."
        )

    @pytest.mark.parametrize(
        ("depth", "count", "size"), [(4, 1, (5.5, 4.2)), (4, 2, (11, 4.2)), (4, 3, (11, 7.3)), (24, 1, (11.08, 4.2))]
    )
    def test_two_panels_in_a_row_as_wide_as_their_layers_ask_for(self, depth, count, size):
        paths = np.arange(3 * depth * 2).reshape(3, depth, 2) % H
        figure = plot_classes(classes(*[paths] * count), list(range(count)))
        assert figure.get_size_inches().tolist() == pytest.approx(size)
        assert caption(figure).startswith("Neuron Path, K = 2 per layer")


def test_pages_and_pictures_are_of_one_class_each(tmp_path):
    book, folder = save_pages(classes(PATHS, PATHS[:1], labels=(4, 19)), tmp_path)
    assert (book, folder) == (tmp_path / "freq-figure-all.pdf", tmp_path / "freq-figure-all")
    assert {file.name: Image.open(file).size for file in folder.iterdir()} == {
        "4.png": (825, 630),
        "19.png": (825, 630),
    }


SIMILARITY = np.array([[1, 0.2, 0.8, 0.3], [0.2, 1, 0.1, 0.7], [0.8, 0.1, 1, 0.25], [0.3, 0.7, 0.25, 1]])


def test_classes_are_clustered_by_average_linkage_on_1_minus_cosine():
    tree, order = cluster(SIMILARITY)
    np.testing.assert_allclose(tree, linkage(squareform(1 - SIMILARITY), "average"))
    assert order.tolist() == dendrogram(tree, no_plot=True)["leaves"]
    assert tree[:, 2].tolist() == pytest.approx([0.2, 0.3, 1 - (0.2 + 0.1 + 0.3 + 0.25) / 4])
    above = np.array([[1, 1 + 1e-12, 0.5], [1 + 1e-12, 1, 0.5], [0.5, 0.5, 1]])  # as rounding may leave it
    assert cluster(above)[0][0, 2] == 0


class TestPlotSimilarity:
    def draw(self, similarity=SIMILARITY, counts=(2, 2, 2, 2), **more) -> Figure:
        return plot_similarity(similarity, classes(*[np.repeat(PATHS[:1], n, 0) for n in counts], **more))

    def test_cells_are_in_the_order_of_the_tree_and_say_their_cosine(self):
        _, heat, bar = self.draw(names={i: f"name{i}" for i in range(4)}).axes
        order = cluster(SIMILARITY)[1]
        cells = SIMILARITY[np.ix_(order, order)]
        texts = {t.get_position(): t for t in heat.texts}
        assert {place: t.get_text() for place, t in texts.items()} == {
            (j, i): f"{cells[i, j]:.2f}" for i in range(4) for j in range(4)
        }
        for (j, i), text in texts.items():
            assert text.get_color() == ("white" if cells[i, j] < 0.45 else "black")  # the middle of 0.1 and 0.8
        (image,) = heat.images
        colours = bar.collections[-1].cmap if bar.collections else image.cmap
        assert colours.name == "viridis"
        expected = colours(Normalize(0.1, 0.8)(cells), bytes=True)
        np.testing.assert_array_equal(image.get_array(), expected)
        for axis in (heat.xaxis, heat.yaxis):
            assert [t.get_text() for t in axis.get_ticklabels()] == [f"{i} name{i}" for i in order]
        assert {t.get_rotation() for t in heat.get_xticklabels()} == {90}
        assert heat.yaxis.get_ticks_position() == "right"
        assert bar.get_xlabel() == "cosine similarity of two classes"
        assert bar.get_xlim() == pytest.approx((0.1, 0.8))

    def test_the_tree_forks_where_classes_join(self):
        tree, heat, _ = self.draw().axes
        (forks,) = tree.collections
        order = cluster(SIMILARITY)[1].tolist()
        place = {label: order.index(label) for label in range(4)}
        ends = sorted(sorted(segment[[0, 3], 1].tolist()) for segment in forks.get_segments()[:2])
        assert ends == sorted([sorted([place[0], place[2]]), sorted([place[1], place[3]])])
        (a, b, c) = forks.get_segments()
        assert a[:, 0].tolist() == pytest.approx([0, 0.2, 0.2, 0])
        assert b[:, 0].tolist() == pytest.approx([0, 0.3, 0.3, 0])
        assert sorted(c[:, 0]) == pytest.approx([0.2, 0.3, 0.7875, 0.7875])
        assert sorted(c[:, 1])[::2] == pytest.approx([0.5, 2.5])
        assert [segment[0, 1] == segment[1, 1] for segment in (a, b, c)] == [True] * 3
        assert tree.get_xlim() == pytest.approx((0.7875 + 0.05875, 0.2 - 0.05875))
        assert tree.get_ylim() == heat.get_ylim()
        assert (tree.get_xlabel(), list(tree.get_yticks())) == ("1 - cosine", [])
        assert [side for side, spine in tree.spines.items() if spine.get_visible()] == ["bottom"]

    def test_a_tree_of_one_height_has_a_margin_too(self):
        tree = self.draw(np.array([[1, 0.6], [0.6, 1]]), (1, 1)).axes[0]
        assert tree.get_xlim() == pytest.approx((0.5, 0.3))
        near = self.draw(np.array([[1, 0.95], [0.95, 1]]), (1, 1)).axes[0]
        assert near.get_xlim() == pytest.approx((0.15, 0))

    @pytest.mark.parametrize(
        ("counts", "words"),
        [
            ((2, 2, 2, 2), "n = 4 classes, 2 images each, 8 in all"),
            ((3, 1, 2, 5), "n = 4 classes, 1 to 5 images each, 11 in all"),
        ],
    )
    def test_the_caption_counts_classes_and_images(self, counts, words):
        assert caption(self.draw(counts=counts, method="base")) == (
            f"Activation: cos(a, b) = a·b / (|a| |b|) of the classes' unit counts per layer; {words}. Colours span the "
            "pairs of different classes. Tree: average linkage on 1 - cosine."
        )

    @pytest.mark.parametrize(
        ("C", "side", "of_names"),
        [(16, 5, 8), (17, 5, 8), (40, 6.4, 8), (60, 9.6, 8), (61, 9.636, 8), (100, 11.04, 0.85 * 72 * 11.04 / 100)],
    )
    def test_it_grows_with_its_classes_and_few_have_numbers(self, C, side, of_names):
        similarity = np.full((C, C), 0.5) + 0.5 * np.eye(C)
        figure = self.draw(similarity, (1,) * C)
        assert figure.get_size_inches().tolist() == pytest.approx([1.3 * side + 2, 1.1 * side + 2])
        tree, heat, _ = figure.axes
        assert heat.get_yticklabels()[0].get_fontsize() == pytest.approx(min(8, of_names))
        assert len(heat.texts) == (C**2 if C <= 16 else 0)
        assert tree.collections[0].get_linewidths()[0] == (1 if C <= 60 else 0.6)
        assert figure._supxlabel.get_fontsize() == pytest.approx(max(8, 0.75 * side))
        assert figure.axes[2].get_xlim() == (0, 1)  # all pairs are alike: the colours span what cosines may be


def test_the_tree_forks_at_the_rows_of_its_classes():
    """Of three classes the last comes first: an order that is not its own inverse."""
    similarity = np.array([[1, 0.8, 0.1], [0.8, 1, 0.2], [0.1, 0.2, 1]])
    paths = {label: np.zeros((1, 2, 1), int) for label in range(3)}
    tree, heat, _ = plot_similarity(similarity, Classes(paths, {}, 4, "ja", {i: f"c{i}" for i in paths})).axes
    assert [text.get_text() for text in heat.get_yticklabels()] == ["2 c2", "0 c0", "1 c1"]
    first, last = ([*segment[[0, 3], 1]] for segment in tree.collections[0].get_segments())
    assert sorted(first) == [1, 2]
    assert sorted(last) == [0, 1.5]
