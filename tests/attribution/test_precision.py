"""bf16: what is rounded, and what that does to scores, searches and edits."""

import copy

import pytest
import torch
from helpers import SHAPES, problem

from neuronpath import Quadrature, edit, enhance, find_path, gain, influence_path, score_path
from neuronpath.attribution.engine import Problem
from neuronpath.attribution.influence import layer_influence
from neuronpath.attribution.reference import plain_influence, plain_search
from neuronpath.attribution.searches import GREEDY

FOUR = Quadrature("gauss-legendre", 4)
SCORES = ("score", "base_score", "activation", "base_activation", "logits", "margin")


def halves(name: str):
    """A model in bf16, the same in float64, its weights rounded as the first's, images and labels."""
    model, images, labels = problem(SHAPES[name], dtype=torch.float32)
    model.set_dtype(torch.bfloat16)
    return model, copy.deepcopy(model).set_dtype(torch.float64), images, labels


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the differences, in units of the expected values'."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", SHAPES)
class TestBf16:
    def test_streams_are_not_rounded(self, name):
        model, _, images, _ = halves(name)
        streams = [model.embed(images)]
        for block in model.blocks:
            streams += [block.attend(streams[-1]), block(streams[-1])]
        streams.append(model.read(streams[-1][:, model.neuron_tokens]))
        for z in streams:
            assert z.dtype == torch.float32
            assert (z != z.bfloat16()).float().mean() > 0.9
        assert model.blocks[0].hidden(streams[0]).dtype == torch.bfloat16

    def test_scores_of_given_paths(self, name):
        model, exact, images, labels = halves(name)
        path = find_path(exact, images.double(), labels, FOUR, k=2).path
        found, expected = (score_path(m, x, labels, path, FOUR) for m, x in ((model, images), (exact, images.double())))
        assert found.dtype == torch.float32
        assert 1e-6 < relative(found, expected) < 0.05

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("search", GREEDY)
    def test_search(self, name, search, k):
        """Behind the same neurons, clear choices are those in float64, and most of all."""
        model, exact, images, labels = halves(name)
        found = find_path(model, images, labels, FOUR, k, search=search)
        expected = find_path(exact, images.double(), labels, FOUR, k, search=search)
        assert all(getattr(found, key).dtype == torch.float32 for key in SCORES)
        same = (found.path.sort(-1).values == expected.path.sort(-1).values).all(-1)
        behind = torch.cat((torch.ones_like(same[:, :1]), same.long().cumprod(1).bool()[:, :-1]), 1)
        assert same[behind & (expected.margin > 0.03)].all()
        assert same[behind].float().mean() > 0.75

    def test_reference_and_influence(self, name):
        model, exact, images, labels = halves(name)
        four = plain_search(model, images, labels, FOUR)
        again = score_path(model, images, labels, four["ja"], FOUR)
        assert relative(four["ja_score"], again) < 0.05
        found = torch.stack(plain_influence(model, images, labels, FOUR))
        assert relative(found, torch.stack(plain_influence(exact, images.double(), labels, FOUR))) < 0.05
        found = torch.stack(layer_influence(Problem.of(model, images, labels, FOUR, 7), images))
        assert found.dtype == torch.float32
        double = images.double()
        expected = layer_influence(Problem.of(exact, double, labels, FOUR, 7), double)
        assert relative(found, torch.stack(expected)) < 0.05
        assert influence_path(model, images, labels, FOUR).score.isfinite().all()

    def test_edits(self, name):
        model, exact, images, labels = halves(name)
        path = find_path(exact, images.double(), labels, FOUR).path
        original, same, doubled = edit(model, images, None, gain(model, path, 1.0), enhance(model, path))
        assert torch.equal(original, same)
        assert not torch.equal(original, doubled)
        (expected,) = edit(exact, images.double(), enhance(exact, path))
        assert relative(doubled, expected) < 0.05
