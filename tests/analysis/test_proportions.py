"""The exact paired test and Newcombe's interval, against literal ones and published values."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from neuronpath.analysis.proportions import newcombe, sign_flip_p


def tossed(differences: list[float]) -> float:
    """All patterns of signs, one after another."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


def literal(e: float, f: float, g: float, h: float) -> tuple[float, float]:
    """Method 10 as the paper has it: bounds of Wilson's intervals as roots of (p - π)² = z² π (1 - π) / n."""
    n, z = e + f + g + h, 1.959963984540054

    def wilson(p: float) -> list[float]:
        return sorted(np.roots([1 + z**2 / n, -(2 * p + z**2 / n), p**2]).real.tolist())

    p, q = (e + f) / n, (e + g) / n
    (l2, u2), (l3, u3) = wilson(p), wilson(q)
    phi = 0.0
    if min(e + f, g + h, e + g, f + h) > 0:
        numerator = e * h - f * g
        if numerator > n / 2:
            numerator -= n / 2
        elif numerator >= 0:
            numerator = 0
        phi = numerator / math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    delta = math.sqrt((p - l2) ** 2 - 2 * phi * (p - l2) * (u3 - q) + (u3 - q) ** 2)
    epsilon = math.sqrt((u2 - p) ** 2 - 2 * phi * (u2 - p) * (q - l3) + (q - l3) ** 2)
    return (f - g) / n - delta, (f - g) / n + epsilon


class TestSignFlips:
    @pytest.mark.parametrize("n", [4, 8, 13])
    @pytest.mark.parametrize("draws", [1, 2, 5])
    def test_equals_all_patterns_of_signs(self, n, draws):
        for seed in range(6):
            steps = np.random.default_rng(seed).integers(-draws, draws + 1, n) / draws
            assert sign_flip_p(steps) == pytest.approx(tossed(steps.tolist()), abs=1e-12)

    def test_of_flips_it_is_mcnemars_exact_test(self):
        for gained, lost in itertools.product(range(9), range(9)):
            steps = np.array([1.0] * gained + [-1.0] * lost + [0.0] * 7)
            exact = binomtest(gained, gained + lost).pvalue if gained + lost else 1
            assert sign_flip_p(steps) == pytest.approx(exact, rel=1e-9)

    def test_four_of_355_are_not_significant(self):
        assert sign_flip_p(np.array([-1.0] * 4 + [0.0] * 351)) == pytest.approx(0.125)

    def test_nothing_differs(self):
        assert sign_flip_p(np.zeros(5)) == 1

    def test_draws_of_different_numbers(self):
        steps = [1 / 2, -1 / 3, 3 / 4, 1 / 5, -1]
        assert sign_flip_p(np.array(steps)) == pytest.approx(tossed(steps), abs=1e-12)

    def test_of_as_many_images_as_imagenet_has(self):
        """Against the normal distribution, to which so many sums are close."""
        steps = np.random.default_rng(0).choice([-1, -0.6, -0.2, 0, 0.2, 0.4, 1], 50000)
        z = abs(steps.sum()) / math.sqrt((steps**2).sum())
        assert sign_flip_p(steps) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=2e-2)
        assert sign_flip_p(np.abs(steps)) < 1e-12


class TestNewcombe:
    @pytest.mark.parametrize(
        ("cells", "low", "high"),
        [
            ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, Table II
            ((14, 5, 0, 22), 0.011, 0.226),  # Altman et al., Statistics with Confidence, 2000, chapter 6
            ((1, 1, 7, 12), -0.507, -0.026),  # Fagerland et al., Statistics in Medicine 33, 2014: airways
        ],
    )
    def test_published_values(self, cells, low, high):
        digits = len(str(high)) - str(high).index(".") - 1
        assert [round(bound, digits) for bound in newcombe(*cells)] == [low, high]

    def test_equals_the_literal_one(self):
        rng = np.random.default_rng(0)
        tables = [
            *itertools.product((0, 1, 3), repeat=4),
            *rng.integers(0, 60, (50, 4)).tolist(),
            (20.4, 0.6, 3.2, 9.8),
        ]
        for cells in tables:
            if sum(cells):
                assert newcombe(*cells) == pytest.approx(literal(*cells), abs=1e-9), cells

    def test_swapped_it_is_mirrored(self):
        low, high = newcombe(20, 7, 3, 9)
        assert newcombe(20, 3, 7, 9) == pytest.approx((-high, -low))

    @pytest.mark.parametrize(
        "cells", [(355, 0, 0, 0), (0, 0, 0, 355), (270, 0, 0, 85), (1, 0, 0, 0), (40000, 0, 0, 10000)]
    )
    def test_without_any_flip_it_has_a_width(self, cells):
        low, high = newcombe(*cells)
        assert low < 0 < high

    def test_covers_the_truth_about_as_often_as_it_says(self):
        rng, trials, hits = np.random.default_rng(1), 600, 0
        for e, f, g, h in rng.multinomial(200, [0.7, 0.01, 0.04, 0.25], trials):
            low, high = newcombe(e, f, g, h)
            hits += low <= -0.03 <= high
        assert 0.93 * trials <= hits <= 0.985 * trials
