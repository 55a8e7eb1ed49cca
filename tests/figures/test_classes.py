"""Pictures of classes by their paths."""

import itertools
import re

import numpy as np
import pytest
from made import classes_of, random_paths
from matplotlib.backends.backend_agg import FigureCanvasAgg

from neuronpath.analysis.similarity import cosines, frequencies, modes, most_frequent
from neuronpath.figures.classes import cluster, plot_classes, plot_similarity, save_pages, shown
from neuronpath.figures.common import save

H, L = 28, 6


def test_violins_of_one_image_of_constant_layers_and_of_top_k(tmp_path):
    constant = random_paths(5, 3, seed=1)
    constant[:, 2] = (4, 5, 6)
    one_unit = np.full((5, L, 1), 9)
    for paths in (random_paths(1), random_paths(1, 3), constant, one_unit, random_paths(2)):
        classes = classes_of(paths, names={0: r"a $\frac{ \$ _^ class"})
        figure = plot_classes(classes, [0])
        assert len(figure.axes) == 1
        assert f"n = {len(paths)} image" in figure.axes[0].get_title()
        assert "carries no meaning" in figure.get_supxlabel().replace("\n", " ")
        assert [p.stat().st_size > 1000 for p in save(figure, tmp_path / "a")] == [True, True]


def test_mode_and_most_frequent_unit_are_drawn():
    paths = random_paths(9, seed=3)
    axes = plot_classes(classes_of(paths, paths, paths), [0, 1, 2]).axes
    assert [a.axison for a in axes] == [True, True, True, False]
    dashed, marked = axes[0].lines
    assert dashed.get_linestyle() == "--"
    np.testing.assert_array_equal(dashed.get_ydata(), modes(paths, H))
    np.testing.assert_array_equal(marked.get_ydata() * H, most_frequent(paths))
    assert [t.get_text() for t in axes[0].texts] == [str(unit) for unit in most_frequent(paths)]


@pytest.mark.parametrize("C", [2, 10, 80])
def test_heat_map_names_every_class_in_the_order_of_the_tree(C, tmp_path):
    paths = [random_paths(3, seed=i) for i in range(C)]
    classes = classes_of(*paths, names={1: "one $ two"})
    similarity = cosines(frequencies(classes))
    figure = plot_similarity(similarity, classes)
    tree, heat = figure.axes[:2]
    order = cluster(similarity)[1]
    labels = [t.get_text() for t in heat.get_yticklabels()]
    assert labels == [shown(classes.title(i)) for i in order]
    assert tree.get_ylim() == heat.get_ylim()
    assert f"n = {C} classes, 3 images each" in figure.get_supxlabel().replace("\n", " ")
    figure.draw_without_rendering()
    size, renderer = figure.get_size_inches() * figure.dpi, FigureCanvasAgg(figure).get_renderer()
    boxes = [t.get_window_extent(renderer) for t in heat.get_yticklabels()]
    assert all(box.x0 >= 0 and box.x1 <= size[0] for box in boxes)
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] < above[0] + 1.5 for below, above in itertools.pairwise(heights))


def test_a_tree_as_deep_as_it_can_be():
    C = 1500  # class after class joins all before it
    similarity = 1 - np.maximum.outer(np.arange(C), np.arange(C)) / C
    np.fill_diagonal(similarity, 1)
    assert len(plot_similarity(similarity, classes_of(*[random_paths(1)] * C)).axes) == 3


def test_a_page_and_a_picture_for_every_class(tmp_path):
    classes = classes_of(random_paths(3), random_paths(1), labels=(4, 19))
    book, folder = save_pages(classes, tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["19.png", "4.png"]
    assert len(re.findall(rb"/Type /Page\b(?!s)", book.read_bytes())) == 2
