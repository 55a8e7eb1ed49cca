"""Edits of neurons against the literal oracle, and what must not change them."""

import oracle
import pytest
import torch
from helpers import KINDS, SHAPES, problem, random_path, tiny_config

from neuronpath.attribution.edits import edit, enhance, gain, remove

CONFIGS = {**SHAPES, "one-layer-mean": tiny_config("mean", depth=1)}
B = 5


def make(name: str, dtype=torch.float64):
    return problem(CONFIGS[name], B, dtype=dtype)[:2]


class TestEdit:
    @pytest.mark.parametrize("factor", [0, 2, 0.5, -1])
    @pytest.mark.parametrize(("layers", "k"), [(6, 1), (6, 3), (2, 1), (1, 3)])
    @pytest.mark.parametrize("name", KINDS)
    def test_equals_the_oracle(self, name, layers, k, factor):
        model, images = make(name)
        path = random_path(model.config, layers, k)
        plain, found = (x.softmax(-1) for x in edit(model, images, None, gain(model, path, factor)))
        for i, image in enumerate(images):
            expected = oracle.edited(model, image, oracle.path_factors(model, path[i].tolist(), factor))
            torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=0)
            assert found[i].argmax() == expected.argmax()
            torch.testing.assert_close(plain[i], oracle.forward(model, image)[0], rtol=1e-9, atol=0)
        assert ((found - plain).abs().amax(-1) > 1e-5).all(), "an edit that changes nothing would pass"

    @pytest.mark.parametrize("name", CONFIGS)
    def test_other_shapes_and_all_tokens(self, name):
        model, images = make(name)
        path = random_path(model.config, model.config.depth, 2)
        edits = [remove(model, path), enhance(model, path)]
        for all_tokens in (False, True):
            found = edit(model, images, *edits, all_tokens=all_tokens)
            for logits, factor in zip(found, (0, 2), strict=True):
                for i, image in enumerate(images):
                    factors = oracle.path_factors(model, path[i].tolist(), factor)
                    expected = oracle.edited(model, image, factors, all_tokens)
                    torch.testing.assert_close(logits[i].softmax(-1), expected, rtol=1e-9, atol=0)

    @pytest.mark.parametrize("name", KINDS)
    def test_all_tokens_are_more_than_the_neuron_tokens(self, name):
        model, images = make(name)
        factors = remove(model, random_path(model.config, 6, 3))
        few, many = edit(model, images, factors) + edit(model, images, factors, all_tokens=True)
        assert ((few - many).abs().amax(-1) > 1e-5).all()

    @pytest.mark.parametrize("name", KINDS)
    def test_one_edit_for_all_images_broadcasts(self, name):
        model, images = make(name)
        generator = torch.Generator().manual_seed(3)
        factors = torch.rand(1, 6, 28, generator=generator, dtype=torch.float64) * 2
        (expanded,) = edit(model, images, factors.expand(B, -1, -1).clone())
        for rows in (None, 1, 2):
            (found,) = edit(model, images, factors, internal_batch_size=rows)
            torch.testing.assert_close(found, expanded, rtol=1e-12, atol=1e-12)
        for logits, image in zip(found, images, strict=True):
            expected = oracle.edited(model, image, factors[0])
            torch.testing.assert_close(logits.softmax(-1), expected, rtol=1e-9, atol=0)

    @pytest.mark.parametrize("name", ["cls", "mean", "one-layer", "one-layer-mean"])
    def test_removal_in_the_last_block_equals_zeroed_columns(self, name):
        """Of the last block the head reads the neuron tokens alone, so the units are gone from the model."""
        model, images = make(name)
        units, last = [3, 0, 17], len(model.blocks) - 1
        factors = torch.ones(1, last + 1, 28, dtype=torch.float64)
        factors[0, last, units] = 0
        before, found, everywhere = (
            *edit(model, images, None, factors),
            *edit(model, images, factors, all_tokens=True),
        )
        model.blocks[last].mlp.fc2.weight[:, units] = 0
        torch.testing.assert_close(found, model(images), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(everywhere, model(images), rtol=1e-12, atol=1e-12)
        assert ((found - before).abs().amax(-1) > 1e-5).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", CONFIGS)
    def test_factor_1_changes_nothing_bit_for_bit(self, name, dtype):
        model, images = make(name, dtype)
        path = random_path(model.config, model.config.depth, 3)
        for all_tokens in (False, True):
            plain, same = edit(model, images, None, gain(model, path, 1), all_tokens=all_tokens)
            assert torch.equal(same, plain)
            assert torch.equal(same, model(images))

    @pytest.mark.parametrize("name", KINDS)
    def test_batches_do_not_matter(self, name):
        model, images = make(name)
        edits = [None, remove(model, random_path(model.config, 6, 3)), enhance(model, random_path(model.config, 4, 1))]
        expected = edit(model, images, *edits, internal_batch_size=1000)
        for rows in (1, 2, 3, 5):
            for a, b in zip(edit(model, images, *edits, internal_batch_size=rows), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        order = [3, 0, 4, 1, 2]
        permuted = edit(model, images[order], *(f if f is None else f[order] for f in edits), internal_batch_size=2)
        for a, b in zip(permuted, expected, strict=True):
            torch.testing.assert_close(a, b[order], rtol=1e-12, atol=1e-12)
        for i in range(B):
            single = edit(model, images[i : i + 1], *(f if f is None else f[i : i + 1] for f in edits))
            for a, b in zip(single, expected, strict=True):
                torch.testing.assert_close(a[0], b[i], rtol=1e-12, atol=1e-12)

    def test_factors_are_what_they_say(self):
        model, _ = make("cls")
        path = random_path(model.config, 4, 3)
        for factors, factor in ((remove(model, path), 0), (enhance(model, path), 2), (gain(model, path, -0.3), -0.3)):
            expected = torch.stack([oracle.path_factors(model, p, factor) for p in path.tolist()])
            assert torch.equal(factors, expected)

    @pytest.mark.parametrize(
        "path",
        [torch.zeros(5, 7, 1), torch.zeros(5, 6), torch.full((5, 6, 1), 28), torch.full((5, 6, 1), -1),
         torch.zeros(5, 6, 2), torch.zeros(5, 0, 1)],
    )  # fmt: skip
    def test_a_path_that_does_not_fit_is_refused(self, path):
        with pytest.raises(ValueError, match="path"):
            remove(make("cls")[0], path.long())

    def test_images_and_model_stay_as_they_are(self):
        model, images = make("mean")
        before, state = images.clone(), {k: v.clone() for k, v in model.state_dict().items()}
        edit(model, images, remove(model, random_path(model.config, 6, 3)))
        assert torch.equal(images, before)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
