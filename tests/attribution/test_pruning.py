"""Pruning: masks, draws, the units that are retained, and how a class's images are split."""

import itertools

import numpy as np
import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath.attribution.controls import random_units
from neuronpath.attribution.pruning import prune, retained_units, split, unit_draws
from neuronpath.files import Item

L, H, COUNTS = 6, 28, (6, 1, 2, 11)  # images per class


def test_masks_are_nested_and_spare_the_retained():
    model, draws = random_model(tiny_config()), torch.from_numpy(unit_draws(1, 3, L, H))[None]
    retained = torch.tensor([random_units(1, 3, L, H, 4)])
    masks = [prune(model, retained, draws, p, L) == 0 for p in (0, 0.2, 0.7, 1)]
    assert [m.any().item() for m in masks] == [False, True, True, True]
    for small, large in itertools.pairwise(masks):
        assert not (small & ~large).any()
    assert (masks[-1].sum(-1) == H - 4).all()
    assert not masks[-1].gather(2, retained).any()
    half = prune(model, retained, draws, 1, 2) == 0
    assert half[:, :2].any(-1).all()
    assert not half[:, 2:].any()


def test_draws_are_of_seed_label_and_layer():
    draws = unit_draws(0, 1, L, H)
    assert np.array_equal(unit_draws(0, 1, 2, H), draws[:2])
    assert not np.isin(unit_draws(1, 1, L, H), draws).any()
    assert not np.isin(unit_draws(0, 2, L, H), draws).any()
    assert len(np.unique(draws)) == L * H


def test_retained_units_by_frequency_then_index():
    paths = [[[5, 1]], [[1, 7]], [[5, 2]]]
    assert retained_units(paths, 3) == [[1, 5, 2]]
    with pytest.raises(ValueError, match="layer 0: its paths hold 4 distinct units, fewer than 5"):
        retained_units(paths, 5)


@pytest.mark.parametrize(("n", "fraction", "first"), [(2, 0.8, 1), (5, 0.8, 4), (10, 0.8, 8), (3, 0, 1), (3, 1, 2)])
def test_split_is_disjoint_and_leaves_one_on_each_side(n, fraction, first):
    items = [Item(str(i), 0) for i in range(n)]
    selection, evaluation = split(items, fraction)
    assert selection + evaluation == items
    assert len(selection) == first


def test_a_share_that_binary_fractions_miss_is_a_whole_number_of_images():
    assert 0.29 * 100 < 29
    assert [len(part) for part in split(range(100), 0.29)] == [29, 71]
