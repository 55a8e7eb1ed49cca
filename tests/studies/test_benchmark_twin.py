"""The benchmark's adapted model: timm's with the same weights, so that paths and scores are the same."""

import sys

import pytest
import torch
from helpers import fault, problem, tiny_config

from neuronpath import Quadrature, find_path
from neuronpath.models.adapted import adapt
from neuronpath.studies.benchmark import adapted_table, timm_twin

RULE = Quadrature("gauss-radau", 3)


@pytest.mark.parametrize("kind", ["cls", "mean"])
def test_the_same_model_of_timm_has_the_same_paths_and_scores(kind):
    model, images, labels = problem(tiny_config(kind), 3)
    expected = find_path(model, images, labels, RULE)
    found = find_path(adapt(timm_twin(model), images), images, labels, RULE)
    assert torch.equal(found.path, expected.path)
    assert torch.equal(found.base_path, expected.base_path)
    torch.testing.assert_close(found.score, expected.score, rtol=1e-9, atol=0)
    table = adapted_table(model, images, labels, RULE, 10)
    paths = [contender.run().path for contender in table.values()]
    assert list(table) == ["own model", "timm's, adapted"]
    assert torch.equal(*paths)
    assert len({contender.flops for contender in table.values()}) == 1


def test_without_timm_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    assert fault(timm_twin, problem(tiny_config(), 1)[0]).endswith("; pip install timm")
