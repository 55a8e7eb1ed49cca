"""How well a control matches, in numbers and words."""

import pytest

from neuronpath.attribution.matching import WITHIN, Match, match_words


def test_the_mean_of_all_ratios_and_the_share_within_ten_percent():
    match = Match()
    assert match.found() is None
    match.add([[], []])
    assert match.found() is None
    match.add([[1.0, 1.1], [0.9, 0.5]])
    match.add([[2.0], []])
    assert WITHIN == 0.1
    assert match.found() == {"ratio": pytest.approx(5.5 / 5), "within": 3 / 5}


def test_in_words():
    assert match_words(0.7512, 0.666) == "0.75 times what the path's do, 67 % of them within 10 %"
