"""The bootstrap and the differences in exact numbers, so that no other seed, method or number of resamples passes."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import bootstrap

from neuronpath.analysis.metrics import RESAMPLES, Edited, Estimate, Missing, difference, estimate, mean_of_classes


def test_the_interval_is_scipys_percentile_bootstrap_of_9999_resamples_from_seed_0():
    values = np.random.default_rng(5).normal(size=23)
    found = estimate(np.zeros(23), lambda i: values[i].mean(-1))
    expected = bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", confidence_level=0.95, rng=np.random.default_rng(0)
    ).confidence_interval
    assert RESAMPLES == 9999
    assert found == Estimate(values.mean(), *map(pytest.approx, expected), 23)


def test_nothing_to_estimate_it_from_is_missing():
    with pytest.raises(Missing):
        estimate(np.array([]), lambda i: i.mean(-1))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=12))
def test_the_mean_of_classes_weighs_every_class_alike(pairs):
    labels, values = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    means = [values[labels == label].mean() for label in set(labels.tolist())]
    found = mean_of_classes(values, labels)(np.arange(len(pairs)))
    assert found == pytest.approx(np.mean(means), abs=1e-9)


def record(image: str | None, right: bool, after: float = 0.25, original: float = 0.5) -> dict:
    found = {"original": original, "original_label": 4, "remove": after, "remove_label": 4 if right else 0}
    return found | ({} if image is None else {"image": image})


def test_what_is_read_is_of_each_record_and_an_unnamed_image_is_called_by_label_and_place():
    records = {4: [record("a", True), record(None, False, 0.75)], 2: [record(None, True)]}
    found = Edited.of(records, "remove")
    assert found.images == ["a", "4/1", "2/0"]
    assert found.labels.tolist() == [4, 4, 2]
    assert found.right_before.tolist() == [1, 1, 0]
    assert found.right_after.tolist() == [1, 0, 0]
    assert found.after.tolist() == [0.25, 0.75, 0.25]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        Edited.of({4: [record("a", True, value)]}, "remove")


def test_ratios_are_of_after_over_before_and_only_of_images_that_had_a_probability():
    records = {4: [record("a", True, 0.25, 0.5), record("b", True, 0.9, 0.0), record("c", True, 1e-12, 1e-12)]}
    found = Edited.of(records, "remove")
    assert found.usable().tolist() == [True, False, True]
    assert found.probability_deviation() == {4: 0.75}
    assert (found.mean_ratio().value, found.mean_ratio().n, found.mean_ratio().left_out) == (0.75, 2, 1)
    assert (found.ratio_of_means().value, found.ratio_of_means().left_out) == (pytest.approx(0.5), 1)


def test_a_difference_is_the_first_minus_the_second_of_the_images_of_both():
    one = Edited.of({4: [record("a", True, 0.75), record("b", True, 0.5), record("c", True, 9)]}, "remove")
    other = Edited.of({4: [record("b", False, 0.25), record("a", True, 0.25), record("d", True, 9)]}, "remove")
    assert (difference(one, other, "after").value, difference(one, other, "after").n) == (0.375, 2)
    assert difference(one, other, "right_after").value == 0.5
    assert difference(other, one, "after").value == -0.375
    with pytest.raises(Missing):
        difference(one, Edited.of({4: [record("z", True)]}, "remove"), "after")
