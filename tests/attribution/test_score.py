"""Scores of given paths against the literal oracle."""

import oracle
import pytest
import torch
from helpers import KINDS, SHAPES, problem, random_model, tiny_config

from neuronpath import Quadrature, activation_path, find_path, score_path


@pytest.mark.parametrize("objective", oracle.OBJECTIVES)
@pytest.mark.parametrize("layers", [1, 2, 6])
@pytest.mark.parametrize("name", KINDS)
def test_score_of_any_path_equals_the_oracle(name, layers, objective):
    model, images, labels = problem(SHAPES[name])
    generator = torch.Generator().manual_seed(2)
    path = torch.stack([torch.randperm(28, generator=generator)[:2] for _ in range(len(images) * layers)])
    path = path.view(len(images), layers, 2)
    rule = Quadrature("midpoint", 3)
    scores = score_path(model, images, labels, path, rule, objective=objective, internal_batch_size=4)
    expected = [
        oracle.jas(model, x, y, p.tolist(), rule="midpoint", m=3, objective=objective)
        for x, y, p in zip(images, labels.tolist(), path, strict=True)
    ]
    assert scores.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", oracle.OBJECTIVES)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("neuron", [0, 17, 27])
def test_one_neuron_alone_scores_what_it_adds_to_f(name, neuron, objective):
    """|P| = 1: JAS is a path integral, F(w̄) - F(0) (divided by N as every reported score)."""
    model, images, labels = problem(SHAPES[name])
    path = torch.full((len(images), 1, 1), neuron)
    scores = score_path(model, images, labels, path, Quadrature("gauss-legendre", 40), objective=objective)
    for image, label, score in zip(images, labels.tolist(), scores.tolist(), strict=True):
        F, hidden = oracle.forward(model, image, objective=objective)
        without = hidden[0].clone()
        without[:, neuron] = 0
        added = F[label] - oracle.forward(model, image, [without], objective=objective)[0][label]
        assert score * len(without) == pytest.approx(added.item(), rel=1e-7, abs=1e-10)


def test_the_score_of_the_found_path_is_its_given_path_score():
    for name in KINDS:
        model, images, labels = problem(SHAPES[name])
        found = find_path(model, images, labels, Quadrature("left", 4), k=2)
        again = score_path(model, images, labels, found.path, Quadrature("left", 4))
        torch.testing.assert_close(found.score, again, rtol=1e-9, atol=0)
        assert torch.equal(activation_path(model, images, 2), found.base_path)


def test_a_neuron_named_twice_in_a_layer_is_refused_wherever_it_stands():
    model, images = random_model(tiny_config()), torch.zeros(1, 3, 9, 9).double()
    for layer in ([3, 3, 5], [3, 5, 3], [5, 3, 4, 5]):
        with pytest.raises(ValueError, match="names one unit twice"):
            score_path(model, images, torch.zeros(1).long(), torch.tensor([[layer] * 6]))


@pytest.mark.parametrize(
    "path", [torch.zeros(5, 7, 1), torch.zeros(4, 6, 1), torch.full((5, 6, 1), 28), torch.zeros(5, 6, 2)]
)
def test_a_path_that_does_not_fit_is_refused(path):
    model, images, labels = problem(SHAPES["cls"])
    with pytest.raises(ValueError, match="path"):
        score_path(model, images, labels, path.long())
