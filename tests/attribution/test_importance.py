"""What a unit is worth, against the definitions taken literally, in float64."""

import math

import numpy as np
import oracle
import pytest
import torch
from helpers import KINDS, problem, random_model, random_path, tiny_config

from neuronpath.attribution.importance import (
    UnitSums,
    best_first,
    kept_count,
    magnitude,
    most_important,
    path_frequency,
    random_importance,
    unit_sums,
    written,
)
from neuronpath.studies.benchmark import timm_twin

COUNT, SMALL = 3, {"depth": 2, "mlp_dim": 7}


def hooked(model) -> list:
    """timm's model with the same weights, by layer so that all tokens are told that the layer writes to."""
    last = range(model.config.tokens)[model.neuron_tokens]
    every = range(model.config.tokens)
    twin = timm_twin(model)
    lasts = [block.mlp.fc2 for block in twin.blocks]
    return [oracle.Hooked(twin, lasts, last if i == len(lasts) - 1 else every) for i in range(len(lasts))]


def expected(model, images, targets, all_tokens: bool, objective: str = "probability") -> dict[str, torch.Tensor]:
    """The sums, literally."""
    L, H = model.config.depth, model.config.mlp_dim
    sums = {name: torch.zeros(L, H, dtype=torch.float64) for name in ("mean", "size", "taylor")}
    everywhere = hooked(model)
    for image, target in zip(images, targets.tolist(), strict=True):
        for layer in range(L):
            every = oracle.forward(everywhere[layer], image, objective=objective)[1][layer]
            of = everywhere[layer] if all_tokens else model
            h = oracle.forward(of, image, objective=objective)[1][layer].detach().requires_grad_()
            F = oracle.forward(of, image, {layer: h}, objective=objective)[0][target]
            (gradient,) = torch.autograd.grad(F, h)
            for j in range(H):
                sums["mean"][layer, j] += sum(every[:, j].tolist()) / len(every)
                sums["size"][layer, j] += sum(map(abs, h[:, j].tolist())) / len(h)
                sums["taylor"][layer, j] += abs(sum((h[t, j] * gradient[t, j]).item() for t in range(len(h))))
    return sums


@pytest.mark.parametrize("all_tokens", [False, True], ids=["neuron", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_equal_the_oracle(kind, all_tokens):
    model, images, targets = problem(tiny_config(kind, **SMALL), COUNT)
    found = unit_sums(model, images, targets, all_tokens=all_tokens)
    sums = expected(model, images, targets, all_tokens)
    assert found.images == COUNT
    for name, values in sums.items():
        torch.testing.assert_close(getattr(found, name), values, rtol=1e-9, atol=1e-12)
    assert sums["taylor"].abs().max() > 1e-3
    torch.testing.assert_close(found.means, sums["mean"] / COUNT, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.sizes, sums["size"] / COUNT, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", ["logit", "sigmoid"])
def test_other_objectives(objective):
    model, images, targets = problem(tiny_config(**SMALL), COUNT)
    found = unit_sums(model, images, targets, objective=objective)
    sums = expected(model, images, targets, False, objective)
    torch.testing.assert_close(found.taylor, sums["taylor"], rtol=1e-9, atol=1e-12)


def test_neither_batches_nor_rows_change_anything_and_a_negative_target_is_the_predicted_class():
    model, images, targets = problem(tiny_config(**SMALL), 5)
    whole = unit_sums(model, images, targets)
    parts = unit_sums(model, images[:2], targets[:2]) + unit_sums(model, images[2:], targets[2:])
    by_one = unit_sums(model, images, targets, internal_batch_size=1)
    predicted = unit_sums(model, images, model(images).argmax(-1))
    assert parts.images == by_one.images == 5
    for name in ("mean", "size", "taylor"):
        for other in (parts, by_one):
            torch.testing.assert_close(getattr(other, name), getattr(whole, name), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(unit_sums(model, images, torch.full((5,), -1)).taylor, predicted.taylor)
    assert not torch.allclose(predicted.taylor, whole.taylor)


def test_activation_and_magnitude_are_lengths_of_weights():
    model = random_model(tiny_config(**SMALL))
    sizes = torch.rand(2, 7, dtype=torch.float64)
    for layer in range(2):
        s = model.state_dict()
        rows, columns = (s[f"blocks.{layer}.mlp.{name}.weight"].tolist() for name in ("fc1", "fc2"))
        for j in range(7):
            column = [row[j] for row in columns]
            assert written(model, sizes)[layer, j].item() == pytest.approx(sizes[layer, j].item() * math.hypot(*column))
            assert magnitude(model)[layer, j].item() == pytest.approx(math.hypot(*rows[j], *column))


def test_every_class_counts_alike_in_the_frequency_of_paths():
    paths, labels = random_path(tiny_config(), 6, 3, n=9), torch.tensor([2, 0, 0, 2, 3, 0, 2, 2, 2])
    found = path_frequency(paths, labels, 28)
    for layer in range(6):
        for unit in range(28):
            shares = []
            for label in (0, 2, 3):
                own = [path[layer].tolist() for path, y in zip(paths, labels.tolist(), strict=True) if y == label]
                shares.append(sum(unit in units for units in own) / len(own))
            assert found[layer, unit].item() == pytest.approx(sum(shares) / 3, abs=1e-12)
    assert found.sum().item() == pytest.approx(6 * 3), "a path holds K units of a layer"


def test_rounding_parts_no_equal_frequencies():
    """A third and a third and a third is 1, whatever the order of the sum."""
    labels = torch.arange(49) % 7
    paths = (torch.arange(49) // 7)[:, None, None]  # one unit of one layer: each in one of seven images of a class
    assert len(path_frequency(paths, labels, 7).unique()) == 1
    ragged = torch.tensor([0] * 3 + [1] * 3 + [2] * 5)
    in_each = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0, 1, 2, 2])[:, None, None]
    found = path_frequency(in_each, ragged, 3)[0]
    assert found[0] == found[1]
    assert found.tolist() == [round(x, 12) for x in (13 / 45, 13 / 45, (2 / 3 + 3 / 5) / 3)]


def test_small_importances_are_ranked_as_large_ones():
    """Sums of Taylor of an image whose probability is nearly 1 are this small."""
    model = random_model(tiny_config(**SMALL))
    values = torch.rand(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1e-9
    order = best_first("taylor", model, sums=UnitSums(1, values, values, values))
    assert torch.equal(order, values.argsort(descending=True))


def test_ties_are_broken_by_activation_for_paths_alone():
    model = random_model(tiny_config(**SMALL))
    sizes, equal = torch.arange(14.0, dtype=torch.float64).view(2, 7), torch.ones(2, 7, dtype=torch.float64)
    sums = UnitSums(2, equal, sizes, equal)
    ascending, descending = [[*range(7)]] * 2, [[*range(6, -1, -1)]] * 2
    assert best_first("path", model, sums=sums, frequency=equal).tolist() == descending
    assert best_first("taylor", model, sums=sums).tolist() == ascending
    assert torch.equal(best_first("activation", model, sums=sums), most_important(written(model, sizes), 7))
    assert torch.equal(best_first("magnitude", model), most_important(magnitude(model), 7))
    assert torch.equal(best_first("random", model, seed=5), most_important(random_importance(5, 2, 7), 7))


def test_random_units_have_a_generator_for_every_layer_and_seed():
    found = random_importance(3, 4, 9)
    assert found.dtype == torch.float64
    for layer in range(4):
        assert found[layer].tolist() == np.random.default_rng((3, layer)).random(9).tolist()
    assert torch.equal(random_importance(3, 2, 9), found[:2])


def test_the_most_important_come_first_ties_by_the_other_then_by_index():
    importance = torch.tensor([[1.0, 3, 1, 1, 0, 3], [0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    ties = torch.tensor([[0.0, 1, 2, 2, 9, 2], [5, 1, 1, 6, 1, 1]], dtype=torch.float64)
    assert most_important(importance, 6, ties).tolist() == [[5, 1, 2, 3, 0, 4], [3, 0, 1, 2, 4, 5]]
    assert most_important(importance, 2, ties).tolist() == [[5, 1], [3, 0]]
    assert most_important(importance * 1e-20, 6, ties).tolist() == most_important(importance, 6, ties).tolist()
    assert most_important(importance, 6).tolist() == [[1, 5, 0, 2, 3, 4], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("share", "count"), [(1, 384), (0.9, 346), (0.5, 192), (0.1, 38), (0.001, 1)])
def test_units_that_a_share_makes(share, count):
    assert kept_count(share, 384) == count
