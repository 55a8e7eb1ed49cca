"""What top-1 is expected of which model, and when a run says that it is far from it."""

import pytest

from neuronpath.runs.accuracy import TOP1, expected_top1, low_accuracy


def test_published_accuracies():
    vit = dict.fromkeys(("ViT-B_16", "ViT-B_32", "ViT-L_16", "ViT-L_32", "ViT-H_14"), 0.8)
    digits = {"ViT-digits": 0.83, "MAE-digits": 0.79}
    assert vit | {"MAE-B_16": 0.83, "MAE-L_16": 0.85, "MAE-H_14": 0.86} | digits == TOP1


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [("ViT-B_16", 1000, 0.8), ("ViT-B_16", 999, (1 + 1 / 999) / 2), ("auto", 10, 0.55), ("mine", 1, 1.0)],
)
def test_unknown_models_are_expected_halfway_between_chance_and_all(name, classes, expected):
    assert expected_top1(name, classes) == pytest.approx(expected)


ADVICE = "are these the weights of this data set, its folders in the order of the labels, --preprocess right?"


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ((9, 9, 0.8, 0.001), None),
        ((0, 9, 0.8, 0.1), None),
        ((0, 10, 0.8, 0.1), "top-1 is 0.0 % of 10 images, no better than guessing: it should be 80 % or so"),
        ((102, 1000, 0.9, 0.0125), None),  # a tenth of the way: 0.0125 + 0.08875 = 0.10125
        ((101, 1000, 0.9, 0.0125), "top-1 is 10.1 % of 1000 images, far too low: it should be 90 % or so"),
        ((19, 1000, 0.9, 0.0125), "top-1 is 1.9 % of 1000 images, no better than guessing: it should be 90 % or so"),
        ((20, 1000, 0.9, 0.0125), "top-1 is 2.0 % of 1000 images, far too low: it should be 90 % or so"),
        ((8, 100, 0.8), None),
        ((7, 100, 0.8), "top-1 is 7.0 % of 100 images, far too low: it should be 80 % or so"),
    ],
)
def test_a_tenth_of_the_way_from_chance_is_too_low_and_two_deviations_are_guessing(given, verdict):
    assert low_accuracy(*given) == (f"{verdict}; {ADVICE}" if verdict else "")
