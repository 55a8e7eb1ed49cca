"""Maps of units over patches, against the literal oracle: activations of patches, or gradient × input."""

import oracle_units
import pytest
import torch
from foreign import ARCHITECTURES, timm_vit
from helpers import SHAPES, fault, problem
from torch import nn

import neuronpath
from neuronpath.attribution.maps import patch_grid, unit_maps
from neuronpath.models.adapted import adapt

B = 3
#: Those whose head reads several tokens, but not every patch's.
NO_MAPS = ("timm DeiT, distilled", "transformers DeiT with its teacher")


def places_of(config, count: int = 12) -> torch.Tensor:
    """(count, 3): images and layers mixed, one place twice, one image and layer with two units."""
    generator = torch.Generator().manual_seed(0)
    found = [torch.randint(most, (count,), generator=generator) for most in (B, config.depth, config.mlp_dim)]
    places = torch.stack(found, 1)
    places[1] = places[0]
    places[2] = places[0] + torch.tensor([0, 0, 1 if places[0, 2] == 0 else -1])
    return places


def expected(model, images, places, side: int) -> torch.Tensor:
    maps = [oracle_units.unit_map(model, images[b], layer, unit, side) for b, layer, unit in places.tolist()]
    return torch.tensor(maps, dtype=torch.float64)


class TestAgainstTheOracle:
    @pytest.mark.parametrize("name", SHAPES)
    def test_of_our_models(self, name):
        config = SHAPES[name]
        model, images, _ = problem(config, B)
        places, side = places_of(config), config.img_size // config.patch_size
        wanted = expected(model, images, places, side)
        assert wanted.abs().amax((1, 2)).min() > 1e-6
        for rows in (None, 1, 2, 5):
            found = unit_maps(model, images, places, internal_batch_size=rows)
            assert found.shape == (len(places), side, side)
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
        as_tuples = neuronpath.unit_maps(model, images, [tuple(place) for place in places.tolist()])
        torch.testing.assert_close(as_tuples, wanted, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in NO_MAPS])
    def test_of_other_libraries(self, name):
        foreign = ARCHITECTURES[name]()
        size = foreign.img_size
        images = torch.randn(B, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        model = adapt(foreign.module, images)
        places = places_of(model.config, 6)
        wanted = expected(foreign.oracle(), images, places, size // 4)
        torch.testing.assert_close(unit_maps(model, images, places), wanted, rtol=1e-9, atol=1e-11)

    def test_of_pixels_that_are_in_no_patch(self):
        config = SHAPES["cls"].with_(img_size=10)
        model, images, _ = problem(config, B)
        places = places_of(config)
        torch.testing.assert_close(unit_maps(model, images, places), expected(model, images, places, 3))


class TestWhatHasNone:
    @pytest.mark.parametrize("name", NO_MAPS)
    def test_a_head_that_reads_two_tokens_that_are_no_patches(self, name):
        foreign = ARCHITECTURES[name]()
        model = adapt(foreign.module, img_size=foreign.img_size)
        message = fault(unit_maps, model, torch.zeros(1, 3, 8, 8, dtype=torch.float64), [(0, 0, 0)])
        assert "its head reads 2 tokens, but not every patch's; its units have no maps over patches" in message
        assert message.startswith(model.config.architecture)

    @pytest.mark.parametrize(
        ("patch", "why"), [((4, 2), "8 of its tokens are of the image"), ((8, 2), "a square of the image is not one")]
    )
    def test_patches_that_are_no_squares(self, patch, why):
        model = adapt(timm_vit(patch_size=patch), img_size=8)
        assert why in fault(patch_grid, model)

    def test_patches_that_overlap(self):
        module = timm_vit()
        module.patch_embed.proj = nn.Conv2d(3, 12, 6, 4, 1).double().requires_grad_(False)
        assert "a square of the image is not one token of its own" in fault(patch_grid, adapt(module, img_size=8))

    @pytest.mark.parametrize("place", [(3, 0, 0), (0, 6, 0), (0, 0, 28), (0, 0, -1)])
    def test_places_that_are_not_there(self, place):
        model, images, _ = problem(SHAPES["cls"], B)
        with pytest.raises(ValueError, match=rf"no image, layer, unit \({', '.join(map(str, place))}\).*\(3, 6, 28\)"):
            unit_maps(model, images, [(0, 0, 0), place])

    def test_no_places(self):
        model, images, _ = problem(SHAPES["mean"], B)
        assert unit_maps(model, images, []).shape == (0, 3, 3)


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_bf16_is_near_and_nothing_is_left_behind(name):
    model, images, _ = problem(SHAPES[name], B, dtype=torch.float32)
    places = places_of(SHAPES[name])
    wanted = unit_maps(model, images, places)
    found = unit_maps(model.set_dtype(torch.bfloat16), images, places)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert not images.requires_grad
    assert (found - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_the_cost_is_what_the_docstring_says(monkeypatch):
    """Of several neuron tokens one forward per image that is asked for, as far as the last layer asked for."""
    model, images, _ = problem(SHAPES["mean"], B)
    seen = []
    for layer, block in enumerate(model.blocks):
        attend = block.attend
        monkeypatch.setattr(
            block,
            "attend",
            lambda z, *more, attend=attend, layer=layer: seen.append((layer, len(z))) or attend(z, *more),
        )
    unit_maps(model, images, [(2, 3, 1), (0, 1, 4), (2, 0, 4)])
    assert seen == [(layer, 2) for layer in range(4)]
