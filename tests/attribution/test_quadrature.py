"""Nodes and weights of the rules."""

import numpy as np
import pytest

from neuronpath.attribution.quadrature import LEAST, RULES, Quadrature


@pytest.mark.parametrize(("rule", "m"), [(rule, m) for rule in RULES for m in (1, 2, 4, 20) if m >= LEAST.get(rule, 1)])
def test_weights_sum_to_one_and_nodes_lie_in_the_interval(rule, m):
    q = Quadrature(rule, m)
    assert q.nodes.shape == q.weights.shape == (m,)
    assert q.weights.sum() == pytest.approx(1, rel=1e-15)
    assert q.nodes.min() >= 0
    assert q.nodes.max() <= 1
    assert (np.diff(q.nodes) > 0).all()


def test_right_is_the_papers_rule_and_left_the_released_one():
    assert Quadrature("right", 4).nodes.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert Quadrature("left", 4).nodes.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert Quadrature("midpoint", 4).nodes.tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(
    ("rule", "degree"), [("midpoint", 1), ("right", 0), ("left", 0), ("gauss-legendre", 9), ("gauss-radau", 8)]
)
def test_polynomials_up_to_the_rules_degree_are_integrated_exactly(rule, degree):
    q = Quadrature(rule, 5)
    for power in range(degree + 1):
        assert (q.weights * q.nodes**power).sum() == pytest.approx(1 / (power + 1), rel=1e-14)


def test_unknown_rules_and_no_steps_are_refused():
    with pytest.raises(ValueError, match="unknown"):
        Quadrature("trapezoid")
    with pytest.raises(ValueError, match="at least 1 node"):
        Quadrature("right", 0)
    with pytest.raises(ValueError, match="at least 2 node"):
        Quadrature("gauss-radau", 1)


def test_gauss_radau_of_two_and_three_nodes():
    """docs/method.md §3."""
    np.testing.assert_allclose(Quadrature("gauss-radau", 2).nodes, [1 / 3, 1], rtol=1e-15)
    np.testing.assert_allclose(Quadrature("gauss-radau", 2).weights, [3 / 4, 1 / 4], rtol=1e-15)
    root = 6**0.5
    np.testing.assert_allclose(Quadrature("gauss-radau", 3).nodes, [(4 - root) / 10, (4 + root) / 10, 1], rtol=1e-14)
    np.testing.assert_allclose(Quadrature("gauss-radau", 3).weights, [(16 - root) / 36, (16 + root) / 36, 1 / 9])


@pytest.mark.parametrize(("rule", "m", "free"), [("right", 5, 1 / 5), ("gauss-radau", 3, 1 / 9), ("left", 5, 0)])
def test_the_node_at_one_stands_apart(rule, m, free):
    q = Quadrature(rule, m)
    nodes, weights = q.ramped
    assert q.unramped == pytest.approx(free)
    assert len(nodes) == m - (free > 0)
    assert weights.sum() + q.unramped == pytest.approx(1)
    assert (nodes < 1).all()
