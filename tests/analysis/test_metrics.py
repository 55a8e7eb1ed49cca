"""Deviations and their intervals, on examples done by hand."""

import math
import re
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import binomtest

from neuronpath.analysis.metrics import (
    Edited,
    Estimate,
    Missing,
    accuracy_difference,
    class_means,
    difference,
    estimate,
    mean_of_classes,
)
from neuronpath.analysis.proportions import newcombe, sign_flip_p


def record(label: int, original: float, removed: float, right=(True, True), image: str = "", **more) -> dict:
    """One of edit.py; `right` says whether the predicted class is the label before and after removal."""
    before, after = (label if r else label + 1 for r in right)
    found = {"label": label, "pred": before, "prob": original, "method": "ja", "path": [[0]], "original": original}
    found |= {"original_label": before, "remove": removed, "remove_label": after, "enhance": 2 * removed}
    return {"image": image or f"{label}/{original}", **found, "enhance_label": before, **more}


#: Class 4: ratios 1/2, 1/4 and 1; class 7: ratio 3. Right before and after: 3 and 1 of 4.
BY_HAND = {
    4: [record(4, 0.5, 0.25), record(4, 0.8, 0.2, (True, False)), record(4, 0.1, 0.1, (False, False))],
    7: [record(7, 0.2, 0.6, (True, False))],
}


def random_edited(counts=(3, 1, 2, 6), seed: int = 0) -> Edited:
    rng, n = np.random.default_rng(seed), sum(counts)
    labels = np.repeat(np.arange(len(counts)) * 3, counts)
    before, after, right = rng.random(n), rng.random(n), rng.random((2, n)) < 0.6
    return Edited([str(i) for i in range(n)], labels, before, after, *right.astype(float))


def loop(groups: list[list[int]], statistic, resamples: int = 4000, seed: int = 1) -> tuple[float, float]:
    """The stratified percentile bootstrap, literally; `statistic` of a list of indices."""
    rng, values = np.random.default_rng(seed), []
    for _ in range(resamples):
        values.append(statistic([group[i] for group in groups for i in rng.integers(0, len(group), len(group))]))
    return tuple(np.percentile(values, [2.5, 97.5]))


def groups_of(labels) -> list[list[int]]:
    groups = defaultdict(list)
    for i, label in enumerate(labels):
        groups[label].append(i)
    return list(groups.values())


class TestValues:
    def test_of_the_records(self):
        edited = Edited.of(BY_HAND, "remove")
        assert edited.images == ["4/0.5", "4/0.8", "4/0.1", "7/0.2"]
        assert edited.labels.tolist() == [4, 4, 4, 7]
        assert edited.before.tolist() == [0.5, 0.8, 0.1, 0.2]
        assert edited.after.tolist() == [0.25, 0.2, 0.1, 0.6]
        assert edited.right_before.tolist() == [1, 1, 0, 1]
        assert edited.right_after.tolist() == [1, 0, 0, 0]

    def test_by_hand(self):
        edited = Edited.of(BY_HAND, "remove")
        assert edited.probability_deviation() == pytest.approx({4: (1 / 2 + 1 / 4 + 1) / 3, 7: 3})
        assert edited.mean_ratio().value == pytest.approx((7 / 12 + 3) / 2)
        assert edited.ratio_of_means().value == pytest.approx(1.15 / 1.6)
        assert edited.accuracy_deviation().value == pytest.approx(100 * (1 - 3) / 4)
        for found in (edited.mean_ratio(), edited.ratio_of_means(), edited.accuracy_deviation()):
            assert (found.n, found.left_out) == (4, 0)

    def test_of_another_operation(self):
        edited = Edited.of(BY_HAND, "enhance")
        assert edited.after.tolist() == pytest.approx([0.5, 0.4, 0.2, 1.2])
        assert edited.ratio_of_means().value == pytest.approx(2.3 / 1.6)
        assert edited.accuracy_deviation().value == 0

    def test_probability_0_is_left_out_of_ratios_and_counted(self):
        edited = Edited.of({**BY_HAND, 4: [*BY_HAND[4], record(4, 0.0, 0.3)], 9: [record(9, 0.0, 0.1)]}, "remove")
        assert edited.probability_deviation() == pytest.approx({4: 7 / 12, 7: 3})
        found = edited.mean_ratio()
        assert found.value == pytest.approx((7 / 12 + 3) / 2)
        assert (found.n, found.left_out) == (4, 2)
        assert math.isfinite(found.low)
        assert math.isfinite(found.high)
        accuracy = edited.accuracy_deviation()
        assert accuracy.value == pytest.approx(100 * (3 - 5) / 6)
        assert (accuracy.n, accuracy.left_out) == (6, 0)

    def test_probability_0_is_left_out_of_the_ratio_of_means_too(self):
        found = Edited.of({4: [*BY_HAND[4], record(4, 0.0, 0.3)], 7: BY_HAND[7]}, "remove").ratio_of_means()
        assert found.value == pytest.approx(1.15 / 1.6)
        assert (found.n, found.left_out) == (4, 1)

    def test_classes_weigh_the_same_in_the_mean_of_ratios_alone(self):
        records = {0: [record(0, 0.5, 0.5)] * 9, 1: [record(1, 0.5, 1.0)]}
        edited = Edited.of(records, "remove")
        assert edited.mean_ratio().value == pytest.approx(1.5)
        assert edited.ratio_of_means().value == pytest.approx(5.5 / 5)

    def test_draws_are_averaged(self):
        draws = [{"remove": 0.1 + 0.2 * i, "remove_label": label} for i, label in enumerate((2, 2, 0, 1, 2))]
        one = record(2, 0.8, 0.5, (True, True), draws=draws)  # the label of the mean is right, but 2 draws are not
        edited = Edited.of({2: [one, record(2, 0.4, 0.1, (False, False))]}, "remove")
        assert edited.after.tolist() == [0.5, 0.1]
        assert edited.right_after.tolist() == pytest.approx([0.6, 0])
        assert edited.accuracy_deviation().value == pytest.approx(100 * (0.6 - 1) / 2)

    def test_records_without_the_operation(self):
        for key in ("original", "remove", "remove_label", "original_label"):
            one = record(1, 0.5, 0.5)
            del one[key]
            with pytest.raises(KeyError, match=key):
                Edited.of({1: [one]}, "remove")

    def test_records_without_images_are_told_apart(self):
        bare = [{k: v for k, v in r.items() if k != "image"} for r in BY_HAND[4]]
        assert len(set(Edited.of({4: bare, 5: bare}, "remove").images)) == 6


class TestInterval:
    @pytest.mark.parametrize("what", ["mean_ratio", "ratio_of_means"])
    @pytest.mark.parametrize("counts", [(3, 1, 2, 6), (12,), (2, 2, 9)])
    def test_equals_a_loop(self, what, counts):
        edited = random_edited(counts)
        ratio = edited.after / edited.before

        def literal(indices: list[int]) -> float:
            if what == "ratio_of_means":
                return edited.after[indices].sum() / edited.before[indices].sum()
            classes = [[i for i in indices if edited.labels[i] == label] for label in np.unique(edited.labels)]
            return float(np.mean([ratio[members].mean() for members in classes]))

        found = getattr(edited, what)()
        assert found.value == pytest.approx(literal(list(range(sum(counts)))))
        low, high = loop(groups_of(edited.labels), literal)
        assert found.low < found.value < found.high
        assert [found.low, found.high] == pytest.approx([low, high], abs=0.08 * (high - low))

    def test_images_are_resampled_within_their_class(self):
        """Two classes far apart, each nearly constant: the interval does not see the distance between them."""
        values = np.array([0.0, 0.1, 100.0, 100.1])
        labels = np.array([0, 0, 1, 1])
        found = estimate(labels, lambda i: values[i].mean(-1))
        assert found.value == pytest.approx(50.05)
        assert [found.low, found.high] == pytest.approx([50.0, 50.1])

    def test_order_of_the_images_does_not_matter_to_the_value(self):
        edited = random_edited()
        order = np.random.default_rng(3).permutation(len(edited.images))
        mixed = Edited(
            [edited.images[i] for i in order],
            *(getattr(edited, k)[order] for k in ("labels", "before", "after", "right_before", "right_after")),
        )
        for what in ("mean_ratio", "ratio_of_means", "accuracy_deviation"):
            a, b = getattr(edited, what)(), getattr(mixed, what)()
            assert a.value == pytest.approx(b.value)
            assert [a.low, a.high] == pytest.approx([b.low, b.high], abs=0.08 * (a.high - a.low))

    def test_is_the_same_every_time_and_depends_on_the_seed(self):
        edited = random_edited()
        statistic = mean_of_classes(edited.after, edited.labels)
        assert edited.mean_ratio() == edited.mean_ratio()
        assert estimate(edited.labels, statistic, 1) == estimate(edited.labels, statistic, 1)
        assert estimate(edited.labels, statistic, 1) != estimate(edited.labels, statistic, 2)

    def test_is_a_point_where_all_images_agree(self):
        labels = np.array([0, 0, 1, 1, 1])
        found = estimate(labels, lambda i: np.full(5, 0.25)[i].mean(-1))
        assert (found.value, found.low, found.high, found.n) == (0.25, 0.25, 0.25, 5)

    def test_is_none_where_every_class_has_one_image(self):
        labels, values = np.arange(4), np.array([1.0, 2, 3, 6])
        assert estimate(labels, lambda i: values[i].mean(-1)) == Estimate(3.0, None, None, 4)

    def test_a_class_of_one_image_keeps_it(self):
        """Class 0 has one image of value 12, class 1 three of -3, 0 and 3."""
        values, labels = np.array([12.0, -3, 0, 3]), np.array([0, 1, 1, 1])
        by_class = estimate(labels, mean_of_classes(values, labels))
        assert by_class.value == pytest.approx(6)
        assert [by_class.low, by_class.high] == pytest.approx([6 - 3 / 2, 6 + 3 / 2], abs=0.51)
        low, high = loop(groups_of(labels), lambda i: values[i].mean())
        by_image = estimate(labels, lambda i: values[i].mean(-1))
        assert [by_image.low, by_image.high] == pytest.approx([low, high], abs=0.6)
        assert 3 - 9 / 4 <= by_image.low < by_image.high <= 3 + 9 / 4

    def test_before_and_after_stay_paired(self):
        """After is exactly half of before: the ratio cannot vary, however much both do."""
        before, right = np.random.default_rng(0).random(20), np.ones(20)
        edited = Edited([str(i) for i in range(20)], np.arange(20) // 10, before, before / 2, right, right)
        for found in (edited.ratio_of_means(), edited.mean_ratio()):
            assert [found.value, found.low, found.high] == pytest.approx([0.5, 0.5, 0.5])

    def test_more_images_narrow_it(self):
        few, many = (random_edited((n, n)).ratio_of_means() for n in (10, 1000))
        assert many.high - many.low < 0.3 * (few.high - few.low)

    def test_covers_the_truth_about_as_often_as_it_says(self):
        rng, hits, trials = np.random.default_rng(5), 0, 60
        labels = np.repeat([0, 1], 25)
        for _ in range(trials):
            values = rng.normal(size=50) + labels
            found = estimate(labels, lambda i, values=values: values[i].mean(-1))
            hits += found.low <= 0.5 <= found.high
        assert 0.85 * trials <= hits < trials


def flips(both: int, gained: int, lost: int, neither: int) -> Edited:
    """Images that are right before and after, after alone, before alone, or never."""
    before = np.repeat([1.0, 0, 1, 0], [both, gained, lost, neither])
    after = np.repeat([1.0, 1, 0, 0], [both, gained, lost, neither])
    n = len(before)
    return Edited([str(i) for i in range(n)], np.arange(n) % 3, np.ones(n), np.ones(n), before, after)


class TestAccuracy:
    @pytest.mark.parametrize("cells", [(36, 12, 2, 0), (20, 0, 5, 30), (3, 1, 1, 0), (1, 0, 0, 0)])
    def test_newcombes_interval_and_mcnemars_test(self, cells):
        _, gained, lost, _ = cells
        found = flips(*cells).accuracy_deviation()
        assert found.value == pytest.approx(100 * (gained - lost) / sum(cells))
        assert [found.low, found.high] == pytest.approx([100 * x for x in newcombe(*cells)])
        exact = binomtest(gained, gained + lost).pvalue if gained + lost else 1
        assert found.p == pytest.approx(exact)
        assert (found.n, found.left_out) == (sum(cells), 0)

    def test_four_flips_of_355(self):
        found = flips(270, 0, 4, 81).accuracy_deviation()
        assert found.shown(2, True) == "-1.13 [-2.50, 0.19], p = 0.125"

    def test_no_flip_has_an_interval_all_the_same(self):
        for cells in ((270, 0, 0, 85), (355, 0, 0, 0), (40000, 0, 0, 10000)):
            found = flips(*cells).accuracy_deviation()
            assert (found.value, found.p) == (0, 1)
            assert found.low < 0 < found.high
            low, high = re.fullmatch(r"\+0\.0+ \[(.+), (.+)\], p = 1", found.shown(2, True)).groups()
            assert float(low) < 0 < float(high)

    def test_each_draw_counts_its_share(self):
        """One image: right before, and after in 3 of 5 draws; another wrong before, and right in 1 of 5."""
        n, right = 2, np.array([1.0, 0.0])
        edited = Edited(["a", "b"], np.zeros(n), np.ones(n), np.ones(n), right, np.array([0.6, 0.2]))
        found = edited.accuracy_deviation()
        assert found.value == pytest.approx(100 * (-0.4 + 0.2) / 2)
        assert [found.low, found.high] == pytest.approx([100 * x for x in newcombe(0.6, 0.2, 0.4, 0.8)])
        assert found.p == sign_flip_p(np.array([-0.4, 0.2])) == 1

    def test_no_images(self):
        with pytest.raises(Missing):
            flips(0, 0, 0, 0).accuracy_deviation()

    def test_between_two_edits_of_the_same_images(self):
        one, other = flips(5, 3, 1, 1), flips(4, 0, 4, 2)
        order = np.random.default_rng(0).permutation(10)
        mixed = Edited(
            [other.images[i] for i in order],
            *(getattr(other, k)[order] for k in ("labels", "before", "after", "right_before", "right_after")),
        )
        cells = [0, 0, 0, 0]
        for a, b in zip(one.right_after, other.right_after, strict=True):
            cells[[(1, 1), (1, 0), (0, 1), (0, 0)].index((a, b))] += 1
        for found in (accuracy_difference(one, other), accuracy_difference(one, mixed)):
            assert found.value == pytest.approx(100 * (8 - 4) / 10)
            assert [found.low, found.high] == pytest.approx([100 * x for x in newcombe(*cells)])
            assert found.p == pytest.approx(binomtest(cells[1], cells[1] + cells[2]).pvalue)

    def test_between_edits_of_which_only_some_images_are_common(self):
        one = Edited.of({4: [record(4, 1, 1, image=i) for i in "abc"]}, "remove")
        other = Edited.of({4: [record(4, 1, 1, (True, False), image=i) for i in "cxb"]}, "remove")
        assert (accuracy_difference(one, other).value, accuracy_difference(one, other).n) == (100, 2)
        with pytest.raises(Missing):
            accuracy_difference(one, Edited.of({4: [record(4, 1, 1, image="z")]}, "remove"))


class TestDifference:
    def edited(self, images: list[str], after: list[float], labels=None) -> Edited:
        n = len(images)
        right = np.array([value > 0.5 for value in after], float)
        return Edited(images, np.array(labels or [0] * n), np.ones(n), np.array(after), np.ones(n), right)

    def test_joins_by_image(self):
        one = self.edited(["a", "b", "c"], [0.9, 0.5, 0.4])
        other = self.edited(["c", "a", "b"], [0.1, 0.6, 0.4])
        found = difference(one, other, "after")
        assert found.value == pytest.approx((0.3 + 0.1 + 0.3) / 3)
        assert found.n == 3
        assert 0.1 - 1e-9 <= found.low < found.value < found.high <= 0.3 + 1e-9
        assert difference(one, other, "right_after").value == 0

    def test_ignores_images_that_only_one_has(self):
        one = self.edited(["a", "x", "b", "c"], [0.9, 99, 0.5, 0.4], [0, 0, 1, 1])
        other = self.edited(["y", "c", "b", "z"], [77, 0.1, 0.6, 55])
        found = difference(one, other, "after")
        assert found.value == pytest.approx((0.3 - 0.1) / 2)
        assert found.n == 2
        reverse = difference(other, one, "after")
        assert reverse.value == pytest.approx(-found.value)

    def test_pairing_makes_it_narrow(self):
        """Both vary from 0 to 1, one always 0.01 above the other."""
        after = np.random.default_rng(0).random(30).tolist()
        images = [str(i) for i in range(30)]
        found = difference(self.edited(images, [x + 0.01 for x in after]), self.edited(images, after), "after")
        assert [found.value, found.low, found.high] == pytest.approx([0.01, 0.01, 0.01])

    def test_images_are_resampled_within_their_class(self):
        """Differences of 0 and 0.1 in one class, 100 and 100.1 in the other; the other run has another order."""
        one = self.edited(["a", "b", "c", "d"], [0, 0.1, 100, 100.1], [0, 0, 1, 1])
        other = self.edited(["c", "a", "d", "b"], [0, 0, 0, 0], [1, 0, 1, 0])
        for a, b, sign in ((one, other, 1), (other, one, -1)):
            found = difference(a, b, "after")
            assert sorted([sign * found.low, sign * found.high]) == pytest.approx([50.0, 50.1])

    def test_shares_of_right_classes(self):
        one, other = self.edited(["a", "b"], [0.9, 0.9]), self.edited(["b", "a"], [0.1, 0.9])
        assert difference(one, other, "right_after").value == pytest.approx(0.5)


class TestShown:
    @pytest.mark.parametrize(
        ("found", "digits", "sign", "text"),
        [
            (Estimate(0.12345, 0.1, 0.2, 5), 3, False, "0.123 [0.100, 0.200]"),
            (Estimate(1.5, None, None, 5), 2, True, "+1.50"),
            (Estimate(-1.5, -2, -1, 5), 2, True, "-1.50 [-2.00, -1.00]"),
            (Estimate(-0.001, -0.004, 0.004, 5), 2, False, "0.00 [0.00, 0.00]"),
            (Estimate(-0.0, -0.0, -0.0, 5), 2, False, "0.00 [0.00, 0.00]"),
            (Estimate(-0.001, None, None, 5), 2, True, "+0.00"),
            (Estimate(0.0, 0.0, 1.0, 5), 1, False, "0.0 [0.0, 1.0]"),
            (Estimate(-1.5, -2, -1, 5, p=0.03125), 2, True, "-1.50 [-2.00, -1.00], p = 0.0312"),
            (Estimate(0, -0.0039, 0.0039, 5, p=1.0), 2, True, "+0.000 [-0.004, 0.004], p = 1"),
            (Estimate(5, 4, 6, 5, p=1e-12), 1, True, "+5.0 [4.0, 6.0], p < 1e-9"),
        ],
    )
    def test_as_text(self, found, digits, sign, text):
        assert found.shown(digits, sign) == text


def test_records_without_image_names_are_paired_within_their_class():
    """One method has a record less of the first class; those of the second still meet."""
    few, many = ({4: BY_HAND[4][:n], 7: [record(7, 0.2, 0.6), record(7, 0.4, 0.1)]} for n in (2, 3))
    for records in (few, many):
        for r in (r for found in records.values() for r in found):
            r.pop("image", None)
    one, other = Edited.of(few, "remove"), Edited.of(many, "remove")
    assert one.images == ["4/0", "4/1", "7/0", "7/1"]
    assert other.images == ["4/0", "4/1", "4/2", "7/0", "7/1"]


def test_means_of_classes_are_those_that_each_would_have_alone():
    rng = np.random.default_rng(5)
    values = {label: rng.normal(size=n) for label, n in ((7, 4), (1, 9), (3, 1), (4, 4), (8, 0), (9, 4))}
    values[9][:] = 0.25
    found = class_means(values)
    assert [*found] == [1, 3, 4, 7, 9]
    for label, estimated in found.items():
        alone = estimate(np.full(len(values[label]), label), lambda i, x=values[label]: x[i].mean(-1))
        assert estimated == alone
    assert (found[3].low, found[9].low, found[9].high) == (None, 0.25, 0.25)
