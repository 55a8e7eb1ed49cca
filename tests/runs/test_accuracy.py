"""Accuracy that is too low: what is expected, and when a run looks at it."""

import pytest
from helpers import records

from neuronpath.models.configs import CONFIGS
from neuronpath.runs import accuracy, job
from neuronpath.runs.accuracy import expected_top1, low_accuracy
from neuronpath.runs.extraction import JointAttribution


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [("MAE-B_16", 1000, 0.83), ("ViT-digits", 10, 0.83), ("ViT-B_16", 100, 0.505), ("mine", 4, 0.625)],
)
def test_expected(name, classes, expected):
    assert expected_top1(name, classes) == pytest.approx(expected)


def test_every_named_model_has_a_published_accuracy():
    assert accuracy.TOP1.keys() == CONFIGS.keys()


@pytest.mark.parametrize(
    ("correct", "images", "expected", "chance", "says"),
    [
        (400, 500, 0.8, 0.001, ""),
        (41, 500, 0.8, 0.001, ""),
        (39, 500, 0.8, 0.001, "7.8 % of 500 images, far too low: it should be 80 %"),
        (1, 500, 0.8, 0.001, "no better than guessing"),
        (0, 500, 0.8, 0, "no better than guessing"),
        (39, 500, 0.8, 0, "far too low"),
        (50, 500, 0.97, 0.1, "no better than guessing"),
        (150, 500, 0.97, 0.1, ""),
        (0, 9, 0.8, 0.001, ""),
        (0, 0, 0.8, 0.001, ""),
    ],
)
def test_low_accuracy(correct, images, expected, chance, says):
    found = low_accuracy(correct, images, expected, chance)
    assert says in found
    assert bool(found) == bool(says)


@pytest.mark.parametrize(("sample", "images"), [(500, 11), (4, 4)])
def test_accuracy_is_looked_at_once_after_the_sample_or_at_the_end(run, monkeypatch, sample, images):
    looked = []
    monkeypatch.setattr("neuronpath.runs.run.SAMPLE", sample)
    monkeypatch.setattr("neuronpath.runs.run.low_accuracy", lambda *given: looked.append(given) or "it is low")
    with pytest.warns(UserWarning, match="it is low"):
        job.main(JointAttribution("cls"), "", run.words())
    found = list(records(run.out).values())
    correct = sum(r["pred"] == r["label"] for r in found[:images])
    assert looked == [(correct, images, pytest.approx(0.625), 0.25)]
