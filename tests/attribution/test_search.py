"""Algorithm 1 as released, against the literal oracle, and what must not change its results."""

from itertools import product

import oracle
import pytest
import torch
from helpers import SHAPES, assert_same_path, problem

from neuronpath import Quadrature, find_path
from neuronpath.attribution.quadrature import RULES
from neuronpath.attribution.reference import plain_search
from neuronpath.errors import NonFiniteError

CASES = [
    *product(SHAPES, RULES, [1, 2, 3, 5], ["probability"]),
    *product(["cls", "mean"], ["midpoint", "gauss-radau"], [1, 3], ["logit", "sigmoid"]),
]


@pytest.mark.parametrize(("name", "rule", "k", "objective"), CASES)
def test_search_and_scores_equal_the_oracle(name, rule, k, objective):
    model, images, labels = problem(SHAPES[name])
    m, reached = 4, []
    found = find_path(model, images, labels, Quadrature(rule, m), k, objective=objective)
    plain = plain_search(model, images, labels, Quadrature(rule, m), k, objective=objective)
    defined = {"rule": rule, "m": m, "objective": objective}
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path, margin = oracle.search(model, image, label, K=k, **defined)
        base = oracle.activation_path(model, image, k)
        score, base_score = (oracle.jas(model, image, label, p, **defined) for p in (path, base))
        assert found.path[i].tolist() == plain["ja"][i].tolist() == path
        assert found.base_path[i].tolist() == plain["base"][i].tolist() == base
        assert found.margin[i].tolist() == pytest.approx(margin, rel=1e-9, abs=1e-12)
        assert [found.score[i].item(), plain["ja_score"][i].item()] == pytest.approx([score] * 2, rel=1e-9)
        assert [found.base_score[i].item(), plain["base_score"][i].item()] == pytest.approx([base_score] * 2, rel=1e-9)
        reached.append(abs(score))
    assert sum(reached) / len(images) > 1e-2, "the model is scaled so that relative errors mean something"


def test_a_negative_target_is_the_predicted_class():
    model, images, labels = problem(SHAPES["cls"])
    predicted = model(images).argmax(-1)
    assert not torch.equal(predicted, labels)
    assert_same_path(find_path(model, images, torch.full_like(labels, -1)), find_path(model, images, predicted))


def test_scores_that_are_not_finite_name_image_and_layer():
    model, images, labels = problem(SHAPES["cls"])
    images[3] = torch.nan
    with pytest.raises(NonFiniteError) as e:
        find_path(model, images, labels)
    assert (e.value.image, e.value.what) == (3, "scores of layer 0")


def test_bad_arguments_are_refused():
    model, images, labels = problem(SHAPES["cls"])
    for wrong in ({"k": 0}, {"k": 29}, {"search": "best"}):
        with pytest.raises(ValueError, match=r"must be|unknown"):
            find_path(model, images, labels, **wrong)
