"""The matched control of edits, and the random one of pruning."""

import math
import os
import random
from collections import Counter

import numpy as np
import oracle
import pytest
import torch

from neuronpath.attribution.controls import DRAWS, NEAREST, matched_paths, noisy, random_units


class TestMatchedPaths:
    L, H = 4, 90

    def values(self, seed: int = 0, layers: int = L, units: int = H) -> torch.Tensor:
        return torch.randn(layers, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def path(self, k: int, seed: int = 0, layers: int = L, units: int = H) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [rng.choice(units, k, replace=False).tolist() for _ in range(layers)]

    def test_constants(self):
        assert (DRAWS, NEAREST) == (5, 20)

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("units", [90, 45, 15])
    def test_near_in_rank_never_the_paths_own_and_distinct(self, k, units):
        for seed in range(20):
            values, path = self.values(seed, units=units), self.path(k, seed, units=units)
            draws = matched_paths(values, path, f"{seed}.png", 42)
            assert len(draws) == 5
            for draw in draws:
                oracle.assert_matched(values.tolist(), path, draw)

    @pytest.mark.parametrize("neighbours", [True, False])
    def test_neurons_close_to_each_other_and_at_both_ends(self, neighbours):
        values = torch.arange(self.H, 0, -1).double().repeat(2, 1)  # unit = rank
        path = [[0, 1, 2], [89, 88, 87]] if neighbours else [[0, 89, 44], [89, 0, 45]]
        for i in range(40):
            for draw in matched_paths(values, path, f"{i}.png", 42):
                oracle.assert_matched(values.tolist(), path, draw)

    def test_ties_rank_by_index(self):
        values = torch.zeros(1, 60)
        for i in range(40):
            for ((unit,),) in matched_paths(values, [[30]], f"{i}.png", 0):
                assert unit in {*range(20, 41)} - {30}

    def test_depend_on_seed_image_and_layer_alone(self):
        values, path = self.values()[:1].repeat(self.L, 1), [[7, 3]] * self.L
        draws = matched_paths(values, path, "a/b.png", 42)
        assert matched_paths(values.clone(), list(path), "a/b.png", 42) == draws
        assert matched_paths(values, path, "a/b.png", 43) != draws
        assert matched_paths(values, path, "a/c.png", 42) != draws
        by_layer = [[draw[layer] for draw in draws] for layer in range(self.L)]
        assert all(by_layer[i] != by_layer[j] for i in range(self.L) for j in range(i))
        assert len({str(draw) for draw in draws}) == 5

    def test_a_layer_does_not_depend_on_the_others(self):
        values, path = self.values(), self.path(2)
        draws = matched_paths(values, path, "a.png", 42)
        other_values, other_path = values.clone(), [list(layer) for layer in path]
        other_values[2] = self.values(1)[2]
        other_path[2] = [*self.path(4, 1)[2]]
        others = matched_paths(other_values, other_path, "a.png", 42)
        for layer in (0, 1, 3):
            assert [draw[layer] for draw in others] == [draw[layer] for draw in draws]
        assert [draw[2] for draw in others] != [draw[2] for draw in draws]
        assert matched_paths(values[:2], path[:2], "a.png", 42) == [draw[:2] for draw in draws]

    @pytest.mark.parametrize("rank", [0, 10, 45, 89])
    def test_uniform_over_the_twenty_nearest(self, rank):
        values = torch.arange(self.H, 0, -1).double()[None]
        counts, repeated, images = Counter(), 0, 400
        for i in range(images):
            units = [unit for ((unit,),) in matched_paths(values, [[rank]], f"class/{i:04d}.png", 42)]
            counts.update(units)
            repeated += len(set(units)) < DRAWS
        assert counts.keys() == oracle.candidates(values[0].tolist(), [rank], [])
        expected = images * DRAWS / NEAREST
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        assert 5 < chi_square < 45  # 19 degrees of freedom: about 0.05 % on either side
        chance = 1 - math.prod((NEAREST - i) / NEAREST for i in range(DRAWS))  # draws are independent of each other
        assert repeated / images == pytest.approx(chance, abs=0.1)

    @pytest.mark.parametrize("path", [[0, 1, 2], [89, 88, 87], [0, 2, 1, 4, 3, 6]])
    def test_twenty_are_left_beside_the_paths_own_units(self, path):
        values = torch.arange(self.H, 0, -1).double()[None]
        draws = [d for i in range(400) for ((*d,),) in matched_paths(values, [path], f"{i}.png", 42)]
        assert {first for first, *_ in draws} == oracle.candidates(values[0].tolist(), path, [])
        for neuron in range(1, len(path)):
            every = {unit for d in draws for unit in oracle.candidates(values[0].tolist(), path, d[:neuron])}
            assert {d[neuron] for d in draws} == every

    def test_layers_as_small_as_can_be(self):
        assert matched_paths(torch.tensor([[1.0, 2.0]]), [[1]], "a", 0) == [[[0]]] * 5

    def test_an_image_name_that_is_not_utf8(self):
        name = os.fsdecode(b"a/\xff.png")
        assert matched_paths(self.values(), self.path(1), name, 0) == matched_paths(
            self.values(), self.path(1), name, 0
        )


def test_random_control_is_uniform_and_distinct():
    units = np.array([random_units(0, label, 1, 28, 4)[0] for label in range(2000)])
    assert all(len(set(row)) == 4 for row in units.tolist())
    counts = np.bincount(units.ravel(), minlength=28)
    assert abs(counts - 2000 * 4 / 28).max() < 5 * np.sqrt(2000 * 4 / 28)


def test_every_unit_is_drawn_from_as_many_at_the_edge_too(monkeypatch):
    """Of the most active units the last is drawn, with the path's others and the draw's beside it."""
    sizes = []
    monkeypatch.setattr(random.Random, "choice", lambda self, found: sizes.append(len(found)) or found[0])
    matched_paths(-torch.arange(100.0)[None], [[4, 3, 2, 1, 0]], "a.png", 42)
    assert set(sizes) == {NEAREST}


class TestNoisy:
    STD = (0.2, 0.5, 1.0)

    def test_sigma_is_a_share_of_the_range_from_black_to_white(self):
        images = torch.randn(3, 3, 60, 70, dtype=torch.float64)
        for sigma, more in ((0.05, ()), (0.2, (0.2,))):
            noise = noisy(images, ["a", "b", "c"], self.STD, 0, *more) - images
            for channel, std in enumerate(self.STD):
                values = noise[:, channel]
                assert values.std().item() == pytest.approx(sigma / std, rel=0.03)
                assert abs(values.mean().item()) < 0.03 * sigma / std

    def test_is_of_seed_and_image_and_nothing_else(self):
        images, names = torch.randn(4, 3, 5, 7), ["a", "ä", "b/c", "\udcff"]
        found = noisy(images, names, self.STD, 3)
        assert found.dtype == torch.float32
        for i in range(4):
            assert torch.equal(noisy(images[i : i + 1], names[i : i + 1], self.STD, 3)[0], found[i])
        turned = noisy(images.flip(0), names[::-1], self.STD, 3)
        assert torch.equal(turned.flip(0), found)
        noise = found - images
        assert len({tuple(x.flatten().tolist()) for x in noise}) == 4
        assert not torch.equal(noisy(images, names, self.STD, 4), found)
        same = noisy(torch.zeros(2, 3, 5, 7), ["a", "a"], self.STD, 3)
        assert torch.equal(same[0], same[1])
