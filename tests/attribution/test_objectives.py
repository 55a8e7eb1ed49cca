"""What F may be: by its definition, under its name, and nothing else."""

from dataclasses import FrozenInstanceError, replace
from inspect import signature

import oracle
import pytest
import torch
from helpers import problem, tiny_config

from neuronpath import find_path, find_path_auto, influence_path, score_path
from neuronpath.attribution.objectives import OBJECTIVES, PROBABILITY, objective_of
from neuronpath.attribution.quadrature import Quadrature
from neuronpath.attribution.reference import plain_influence, plain_search

LOGITS = torch.tensor([[0.5, -2.0, 3.0], [1.0, 1.0, -40.0]], dtype=torch.float64)
RULE = Quadrature("gauss-radau", 2)


def make():
    return problem(tiny_config(depth=2), 3)


def test_the_papers_comes_first_and_is_the_default():
    assert [*OBJECTIVES] == [*oracle.OBJECTIVES] == ["probability", "logit", "sigmoid"]
    assert OBJECTIVES["probability"] is PROBABILITY
    for call in (find_path, score_path, influence_path, plain_search, plain_influence):
        assert signature(call).parameters["objective"].default == "probability"
    given = make()
    assert torch.equal(find_path_auto(*given).score, find_path_auto(*given, objective="probability").score)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_f_is_that_of_each_rows_own_class(name):
    objective, targets = OBJECTIVES[name], torch.tensor([2, 1])
    expected = torch.stack([oracle.OBJECTIVES[name](row) for row in LOGITS])
    torch.testing.assert_close(objective.values(LOGITS), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(objective(LOGITS, targets), expected[[0, 1], [2, 1]], rtol=1e-12, atol=0)
    shown = oracle.OBJECTIVES[{"logit": "probability"}.get(name, name)]
    expected = torch.stack([shown(row) for row in LOGITS])
    torch.testing.assert_close(objective.probabilities(LOGITS), expected, rtol=1e-12, atol=0)


def test_units_and_words():
    assert [(o.name, o.noun, o.unit) for o in OBJECTIVES.values()] == [
        ("probability", "probability of the target class", "probability"),
        ("logit", "logit of the target class", "logits"),
        ("sigmoid", "logistic function of the target's logit", "sigmoid probability"),
    ]
    with pytest.raises(FrozenInstanceError):
        PROBABILITY.name = "other"


def test_an_objective_is_itself_or_its_name():
    assert objective_of("logit") is OBJECTIVES["logit"]
    half = replace(OBJECTIVES["logit"], name="half", values=lambda logits: logits / 2)
    assert objective_of(half) is half
    whole, found = (find_path(*make(), RULE, objective=of) for of in ("logit", half))
    assert torch.equal(found.path, whole.path)
    torch.testing.assert_close(2 * found.score, whole.score, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["Probability", "logits", ""])
def test_unknown_names_are_refused_everywhere(name):
    model, images, labels = make()
    path = torch.zeros(3, 2, 1, dtype=torch.long)
    for call, given in (
        (find_path, (RULE,)),
        (find_path_auto, ()),
        (score_path, (path, RULE)),
        (influence_path, (RULE,)),
        (plain_search, (RULE,)),
        (plain_influence, (RULE,)),
    ):
        with pytest.raises(
            ValueError, match=f"^objective '{name}' is unknown; choose from probability, logit, sigmoid$"
        ):
            call(model, images, labels, *given, objective=name)
