"""Frequencies of units, and the similarity of classes by them."""

import itertools
import math

import numpy as np
import pytest
from made import classes_of, random_paths

from neuronpath.analysis.similarity import cosines, frequencies, modes, most_frequent, neighbours
from neuronpath.figures.classes import cluster

H, L = 28, 6


@pytest.mark.parametrize("K", [1, 3])
def test_cosines_of_frequencies_as_plain_loops_give_them(K):
    paths = [random_paths(n, K, seed=n) for n in (4, 1, 7, 12)]
    arrays = []
    for found in paths:
        array = [[0.0] * H for _ in range(L)]
        for path in found.tolist():
            for layer, units in enumerate(path):
                for unit in units:
                    array[layer][unit] += 1
        arrays.append([x for row in array for x in row])
    expected = [
        [sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b) for b in arrays]
        for a in arrays
    ]
    counts = frequencies(classes_of(*paths))
    assert counts.toarray().tolist() == arrays
    found = cosines(counts)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.dtype == np.float64
    assert (found == found.T).all()
    assert (found.diagonal() == 1).all()


def test_neighbours_are_others_most_and_least_similar_first_and_ties_by_lowest_label():
    similarity = np.full((6, 6), 0.5)
    similarity[0, 5] = similarity[5, 0] = 0.75
    np.fill_diagonal(similarity, 1)
    found = neighbours(similarity, [2, 3, 5, 7, 11, 13])
    assert found["2"] == {"most": [[13, 0.75], [3, 0.5]], "least": [[3, 0.5], [5, 0.5]]}
    assert found["5"] == {"most": [[2, 0.5], [3, 0.5]], "least": [[2, 0.5], [3, 0.5]]}
    assert neighbours(similarity, [2, 3, 5, 7, 11, 13], top=1)["2"]["most"] == [[13, 0.75]]


def test_classes_with_equal_paths_tie_exactly():
    paths = [random_paths(9, seed=i) for i in range(5)]
    found = cosines(frequencies(classes_of(*paths, *paths)))
    assert (found[:, :5] == found[:, 5:])[~np.eye(10, dtype=bool)[:, :5] & ~np.eye(10, dtype=bool)[:, 5:]].all()


def test_no_list_is_longer_than_half_of_the_others_or_50():
    for C, count in ((2, 0), (3, 1), (10, 4), (120, 50)):
        x = np.random.default_rng(0).random((C, C))
        found = neighbours((x + x.T) / 2, list(range(C)))
        assert {len(chosen) for lists in found.values() for chosen in lists.values()} == {count}


def test_planted_groups_stand_together_in_the_tree():
    rng, pools = np.random.default_rng(0), random_paths(3, K=4, seed=5)
    groups = [0, 1, 2, 1, 0, 2, 2, 0, 1, 1]
    paths = [np.take_along_axis(pools[[g] * 20], rng.integers(0, 4, (20, L, 1)), 2) for g in groups]
    _, order = cluster(cosines(frequencies(classes_of(*paths))))
    assert sum(groups[a] != groups[b] for a, b in itertools.pairwise(order)) == 2


def test_modes_are_those_of_the_density_and_constant_layers_are_their_value():
    paths = np.zeros((4, 3, 1), dtype=int)
    paths[:, 0, 0] = 7
    paths[:, 1, 0] = (10, 11, 12, 27)
    paths[:, 2, 0] = (3, 3, 20, 21)
    found = modes(paths, H)
    assert found[0] == 7 / H
    grid, x = np.arange(H) / H, paths[:, 1, 0] / H
    width = x.std(ddof=1) * 4 ** (-1 / 5)
    assert found[1] == grid[np.exp(-((grid[:, None] - x) ** 2) / 2 / width**2).sum(1).argmax()]
    assert most_frequent(paths).tolist() == [7, 10, 3]
    assert modes(paths[:1], H).tolist() == [7 / H, 10 / H, 3 / H]


def test_of_many_classes_that_are_as_similar_the_lowest_labels_come_first():
    """Sorts that are not stable leave the order of so many alone only by chance."""
    similarity = (np.arange(101) % 2 == np.arange(101)[:, None] % 2) / 2 + 0.25
    found = neighbours(similarity, list(range(101)))["0"]
    assert [label for label, _ in found["most"]] == list(range(2, 102, 2))
    assert [label for label, _ in found["least"]] == list(range(1, 101, 2))
