"""Edits of heads and of mixed paths, and their matched control, against the literal forward."""

import oracle_heads as oracle
import pytest
import torch
from helpers import problem, tiny_config

from neuronpath import edit, enhance, find_head_path, gain, mean_activations, remove, resample, retain
from neuronpath.attribution.activations import activations
from neuronpath.attribution.controls import matched_draws, unit_weights
from neuronpath.attribution.forward import plain_forward
from neuronpath.attribution.sites import UNITS

CONFIGS = {
    "cls": tiny_config("cls", depth=3, mlp_dim=6),
    "mean": tiny_config("mean", depth=3, mlp_dim=6, registers=1),
    "one-layer": tiny_config("cls", depth=1, mlp_dim=6),
}
MADE = pytest.mark.parametrize(("name", "units"), [(name, u) for name in CONFIGS for u in ("heads", "both")])


def make(name: str, units: str, k: int = 2, images: int = 3):
    model, images, _ = problem(CONFIGS[name], images)
    generator, counts = torch.Generator().manual_seed(4), UNITS[units].counts(model)
    layers = [torch.stack([torch.randperm(n, generator=generator)[:k] for _ in images]) for n in counts]
    return model, images, torch.stack(layers, 1)


def assert_edited(model, images, found, path, change, units) -> None:
    """`change(image, site, unit, what it is)`."""
    for i, image in enumerate(images):
        expected = oracle.edited(
            model, image, path[i].tolist(), lambda site, u, x, i=i: change(i, site, u, x), units=units
        )
        torch.testing.assert_close(found[i].softmax(-1), expected, rtol=1e-9, atol=1e-12)


@MADE
@pytest.mark.parametrize("factor", [0.0, 2.0, 0.5])
def test_factors(name, units, factor):
    model, images, path = make(name, units)
    made = {0.0: remove, 2.0: enhance}.get(factor)
    change = made(model, path, units=units) if made else gain(model, path, factor, units)
    plain, found = edit(model, images, None, change, internal_batch_size=2)
    assert_edited(model, images, found, path, lambda i, site, u, x: factor * x, units)
    assert (plain - found).abs().max() > 1e-3
    again = edit(model, images, gain(model, path, 1.0, units))[0]
    torch.testing.assert_close(again, plain, rtol=1e-12, atol=1e-12)


def of_images(model, images, units):
    """Per image and site what each unit writes, (heads, N, D), or is, (H, N)."""
    found = []
    for image in images:
        written, hidden = oracle.stored(model, image)
        kept = {"heads": written, "neurons": [h.T for h in hidden]}
        found.append([kept[kind][layer] for layer, kind in oracle.sites(model, units)])
    return found


@MADE
def test_means_and_what_is_retained(name, units):
    model, images, path = make(name, units)
    means = mean_activations(model, images, units=units, internal_batch_size=2)
    removed, kept = edit(
        model, images, remove(model, path, means, units), retain(model, path, means, units), internal_batch_size=2
    )
    seen = of_images(model, images, units)

    def mean(i, site, unit, x):
        return torch.stack([image[site][unit].mean(0) for image in seen]).mean(0).expand(x.shape)

    assert_edited(model, images, removed, path, mean, units)
    counts = [oracle.count(model, kind) for _, kind in oracle.sites(model, units)]
    rest = [[sorted({*range(n)} - {*own}) for n, own in zip(counts, p, strict=True)] for p in path.tolist()]
    for i, image in enumerate(images):
        expected = oracle.edited(model, image, rest[i], lambda site, u, x: mean(0, site, u, x), units=units)
        torch.testing.assert_close(kept[i].softmax(-1), expected, rtol=1e-9, atol=1e-12)


@MADE
def test_resampled_from_another_image(name, units):
    model, images, path = make(name, units)
    change = resample(model, path, images.flip(0), units=units, internal_batch_size=2)
    (found,) = edit(model, images, change)
    seen = of_images(model, images.flip(0), units)
    assert_edited(model, images, found, path, lambda i, site, u, x: seen[i][site][u], units)


def test_a_path_of_the_first_layers_leaves_the_others():
    model, images, path = make("cls", "both")
    means = mean_activations(model, images, units="both")
    for change in (remove(model, path[:, :2], units="both"), remove(model, path[:, :2], means, "both")):
        (found,) = edit(model, images, change)
        whole = remove(model, path, units="both") if change is None else change
        assert torch.equal(edit(model, images, whole)[0], found)
    (zeroed,) = edit(model, images, remove(model, path[:, :2], units="both"))
    assert_edited(model, images, zeroed, path[:, :2], lambda i, site, u, x: 0 * x, "both")


@MADE
def test_the_matched_control_weighs_what_a_unit_writes(name, units):
    model, images, path = make(name, units, k=1)
    weights = unit_weights(model, images, UNITS[units])
    for i, image in enumerate(images):
        written, hidden = oracle.stored(model, image)
        for site, (layer, kind) in enumerate(oracle.sites(model, units)):
            columns = model.blocks[layer].fc2.weight.norm(dim=0)
            own = written[layer].sum(1).norm(dim=-1) if kind == "heads" else hidden[layer].sum(0).abs() * columns
            torch.testing.assert_close(weights[site][i], own, rtol=1e-9, atol=1e-12)
    names = [str(i) for i in range(len(images))]
    drawn, ratios = matched_draws(model, images, path.tolist(), names, seed=1, rows=2, units=UNITS[units])
    assert len(drawn) == 5
    for draw in drawn:
        assert draw.shape == path.shape
        assert not (draw == path).any(), "never one of the path"
    assert len(ratios) == len(images)
    assert len(ratios[0]) == path.shape[1]


def test_activations_are_those_of_the_plain_forward():
    model, images, _ = make("mean", "both")
    found = list(activations(model, images, "both"))
    for values, expected in zip(found, plain_forward(model, images, UNITS["both"]).values, strict=True):
        torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)


def test_what_is_refused():
    model, images, path = make("cls", "heads")
    with pytest.raises(ValueError, match="other edits are of the neuron tokens only"):
        edit(model, images, remove(model, path, units="heads"), all_tokens=True)
    with pytest.raises(ValueError, match=r"means must be \(L, H\) = \(3, 20\), not \(3, 6\)"):
        remove(model, path, torch.zeros(3, 6), "heads")
    with pytest.raises(ValueError, match="units of all 3 layers, not of 2"):
        retain(model, path[:, :2], torch.zeros(3, 20), "heads")
    assert find_head_path(model, images, torch.tensor([0, 1, 2])).path.shape == (3, 3, 1)
