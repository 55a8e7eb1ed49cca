"""The figure of the study of searches, read off."""

import numpy as np
import pytest

from neuronpath.figures.searches import plot_study

STUDY = {
    "quadrature": {
        "converged": 7,
        "images": 9,
        "rules": {
            "right": {"4": 0.25, "20": 0.5},
            "left": {"8": 0.125},
            "midpoint": {"4": 0.75},
            "gauss-legendre": {"2": 0.5, "3": 1.0},
            "gauss-radau": {"2": 0.375, "4": 0.625},
        },
        "auto": {"mean_nodes": 5.5, "agree": 0.875},
    },
    "layers": {"images": 8},
    "paths": {
        "layer": {"agree": 0.25, "jas": 0.123456},
        "shortlist": {"agree": 0.75, "jas": 0.5},
        "exhaustive": {"agree": 1.0, "jas": 0.25},
    },
    "costs": {
        "layer, right 20": {"block_passes": 1.0},
        "layer, Gauss-Radau 4": {"block_passes": 30.0},
        "layer, Gauss-Legendre 4": {"block_passes": 48.0},
        "shortlist, Gauss-Radau 2": {"block_passes": 300.0},
        "exhaustive, Gauss-Radau 2": {"block_passes": 9000.0},
    },
}
NODE = 12  # block passes


def test_rules_and_auto_by_their_cost_and_searches_by_theirs():
    left, right = plot_study({"tiny": STUDY}).axes
    *rules, auto = left.lines
    expected = {
        "right": ("o", [4, 20], [3, 19], [25, 50]),  # α = 1 is free
        "left": ("s", [8], [8], [12.5]),
        "midpoint": ("v", [4], [4], [75]),
        "gauss-legendre": ("^", [2, 3], [2, 3], [50, 100]),
        "gauss-radau": ("D", [2, 4], [1, 3], [37.5, 62.5]),
    }
    for line, (rule, (marker, _, paid, agree)) in zip(rules, expected.items(), strict=True):
        assert (line.get_label(), line.get_marker()) == (rule, marker)
        assert line.get_xdata().tolist() == [NODE * m for m in paid]
        assert line.get_ydata().tolist() == agree
    assert (auto.get_label(), auto.get_marker(), auto.get_color()) == ("auto", "*", "black")
    assert (auto.get_xdata().tolist(), auto.get_ydata().tolist()) == ([NODE * 5.5], [87.5])
    assert [(t.get_text(), t.xy) for t in left.texts] == [
        (str(m), (NODE * cost, a))
        for _, nodes, paid, agree in expected.values()
        for m, cost, a in zip(nodes, paid, agree, strict=True)
    ]
    found = [(x.get_label(), x.get_marker(), *x.get_xdata(), *x.get_ydata()) for x in right.lines]
    assert found == [
        ("layer, mean JAS 0.1235", "o", 30, 25),
        ("shortlist, mean JAS 0.5000", "s", 300, 75),
        ("exhaustive, mean JAS 0.2500", "v", 9000, 100),
    ]


def test_titles_axes_and_legends_of_every_model():
    figure = plot_study({"a$": STUDY, "b": STUDY})
    panels = np.array(figure.axes).reshape(2, 2)
    assert [panel.get_title() for panel in figure.axes] == [
        r"a\$: rules (layer search), n = 7",
        r"a\$: searches, n = 8",
        "b: rules (layer search), n = 7",
        "b: searches, n = 8",
    ]
    assert {p.get_ylabel() for p in panels[:, 0]} == {"whole paths equal to the converged one, %"}
    assert {p.get_ylabel() for p in panels[:, 1]} == {"whole paths equal to the exhaustive one, %"}
    assert {(p.get_xlabel(), p.get_xscale(), p.get_yscale()) for p in figure.axes} == {
        ("block passes per image", "log", "linear")
    }
    names = [[t.get_text() for t in p.get_legend().get_texts()] for p in panels[0]]
    assert names[0] == ["right", "left", "midpoint", "gauss-legendre", "gauss-radau", "auto"]
    assert [name.split(",")[0] for name in names[1]] == ["layer", "shortlist", "exhaustive"]
    assert figure.get_size_inches().tolist() == pytest.approx([10, 7.2])
