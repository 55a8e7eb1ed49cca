"""What similarity counts, ranks and writes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from neuronpath.analysis.classes import Classes
from neuronpath.analysis.similarity import cosines, frequencies, modes, most_frequent, neighbours, write
from neuronpath.errors import UserError


def test_a_class_is_its_counts_per_layer_and_unit():
    paths = {3: np.array([[[0], [1]], [[2], [1]]]), 5: np.array([[[0], [0]]])}
    found = frequencies(Classes(paths, {}, 4, "ja"))
    assert found.toarray().tolist() == [[1, 0, 1, 0, 0, 2, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0]]
    np.testing.assert_allclose(cosines(found), [[1, 1 / (6 * 2) ** 0.5], [1 / (6 * 2) ** 0.5, 1]])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 99))
def test_neighbours_are_sorted_and_half_of_the_others_at_most(C, top, seed):
    x = np.random.default_rng(seed).integers(0, 4, (C, C)) / 4
    similarity, labels = (x + x.T) / 2, [10 * i + 1 for i in range(C)]
    for i, (label, lists) in enumerate(neighbours(similarity, labels, top).items()):
        assert label == str(labels[i])
        others = [j for j in range(C) if j != i]
        count = min(top, (C - 1) // 2)
        for key, sign in (("most", -1), ("least", 1)):
            ranked = sorted(others, key=lambda j: (sign * similarity[i, j], j))[:count]
            assert lists[key] == [[labels[j], similarity[i, j]] for j in ranked]


def test_fifty_neighbours_unless_otherwise_asked():
    assert len(neighbours(np.eye(200), list(range(200)))["0"]["most"]) == 50


def test_of_two_modes_and_of_two_frequent_units_it_is_the_first():
    paths = np.array([[[7]], [[2]], [[2]], [[7]]])
    assert most_frequent(paths).tolist() == [2]
    assert modes(np.array([[[2], [4]], [[8], [4]]]), 10).tolist() == [0.5, 0.4]  # of two units alike, the middle
    many = np.array([[[1, 3]], [[3, 5]]])
    assert most_frequent(many).tolist() == [3]
    assert modes(many, 10).tolist() == [0.3]


def test_everything_is_written_and_named(tmp_path):
    pairs = {"3": {"most": [[5, 0.5]], "least": []}}
    found = write(tmp_path / "new", [3, 5], pairs, similarity=np.eye(2), confusion=np.ones((2, 2)))
    assert found == [tmp_path / "new" / n for n in ("labels.json", "pair_sim.json", "similarity.npy", "confusion.npy")]
    assert (tmp_path / "new/labels.json").read_text() == "[3, 5]\n"
    assert json.loads((tmp_path / "new/pair_sim.json").read_text()) == pairs
    assert np.load(found[2]).tolist() == np.eye(2).tolist()
    assert np.load(found[3]).tolist() == np.ones((2, 2)).tolist()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output_dir"):
        write(tmp_path / "file", [], {})
