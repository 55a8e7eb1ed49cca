"""What removal sets units to, against the literal oracle; which other images are drawn."""

from collections import Counter

import oracle
import pytest
import torch
from foreign import ARCHITECTURES
from helpers import KINDS, SHAPES, problem, random_images, random_path

from neuronpath.attribution.activations import Others, activations, mean_activations, resample, unit_activations
from neuronpath.attribution.edits import Setting, edit, gain, remove, retain
from neuronpath.attribution.forward import plain_forward
from neuronpath.models.adapted import adapt

B = 5


def make(name: str, layers: int = 6, k: int = 3):
    """Model, images, other images, and a path (B, layers, k)."""
    model, images, _ = problem(SHAPES[name], B)
    return model, images, random_images(SHAPES[name], B, seed=9), random_path(SHAPES[name], layers, k)


def assert_equal(logits, expected, plain) -> None:
    torch.testing.assert_close(logits.softmax(-1), torch.stack(expected), rtol=1e-9, atol=0)
    changed = (logits.softmax(-1) - plain.softmax(-1)).abs().amax(-1)
    assert (changed > 1e-6).all(), "an edit that changes nothing would pass"


class TestAgainstTheOracle:
    @pytest.mark.parametrize("name", SHAPES)
    def test_means(self, name):
        model, images, *_ = make(name, SHAPES[name].depth)
        expected = oracle.means(model, images)
        for rows in (None, 1, 2, 7):
            found = mean_activations(model, images, internal_batch_size=rows)
            assert found.dtype == torch.float64
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
        for h, layer in zip(activations(model, images), plain_forward(model, images).hidden, strict=True):
            torch.testing.assert_close(h, layer, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", SHAPES)
    def test_of_units(self, name):
        model, images, *_ = make(name, SHAPES[name].depth)
        plain = plain_forward(model, images)
        for rows in (None, 1, 2):
            found = unit_activations(model, images, internal_batch_size=rows)
            torch.testing.assert_close(found.logits, plain.logits, rtol=1e-11, atol=1e-12)
            for layer, h in enumerate(plain.hidden):
                torch.testing.assert_close(found.mean[:, layer], h.mean(1), rtol=1e-11, atol=1e-12)
                torch.testing.assert_close(found.highest[:, layer], h.amax(1), rtol=1e-11, atol=1e-12)
                assert torch.equal(found.token[:, layer], h.argmax(1))

    @pytest.mark.parametrize(("layers", "k"), [(6, 1), (6, 3), (2, 3)])
    @pytest.mark.parametrize("name", KINDS)
    def test_removal_to_means(self, name, layers, k):
        model, images, others, path = make(name, layers, k)
        means = oracle.means(model, others)
        plain, found = edit(model, images, None, remove(model, path, means))
        sets = [oracle.at_means(p, means, model.num_neuron_tokens) for p in path.tolist()]
        assert_equal(found, [oracle.ablated(model, x, s) for x, s in zip(images, sets, strict=True)], plain)

    @pytest.mark.parametrize(("layers", "k"), [(6, 1), (6, 3), (2, 3)])
    @pytest.mark.parametrize("name", KINDS)
    def test_resampling(self, name, layers, k):
        model, images, others, path = make(name, layers, k)
        expected = [
            oracle.ablated(model, x, oracle.of_other(model, p, y))
            for x, p, y in zip(images, path.tolist(), others, strict=True)
        ]
        for rows in (None, 1, 2):
            change = resample(model, path, others, internal_batch_size=rows)
            plain, found = edit(model, images, None, change, internal_batch_size=rows)
            assert_equal(found, expected, plain)

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("name", KINDS)
    def test_retention(self, name, k):
        model, images, others, path = make(name, k=k)
        means = oracle.means(model, others)
        plain, found = edit(model, images, None, retain(model, path, means))
        sets = [oracle.all_but(p, means, model.num_neuron_tokens) for p in path.tolist()]
        assert_equal(found, [oracle.ablated(model, x, s) for x, s in zip(images, sets, strict=True)], plain)

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_models_of_other_libraries(self, name):
        foreign = ARCHITECTURES[name]()
        expected, size = foreign.oracle(), foreign.img_size
        model = adapt(foreign.module, img_size=size)
        generator = torch.Generator().manual_seed(1)
        images, others = torch.randn(2, 2, 3, size, size, generator=generator, dtype=torch.float64)
        path = random_path(model.config, model.config.depth, 2, n=2)
        means = mean_activations(model, others)
        torch.testing.assert_close(means, oracle.means(expected, others), rtol=1e-9, atol=1e-12)
        edits = remove(model, path, means), resample(model, path, others), retain(model, path, means)
        removed, resampled, retained = (x.softmax(-1) for x in edit(model, images, *edits))
        N = model.num_neuron_tokens
        for i, (x, y, p) in enumerate(zip(images, others, path.tolist(), strict=True)):
            for found, sets in (
                (removed[i], oracle.at_means(p, means, N)),
                (resampled[i], oracle.of_other(expected, p, y)),
                (retained[i], oracle.all_but(p, means, N)),
            ):
                torch.testing.assert_close(found, oracle.ablated(expected, x, sets), rtol=1e-9, atol=1e-12)


class TestSetting:
    @pytest.mark.parametrize("name", KINDS)
    def test_batches_do_not_matter(self, name):
        model, images, others, path = make(name)
        means = mean_activations(model, others)
        edits = [remove(model, path, means), resample(model, path, others), retain(model, path, means), None]
        expected = edit(model, images, *edits)
        for rows in (1, 2, 3):
            for a, b in zip(edit(model, images, *edits, internal_batch_size=rows), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", KINDS)
    def test_zero_means_are_removal(self, name):
        model, images, _, path = make(name)
        zeros = torch.zeros(6, 28)
        a, b = edit(model, images, remove(model, path), remove(model, path, zeros))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert torch.equal(remove(model, path), gain(model, path, 0.0))

    def test_an_image_resampled_from_itself_is_unchanged_in_block_0(self):
        model, images, _, path = make("cls", layers=1)
        plain, found = edit(model, images, None, resample(model, path, images))
        torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)

    def test_all_units_retained_change_nothing(self):
        model, images, *_ = make("mean")
        everything = retain(model, torch.arange(28).expand(B, 6, -1), torch.zeros(6, 28))
        plain, found = edit(model, images, None, everything)
        assert torch.equal(found, plain)

    def test_one_for_all_images(self):
        model, images, _, path = make("mean")
        means = mean_activations(model, images)
        one = remove(model, path[:1], means)
        (found,) = edit(model, images, one)
        (expected,) = edit(model, images, remove(model, path[:1].expand(B, -1, -1), means))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    def test_what_does_not_fit_is_refused(self):
        model, images, others, path = make("cls")
        means = mean_activations(model, images)
        with pytest.raises(ValueError, match="means"):
            remove(model, path, means[:5])
        with pytest.raises(ValueError, match="path"):
            remove(model, path + 28, means)
        with pytest.raises(ValueError, match="path"):
            resample(model, path[:4], others)
        with pytest.raises(ValueError, match="retain"):
            retain(model, path[:, :2], means)
        with pytest.raises(ValueError, match="all_tokens"):
            edit(model, images, Setting(path, means[:, path[0, 0]].expand(B, -1, -1)[:, :, None]), all_tokens=True)

    def test_bfloat16(self):
        model, images, others, path = make("mean")
        means = mean_activations(model, others)
        (expected,) = edit(model, images, remove(model, path, means))
        model.set_dtype(torch.bfloat16)
        found, resampled = edit(
            model,
            images.float(),
            remove(model, path, mean_activations(model, others.float())),
            resample(model, path, others.float()),
        )
        assert found.dtype == resampled.dtype == torch.float32
        torch.testing.assert_close(found.double().softmax(-1), expected.softmax(-1), rtol=0, atol=0.1)


class TestOthers:
    IMAGES = tuple((label, f"{label}/{i}") for label, n in ((2, 4), (0, 3), (7, 1), (3, 5)) for i in range(n))

    def drawn(self, others: Others, *more, seed: int = 0):
        return next(others.draw(*more, seed))

    def test_uniform_over_the_images_of_other_classes(self):
        others = Others(self.IMAGES)
        for label in (0, 2, 3, 7):
            free = [image for image in self.IMAGES if image[0] != label]
            assert others.count(label) == len(free)
            counts = Counter(self.drawn(others, f"x{i}", label, i % 5) for i in range(4000))
            assert set(counts) == set(free)
            expected = 4000 / len(free)
            assert sum((counts[image] - expected) ** 2 / expected for image in free) < 35, "chi square, 8 to 12 df"

    def test_of_seed_image_and_draw_and_nothing_else(self):
        a, b = Others(self.IMAGES), Others(reversed(self.IMAGES))
        keys = [(f"{i}", 2, draw) for i in range(20) for draw in range(5)]
        assert [self.drawn(a, *key) for key in keys] == [self.drawn(b, *key) for key in reversed(keys)][::-1]
        first = [self.drawn(a, *key) for key in keys]
        assert first != [self.drawn(a, *key, seed=1) for key in keys]
        assert len({tuple(first[i::5]) for i in range(5)}) == 5
        assert len({tuple(first[i : i + 5]) for i in range(0, 100, 5)}) > 15

    def test_goes_on_for_those_that_cannot_be_read(self):
        sequence = Others(self.IMAGES).draw("x", 3, 0, 0)
        assert {next(sequence) for _ in range(200)} == {image for image in self.IMAGES if image[0] != 3}

    def test_one_class_alone_is_refused(self):
        with pytest.raises(ValueError, match="other than 3"):
            self.drawn(Others([(3, "a"), (3, "b")]), "a", 3, 0)
