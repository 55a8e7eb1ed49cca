"""Draws, controls and rules in exact numbers: what records of other machines and years must agree with."""

import math
import os
import random
import re

import numpy as np
import oracle
import pytest
import torch
from helpers import random_model, tiny_config
from hypothesis import given, settings, strategies as st

from neuronpath.attribution.controls import matched_paths, random_units
from neuronpath.attribution.pruning import prune, retained_units, split, unit_draws
from neuronpath.attribution.quadrature import PAPER, RULES, Quadrature
from neuronpath.attribution.rows import default_rows
from neuronpath.models.configs import CONFIGS
from neuronpath.models.vit import VisionTransformer


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


class TestDraws:
    def test_units_to_zero_are_numpys_of_seed_label_and_layer(self):
        expected = [np.random.default_rng((42, 7, layer)).random(5) for layer in range(3)]
        np.testing.assert_array_equal(unit_draws(42, 7, 3, 5), expected)

    def test_units_to_retain_are_of_a_generator_of_their_own(self):
        expected = [np.random.default_rng((42, 7, i, 1)).choice(50, 4, replace=False).tolist() for i in range(3)]
        assert random_units(42, 7, 3, 50, 4) == expected

    @pytest.mark.parametrize("image", ["a/b.png", os.fsdecode(b"\xff.png")])
    def test_the_matched_control_is_drawn_by_pythons_generator(self, image):
        """Of the units within ±10 % by index, or of the nearest above and the nearest below."""
        values = torch.randn(2, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64).abs()
        path = [[5, 9], [0, 59]]
        expected = []
        for layer, (row, neurons) in enumerate(zip(values.tolist(), path, strict=True)):
            generator = random.Random(f"42/{layer}/".encode() + os.fsencode(image))
            draws = []
            for _ in range(5):
                drawn = []
                for _ in neurons:
                    drawn.append(generator.choice(oracle.candidates(row, neurons, drawn)))
                draws.append(drawn)
            expected.append(draws)
        assert matched_paths(values, path, image, 42) == [list(draw) for draw in zip(*expected, strict=True)]


class TestPrune:
    def test_units_whose_draw_is_under_the_proportion_are_zeroed_but_the_retained(self):
        model = random_model(tiny_config(mlp_dim=4, depth=2))
        draws = torch.tensor([[[0.0, 0.25, 0.5, 0.75], [0.5, 0.0, 0.25, 0.75]]])
        retained = torch.tensor([[[1], [3]]])

        def factors(proportion, depth=2):
            return prune(model, retained, draws, proportion, depth)[0].tolist()

        assert factors(0.5) == [[0, 1, 1, 1], [1, 0, 0, 1]]
        assert factors(0.51) == [[0, 1, 0, 1], [0, 0, 0, 1]]
        assert factors(1) == [[0, 1, 0, 0], [0, 0, 0, 1]]
        assert factors(1, 1) == [[0, 1, 0, 0], [1, 1, 1, 1]]
        assert factors(0) == factors(1, 0) == [[1] * 4] * 2
        assert prune(model, retained, draws, 1, 2).dtype == model.pos_embed.dtype

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 4), st.integers(0, 999))
    def test_retained_are_the_most_frequent_and_of_as_frequent_the_first(self, k, seed):
        paths = np.random.default_rng(seed).integers(0, 9, (12, 2, 2)).tolist()
        for layer, units in enumerate(retained_units(paths, k)):
            counts = [sum(path[layer].count(unit) for path in paths) for unit in range(9)]
            assert units == sorted(range(9), key=lambda unit: (-counts[unit], unit))[:k]

    def test_too_few_units_name_the_layer(self):
        with pytest.raises(ValueError, match=exactly("layer 1: its paths hold 1 distinct units, fewer than 2")):
            retained_units([[[1, 2], [3, 3]], [[2, 1], [3, 3]]], 2)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(2, 60), st.integers(0, 100))
    def test_a_split_leaves_one_on_each_side_and_rounds_down(self, n, percent):
        first, rest = split(range(n), percent / 100)
        assert first + rest == list(range(n))
        assert len(first) == min(max(1, percent * n // 100), n - 1)


class TestQuadrature:
    def test_the_papers_is_the_default(self):
        assert PAPER == Quadrature() == Quadrature("right", 20)
        assert list(RULES) == ["right", "left", "midpoint", "gauss-legendre", "gauss-radau"]

    @pytest.mark.parametrize("m", [1, 3, 20])
    def test_nodes_and_weights(self, m):
        for rule, offset in (("right", 1.0), ("left", 0.0), ("midpoint", 0.5)):
            np.testing.assert_allclose(Quadrature(rule, m).nodes, [(k + offset) / m for k in range(m)])
            np.testing.assert_allclose(Quadrature(rule, m).weights, [1 / m] * m)

    def test_gauss_legendre_of_two_and_three_nodes(self):
        two, three = Quadrature("gauss-legendre", 2), Quadrature("gauss-legendre", 3)
        np.testing.assert_allclose(two.nodes, [0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12)])
        np.testing.assert_allclose(two.weights, [0.5, 0.5])
        np.testing.assert_allclose(three.nodes, [0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15)])
        np.testing.assert_allclose(three.weights, [5 / 18, 8 / 18, 5 / 18])

    def test_gauss_radau_of_two_and_three_nodes(self):
        two, three, root = Quadrature("gauss-radau", 2), Quadrature("gauss-radau", 3), math.sqrt(6)
        np.testing.assert_allclose(two.nodes, [1 / 3, 1])
        np.testing.assert_allclose(two.weights, [3 / 4, 1 / 4])
        np.testing.assert_allclose(three.nodes, [(4 - root) / 10, (4 + root) / 10, 1])
        np.testing.assert_allclose(three.weights, [(16 - root) / 36, (16 + root) / 36, 1 / 9])
        for m in (2, 3, 9, 20):
            assert Quadrature("gauss-radau", m).nodes[-1] == 1, "and not next to it"

    @pytest.mark.parametrize(
        ("rule", "m", "weight"),
        [("right", 4, 1 / 4), ("right", 1, 1), ("gauss-radau", 2, 1 / 4), ("gauss-radau", 3, 1 / 9)],
    )
    def test_the_node_at_one_is_apart(self, rule, m, weight):
        found = Quadrature(rule, m)
        nodes, weights = found.ramped
        np.testing.assert_array_equal(nodes, found.nodes[:-1])
        np.testing.assert_array_equal(weights, found.weights[:-1])
        assert found.unramped == pytest.approx(weight)

    @pytest.mark.parametrize("rule", ["left", "midpoint", "gauss-legendre"])
    def test_other_rules_have_no_node_at_one(self, rule):
        found = Quadrature(rule, 4)
        np.testing.assert_array_equal(found.ramped, (found.nodes, found.weights))
        assert found.unramped == 0

    def test_the_lower_rule_is_on_every_other_node_from_the_first(self):
        np.testing.assert_allclose(Quadrature("gauss-radau", 2).lower, [1, 0])
        a = (4 - math.sqrt(6)) / 10
        np.testing.assert_allclose(Quadrature("gauss-radau", 3).lower, [0.5 / (1 - a), 0, (0.5 - a) / (1 - a)])
        for m in (4, 5, 9):
            found = Quadrature("gauss-radau", m)
            assert not found.lower[1::2].any()
            for degree in range(len(found.nodes[::2])):
                assert found.lower @ found.nodes**degree == pytest.approx(1 / (degree + 1))

    def test_what_is_none_says_what_there_is(self):
        known = "right, left, midpoint, gauss-legendre, gauss-radau"
        with pytest.raises(ValueError, match=exactly(f"quadrature 'simpson' is unknown; choose from {known}")):
            Quadrature("simpson")
        for rule in ("right", "left", "midpoint", "gauss-legendre"):
            with pytest.raises(ValueError, match=exactly(f"{rule} needs at least 1 node(s), not 0")):
                Quadrature(rule, 0)
            assert Quadrature(rule, 1).steps == 1
        with pytest.raises(ValueError, match=exactly("gauss-radau needs at least 2 node(s), not 1")):
            Quadrature("gauss-radau", 1)


@pytest.mark.parametrize(
    ("name", "tokens", "units", "depth", "factor"),
    [("ViT-B_32", 50, 3072, 12, 1), ("ViT-L_16", 197, 4096, 24, 1), ("MAE-B_16", 197, 3072, 12, 2)],
)
def test_rows_at_once_by_the_models_shape_and_the_device(name, tokens, units, depth, factor):
    with torch.device("meta"):
        model = VisionTransformer(CONFIGS[name])
    assert default_rows(model, torch.device("cpu")) == 8 * 2**20 * factor // (tokens * units)
    assert default_rows(model, torch.device("cuda")) == 2 * 2**30 // (tokens * units * depth * 6)


def test_a_row_at_least_however_large_the_model():
    with torch.device("meta"):
        model = VisionTransformer(tiny_config(mlp_dim=2**22, depth=60))
    assert default_rows(model, torch.device("cpu")) == default_rows(model, torch.device("cuda")) == 1
