"""The matched control of edits, and the random one of pruning."""

import math
import os
from collections import Counter

import numpy as np
import oracle
import pytest
import torch
from foreign import timm_vit
from helpers import KINDS, random_images, random_model, random_path, tiny_config
from scipy.stats import chi2

from neuronpath.attribution.controls import (
    DRAWS,
    matched_draws,
    matched_paths,
    noisy,
    random_units,
    unit_weights,
    weight_ratios,
)
from neuronpath.attribution.matching import WITHIN
from neuronpath.errors import NonFiniteError
from neuronpath.models.adapted import adapt


class TestMatchedPaths:
    L, H = 4, 90

    def values(self, seed: int = 0, layers: int = L, units: int = H) -> torch.Tensor:
        return torch.randn(layers, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).abs()

    def path(self, k: int, seed: int = 0, layers: int = L, units: int = H) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [rng.choice(units, k, replace=False).tolist() for _ in range(layers)]

    def test_constants(self):
        assert (DRAWS, WITHIN) == (5, 0.1)

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("units", [90, 45, 15])
    def test_near_in_weight_never_the_paths_own_and_distinct(self, k, units):
        for seed in range(20):
            values, path = self.values(seed, units=units), self.path(k, seed, units=units)
            draws = matched_paths(values, path, f"{seed}.png", 42)
            assert len(draws) == 5
            for draw in draws:
                oracle.assert_matched(values.tolist(), path, draw)

    @pytest.mark.parametrize(
        ("weights", "path", "drawn"),
        [
            ([10, 10.9, 11.1, 9.1, 8.9, 9], [0], {1, 3, 5}),  # from 9 to 11
            ([10, 5, 12, 20, 6, 1], [0], {2, 4}),  # none: the nearest on either side
            ([10, 5, 4], [0], {1}),  # of the largest only below
            ([1, 5, 4], [0], {2}),  # and of the smallest only above
            ([10, 5, 5, 20, 20], [0], {1, 3}),  # the first of those that are as near
            ([0, 0, 0, 1], [0], {1, 2}),
            ([0, 0.2, 0.1, 1], [0], {2}),
            ([10, 10.5, 9.5, 3], [1, 2], {0}),  # the path's own are none to draw
        ],
    )
    def test_by_hand(self, weights, path, drawn):
        values = torch.tensor([weights], dtype=torch.float64)
        found = {draw[0][0] for i in range(30) for draw in matched_paths(values, [path], f"{i}.png", 42)}
        assert found == drawn
        assert set(oracle.candidates(values[0].tolist(), path, [])) == drawn

    def test_a_unit_drawn_is_not_drawn_again(self):
        """Two neurons of one weight: the second takes what the first leaves, and at last the nearest beyond."""
        values = torch.tensor([[10, 10, 10.2, 7, 20.0]], dtype=torch.float64)
        pairs = {tuple(draw[0]) for i in range(60) for draw in matched_paths(values, [[0, 1]], f"{i}.png", 42)}
        assert pairs == {(2, 3), (2, 4)}

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

    @pytest.mark.parametrize("unit", [20, 50, 89])
    def test_uniform_over_the_units_within_ten_percent(self, unit):
        values = torch.arange(1, self.H + 1).double()[None]
        counts, repeated, images = Counter(), 0, 400
        for i in range(images):
            units = [drawn for ((drawn,),) in matched_paths(values, [[unit]], f"class/{i:04d}.png", 42)]
            counts.update(units)
            repeated += len(set(units)) < DRAWS
        wanted = oracle.candidates(values[0].tolist(), [unit], [])
        assert {*counts} == {*wanted}
        expected = images * DRAWS / len(wanted)
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        low, high = chi2.ppf([0.0005, 0.9995], len(wanted) - 1)
        assert low < chi_square < high
        chance = 1 - math.prod((len(wanted) - i) / len(wanted) for i in range(DRAWS))  # draws do not know each other
        assert repeated / images == pytest.approx(chance, abs=0.1)

    def test_layers_as_small_as_can_be(self):
        assert matched_paths(torch.tensor([[1.0, 2.0]]), [[1]], "a", 0) == [[[0]]] * 5

    def test_an_image_name_that_is_not_utf8(self):
        name = os.fsdecode(b"a/\xff.png")
        assert matched_paths(self.values(), self.path(1), name, 0) == matched_paths(
            self.values(), self.path(1), name, 0
        )


class TestMatchedDraws:
    NAMES = ("a/1.png", "b/ä.png", "b/\udcff.png", "c.png")

    def make(self, kind: str = "cls", k: int = 1):
        model = random_model(tiny_config(kind, depth=3), seed=3)
        return model, random_images(model.config, 4), random_path(model.config, 3, k, n=4).tolist()

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("kind", KINDS)
    def test_equal_those_of_each_image_alone(self, kind, k):
        model, images, paths = self.make(kind, k)
        draws, ratios = matched_draws(model, images, paths, self.NAMES, seed=42, rows=100)
        assert len(draws) == DRAWS
        assert all(draw.shape == (4, 3, k) for draw in draws)
        for i, (image, path, name) in enumerate(zip(images, paths, self.NAMES, strict=True)):
            weights = oracle.unit_weights(model, image)
            expected = matched_paths(weights, path, name, 42)
            assert [draw[i].tolist() for draw in draws] == expected
            assert np.allclose(ratios[i], weight_ratios(weights, path, expected), rtol=1e-9, atol=0)

    @pytest.mark.parametrize("rows", [1, 3])
    def test_do_not_depend_on_rows(self, rows, monkeypatch):
        model, images, paths = self.make(k=2)
        (whole, whole_ratios), asked = matched_draws(model, images, paths, self.NAMES, seed=0, rows=100), []

        def weights(model, images, units):
            asked.append(len(images))
            return unit_weights(model, images, units)

        monkeypatch.setattr("neuronpath.attribution.controls.unit_weights", weights)
        parts, ratios = matched_draws(model, images, paths, self.NAMES, seed=0, rows=rows)
        assert asked == {1: [1, 1, 1, 1], 3: [3, 1]}[rows]
        assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))
        assert np.allclose(ratios, whole_ratios, rtol=1e-9, atol=0)

    def test_images_come_in_the_models_precision(self):
        model, images, paths = self.make()
        rounded = images.float()
        (found, _), (expected, _) = (
            matched_draws(model, x, paths, self.NAMES, seed=1, rows=2) for x in (rounded, rounded.double())
        )
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_depend_on_the_seed(self):
        model, images, paths = self.make()
        one, other = (matched_draws(model, images, paths, self.NAMES, seed=seed, rows=9)[0] for seed in (0, 1))
        assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_an_image_whose_activations_are_not_finite_is_told(self):
        model, images, paths = self.make()
        images[2] = math.nan
        with pytest.raises(NonFiniteError) as caught:
            matched_draws(model, images, paths, self.NAMES, seed=0, rows=1)
        assert (caught.value.image, caught.value.what) == (2, "activations")


def test_random_control_is_uniform_and_distinct():
    units = np.array([random_units(0, label, 1, 28, 4)[0] for label in range(2000)])
    assert all(len(set(row)) == 4 for row in units.tolist())
    counts = np.bincount(units.ravel(), minlength=28)
    assert abs(counts - 2000 * 4 / 28).max() < 5 * np.sqrt(2000 * 4 / 28)


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


class TestWeights:
    @pytest.mark.parametrize("kind", KINDS)
    def test_equal_the_oracle(self, kind):
        model = random_model(tiny_config(kind), seed=3)
        images = random_images(model.config, 3)
        expected = torch.stack([oracle.unit_weights(model, image) for image in images])
        torch.testing.assert_close(torch.stack(unit_weights(model, images), 1), expected, rtol=1e-12, atol=1e-15)
        assert (expected > 0).any()

    def test_of_an_adapted_model_its_layer_scale_counts(self):
        """timm's own forward, its neurons and the LayerScale behind them."""
        module = timm_vit(init_values=0.5)
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        seen, lengths = [], []
        for block in module.blocks:
            block.mlp.fc2.register_forward_pre_hook(lambda m, given: seen.append(given[0][:, 0].abs()))
            columns = block.ls2.gamma[:, None] * block.mlp.fc2.weight
            lengths.append(columns.square().sum(0).sqrt())
        with torch.no_grad():
            module(images)
            expected = torch.stack([h * length for h, length in zip(seen, lengths, strict=True)], 1)
        found = torch.stack(unit_weights(adapt(module, images), images), 1)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


class TestRatios:
    WEIGHTS = torch.tensor([[1.0, 2, 4, 8], [0, 3, 6, 0]])

    def test_means_over_the_neurons_of_each_layer_and_draw(self):
        path, draws = [[0, 2], [1, 2]], [[[1, 3], [2, 1]], [[3, 1], [0, 3]]]
        assert weight_ratios(self.WEIGHTS, path, draws) == [[(2 + 2) / 2, (8 + 0.5) / 2], [(2 + 0.5) / 2, 0]]

    def test_a_neuron_that_weighs_0_is_left_out(self):
        assert weight_ratios(self.WEIGHTS, [[0, 1], [0, 1]], [[[2, 3], [2, 3]]]) == [[4], [0]]
        assert weight_ratios(self.WEIGHTS, [[0], [3]], [[[1], [1]], [[2], [2]]]) == [[2, 4], []]
