"""The engine: neither batches nor their order, precision or the place of the neuron token change what is found."""

import pytest
import torch
from helpers import KINDS, SHAPES, assert_same_path, problem

from neuronpath import Quadrature, edit, find_path, influence_path, remove, score_path
from neuronpath.attribution.searches import SEARCHES
from neuronpath.models.vit import VisionTransformer


@pytest.mark.parametrize("name", KINDS)
def test_internal_batch_size_does_not_matter(name):
    model, images, labels = problem(SHAPES[name])
    expected = find_path(model, images, labels, Quadrature("right", 5), k=2, internal_batch_size=1000)
    for rows in (1, 2, 5, 7, 11):
        found = find_path(model, images, labels, Quadrature("right", 5), k=2, internal_batch_size=rows)
        assert_same_path(found, expected)


@pytest.mark.parametrize("name", KINDS)
def test_a_mixed_batch_equals_a_loop_of_singles_in_any_order(name):
    model, images, labels = problem(SHAPES[name])
    batch = find_path(model, images, labels, Quadrature("right", 3))
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = find_path(model, images[order], labels[order], Quadrature("right", 3))
    for i in range(len(images)):
        single = find_path(model, images[i : i + 1], labels[i : i + 1], Quadrature("right", 3))
        j = order.tolist().index(i)
        for found, at in ((batch, i), (permuted, j)):
            assert torch.equal(found.path[at], single.path[0])
            assert found.score[at].item() == pytest.approx(single.score[0].item(), rel=1e-9)
            assert found.base_score[at].item() == pytest.approx(single.base_score[0].item(), rel=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_fp32_agrees_up_to_near_ties(name):
    model, images, labels = problem(SHAPES[name])
    exact = find_path(model, images, labels)
    single = find_path(problem(SHAPES[name], dtype=torch.float32)[0], images.float(), labels)
    compared = 0
    for i in range(len(images)):
        near = (exact.margin[i] < 1e-4).nonzero()
        until = near[0].item() if len(near) else len(exact.margin[i])
        assert torch.equal(single.path[i, :until], exact.path[i, :until])
        if until == len(exact.margin[i]):
            compared += 1
            assert single.score[i].item() == pytest.approx(exact.score[i].item(), rel=1e-4)
    assert compared >= 3


class NeuronTokenLast(VisionTransformer):
    """The same model with its CLS token behind the patches: attention does not know the order."""

    neuron_tokens = property(lambda self: slice(self.pos_embed.shape[1] - 1, None))
    other_tokens = property(lambda self: slice(0, self.pos_embed.shape[1] - 1))

    def join(self, neuron, other):
        return torch.cat((other, neuron), dim=1)

    def embed(self, x):
        return super().embed(x).roll(-1, 1)


@pytest.mark.parametrize("search", SEARCHES)
def test_where_the_neuron_token_stands_does_not_matter(search):
    model, images, labels = problem(SHAPES["cls"])
    moved = NeuronTokenLast(model.config).double().eval().requires_grad_(False)
    moved.load_state_dict(model.state_dict())
    arguments = images, labels, Quadrature("midpoint", 2)
    found, expected = (find_path(m, *arguments, search=search) for m in (moved, model))
    assert_same_path(found, expected)
    torch.testing.assert_close(
        score_path(moved, *arguments[:2], found.base_path), score_path(model, *arguments[:2], expected.base_path)
    )
    (removed,), (same,) = (edit(m, images, remove(m, expected.path)) for m in (moved, model))
    torch.testing.assert_close(removed, same, rtol=1e-9, atol=0)
    influence, again = (influence_path(m, *arguments) for m in (moved, model))
    assert torch.equal(influence.path, again.path)
