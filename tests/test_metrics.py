"""Deviations and their intervals on examples done by hand, and the table that is made of them."""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from helpers import run_script

from neuronpath.analysis.metrics import Edited, Estimate, difference, estimate, mean_of_classes
from neuronpath.analysis.results import Results
from neuronpath.analysis.table import GROUPS, MEASURES, markdown, paper_results, table
from neuronpath.errors import UserError


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
    @pytest.mark.parametrize("what", ["mean_ratio", "ratio_of_means", "accuracy_deviation"])
    @pytest.mark.parametrize("counts", [(3, 1, 2, 6), (12,), (2, 2, 9)])
    def test_equals_a_loop(self, what, counts):
        edited = random_edited(counts)
        ratio, change = edited.after / edited.before, edited.right_after - edited.right_before

        def literal(indices: list[int]) -> float:
            if what == "ratio_of_means":
                return edited.after[indices].sum() / edited.before[indices].sum()
            if what == "accuracy_deviation":
                return 100 * change[indices].mean()
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
        before = np.random.default_rng(0).random(20)
        right = np.array([0.0, 1.0] * 10)
        edited = Edited([str(i) for i in range(20)], np.arange(20) // 10, before, before / 2, right, right)
        for found in (edited.ratio_of_means(), edited.mean_ratio()):
            assert [found.value, found.low, found.high] == pytest.approx([0.5, 0.5, 0.5])
        found = edited.accuracy_deviation()
        assert (found.value, found.low, found.high) == (0, 0, 0)

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
        ],
    )
    def test_as_text(self, found, digits, sign, text):
        assert found.shown(digits, sign) == text


SETTINGS = {"quadrature": "right", "ig_total_step": 20, "model_img_size": 224, "preprocess": "paper"}
METHODS = ("base", "influence_pattern", "ja")


class Folders:
    """Results as the jobs leave them, below `root`."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, job: str, model: str, records: dict[int, list[dict]], settings: dict | None = SETTINGS) -> Path:
        folder = self.root / job / model
        folder.mkdir(parents=True, exist_ok=True)
        for label, found in records.items():
            lines = "".join(json.dumps(r) + "\n" for r in found)
            (folder / f"imgnet_all-{label}.rlt.jsonl").write_text(lines)
        if settings is not None:
            args = {"job": job, "settings": settings, "versions": {}}
            (folder / "imgnet_all.args.json").write_text(json.dumps(args))
        return folder

    def scores(self, model: str, shift: float = 0, n: int = 3, settings: dict | None = SETTINGS) -> None:
        ja = {
            label: [
                {"image": f"{label}/{i}", "label": label, "ja_score": 0.3 + 0.1 * i + label + shift, "base_score": -i}
                for i in range(n)
            ]
            for label in (0, 1)
        }
        self.write("ja", model, ja, settings)
        influence = {label: [{"image": r["image"], "score": 0.125} for r in found] for label, found in ja.items()}
        self.write("influence_pattern", model, influence, settings)

    def edits(self, model: str, method: str = "ja", factor: float = 0.5, n: int = 4) -> Path:
        records = {
            label: [
                record(label, 0.1 + 0.2 * i, factor * (0.1 + 0.2 * i), (True, i > 0), f"{label}/{i}") for i in range(n)
            ]
            for label in (0, 1)
        }
        return self.write(f"edit/remove_enhance/{method}", model, records)

    def table(self, *models: str, **named) -> dict:
        results = Results(self.root, "imgnet_all")
        found = table(results, models or results.models(), **named)
        return json.loads(json.dumps(found, allow_nan=False))


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(tmp_path / "results")


class TestTable:
    def test_scores(self, folders):
        folders.scores("ViT-B_16")
        found = folders.table()["measures"]["joint_attribution_score"]
        assert list(found) == ["base", "influence_pattern", "ja"]
        assert found["ja"]["ViT-B_16"]["value"] == pytest.approx(0.9)
        assert found["base"]["ViT-B_16"]["value"] == pytest.approx(-1)
        entry = found["influence_pattern"]["ViT-B_16"]
        assert [entry["value"], entry["low"], entry["high"]] == pytest.approx([0.125] * 3)
        assert entry["n"] == 6
        assert found["ja"]["ViT-B_16"]["low"] < 0.9 < found["ja"]["ViT-B_16"]["high"]

    def test_edits(self, folders):
        folders.edits("tiny")
        folders.edits("tiny", "random", 0.75)
        found = folders.table("tiny")["measures"]
        assert found["removal_accuracy_deviation"]["ja"]["tiny"]["value"] == pytest.approx(-25)
        assert found["enhancement_accuracy_deviation"]["ja"]["tiny"]["value"] == pytest.approx(0)
        for what in ("mean_ratio", "ratio_of_means"):
            assert found[f"removal_probability_deviation_{what}"]["ja"]["tiny"]["value"] == pytest.approx(0.5)
            assert found[f"enhancement_probability_deviation_{what}"]["random"]["tiny"]["value"] == pytest.approx(1.5)
        removal, enhancement = found["removal_paired_probability"], found["enhancement_paired_probability"]
        assert removal["random"]["tiny"]["value"] == pytest.approx(-0.25 * 0.4)
        assert enhancement["random"]["tiny"]["value"] == pytest.approx(-0.5 * 0.4)
        assert removal["base"]["tiny"]["value"] is None
        assert "ja" not in removal

    def test_what_is_missing_is_shown_as_missing(self, folders):
        folders.scores("a")
        folders.edits("b", "base")
        found = folders.table()
        assert list(found["models"]) == ["a", "b"]
        assert found["measures"]["joint_attribution_score"]["ja"]["b"] == {"value": None}
        assert found["measures"]["removal_accuracy_deviation"]["base"]["a"] == {"value": None}
        assert found["measures"]["removal_accuracy_deviation"]["base"]["b"]["value"] == pytest.approx(-25)
        text = markdown(found)
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
        (scores,) = (row for row in rows if row[:2] == ["Joint Attribution Score", "Activation"])
        assert scores[3] == "missing"
        assert scores[2].startswith("-1.0000 [")
        missing = sum(row[2:].count("missing") for row in rows)
        entries = [e for m in found["measures"].values() for row in m.values() for e in row.values()]
        assert missing == sum(entry["value"] is None for entry in entries)
        assert missing > 20

    def test_the_papers_figures_stand_beside_ours(self, folders):
        for model in ("ViT-B_16", "ViT-L_32", "MAE-B_16", "tiny"):
            folders.scores(model)
        folders.edits("ViT-B_16")
        found = folders.table("MAE-B_16", "tiny", "ViT-B_16", "ViT-B_32", "ViT-L_32")
        measures = found["measures"]
        scores, removal, enhancement = (
            measures[name]
            for name in ("joint_attribution_score", "removal_accuracy_deviation", "enhancement_accuracy_deviation")
        )
        assert scores["ja"]["ViT-B_16"]["paper"] == 0.4078
        assert scores["ja"]["ViT-B_32"] == {"value": None, "paper": 0.6610}
        assert scores["base"]["ViT-L_32"]["paper"] == -0.0065
        assert scores["influence_pattern"]["MAE-B_16"]["paper"] == 0.0030
        assert removal["ja"]["ViT-B_16"]["paper"] == -2.40
        assert removal["influence_pattern"]["MAE-B_16"]["paper"] == -15.67
        assert removal["base"]["ViT-B_16"]["paper"] == 0.07
        assert enhancement["ja"]["ViT-L_32"]["paper"] == 5.02
        assert enhancement["base"]["ViT-B_32"]["paper"] == -0.45
        assert all("paper" not in row["tiny"] for methods in measures.values() for row in methods.values())
        assert "paper" not in removal["random"]["ViT-B_16"]
        assert all("paper" not in e for e in measures["removal_paired_probability"]["base"].values())
        text = markdown(found)
        assert "0.9000 [0.8333, 0.9667] (paper: 0.4078)" in text
        assert "missing (paper: 0.6610)" in text
        assert "-25.00 [-62.50, 0.00] (paper: -2.40)" in text
        assert "(paper: +5.02)" in text
        header = next(line for line in text.splitlines() if line.startswith("| ["))
        assert header == "| [95 % interval] | | MAE-B_16 | tiny | ViT-B_16 | ViT-B_32 | ViT-L_32 |"

    def test_the_papers_figures_are_complete(self):
        paper = paper_results()
        assert paper["models"] == ["ViT-B_16", "ViT-B_32", "ViT-L_32", "MAE-B_16"]
        for key in ("joint_attribution_score", "removal_accuracy_deviation", "enhancement_accuracy_deviation"):
            assert sorted(paper[key]) == sorted(METHODS)
            assert all(len(row) == 4 for row in paper[key].values())
            assert sum(measure.paper == key for measure in MEASURES.values()) == 1

    def test_rows_that_were_made_otherwise_say_so(self, folders):
        """Each row of other weights, quadrature, preprocessing or paths has a number, and a note says in what."""
        own = {**SETTINGS, "checkpoint_sha256": "a" * 64, "target": "label"}
        for model in ("a", "b"):
            folders.scores(model, settings=own)
            folders.edits(model, "ja")
            folders.edits(model, "base")
        other = own | {"checkpoint_sha256": "b" * 64, "quadrature": "left", "search": "layer"}
        folders.write("influence_pattern", "b", {0: [{"image": "0/0", "score": 1.0}]}, other)
        edits = folders.root / "edit/remove_enhance/base/b/imgnet_all.args.json"
        made = {"job": "edit", "settings": {"checkpoint_sha256": "a" * 64}, "versions": {}}
        edits.write_text(json.dumps(made | {"paths": {"checkpoint_sha256": "c" * 64, "preprocess": "native"}}))
        found = folders.table()
        assert list(found["mixed"]) == ["b"]
        text = markdown(found)
        (first,) = (line for line in text.splitlines() if line.startswith("(1)"))
        assert "b in influence_pattern" in first
        assert "checkpoint_sha256 aaaaaaaaaaaa… → bbbbbbbbbbbb…" in first
        assert "quadrature right → left" in first
        assert "search" not in first
        (second,) = (line for line in text.splitlines() if line.startswith("(2)"))
        assert "preprocess paper → native" in second
        assert "its paths: checkpoint_sha256 cccccccccccc… → aaaaaaaaaaaa…" in second
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"][2:]
        marked = [(method, cell[-3:]) for _, method, *cells in rows for cell in cells[1:] if cell.endswith(")")]
        assert ("Influence Pattern", "(1)") in marked
        assert all(mark == {"Influence Pattern": "(1)", "Activation": "(2)"}[method] for method, mark in marked)
        assert not any(cells[0].endswith((" (1)", " (2)")) for _, _, *cells in rows)
        assert sum(method == "Activation" for method, _ in marked) == len(MEASURES) - 1

    def test_all_alike_says_nothing(self, folders):
        folders.scores("a")
        folders.edits("a")
        found = folders.table()
        assert found["mixed"] == {}
        assert "(1)" not in markdown(found)

    def test_a_record_that_stands_twice_is_refused(self, folders):
        folders.scores("a")
        file = folders.root / "ja/a/imgnet_all-1.rlt.jsonl"
        file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
        with pytest.raises(UserError, match=r"imgnet_all-1\.rlt\.jsonl, line 4: a second record of 1/0"):
            folders.table()

    def test_the_header_says_how_it_was_made(self, folders):
        folders.scores("a", settings={**SETTINGS, "quadrature": "gauss-legendre", "ig_total_step": 4})
        folders.scores("b", n=5, settings={**SETTINGS, "model_img_size": 384, "preprocess": "native"})
        folders.edits("b", n=2)
        folders.scores("c", settings=None)
        found = folders.table()
        assert found["models"]["a"] == {
            "quadrature": "gauss-legendre", "steps": 4, "img_size": 224, "preprocess": "paper",
        }  # fmt: skip
        a, b, c = markdown(found).splitlines()[:3]
        assert a.startswith("a: ")
        assert all(word in a for word in ("gauss-legendre", "m = 4", "224 pixels", "paper preprocessing", "n = 6"))
        assert all(word in b for word in ("b: ", "right", "m = 20", "384 pixels", "native", "n = 4 to 10"))
        assert c.startswith("c: ")
        assert c.count("unknown") == 2

    def test_chosen_measures(self, folders):
        folders.scores("a")
        for group in GROUPS:
            found = folders.table(groups=[group])["measures"]
            assert found.keys() == {key for key, measure in MEASURES.items() if measure.group == group}
            assert found

    def test_nothing_is_minus_zero(self, folders):
        folders.write("ja", "a", {0: [{"image": f"{i}", "ja_score": -1e-9, "base_score": -0.0} for i in range(3)]})
        folders.edits("a", factor=1 - 1e-9)
        folders.edits("a", "base", factor=1)
        text = markdown(folders.table())
        assert "-0.0000" not in text
        assert "-0.00 " not in text
        assert "-0.00]" not in text
        assert "| 0.0000 [0.0000, 0.0000] |" in text
        assert "| +0.0000 [0.0000, 0.0000] |" in text

    def test_images_left_out_are_counted(self, folders):
        usable = [record(0, 0.5, 0.25 + 0.25 * (i % 2), image=f"{i}") for i in range(10)]
        folders.write("edit/remove_enhance/ja", "a", {0: [*usable, record(0, 0.0, 0.1, image="dark")]})
        found = folders.table()
        entry = found["measures"]["removal_probability_deviation_mean_ratio"]["ja"]["a"]
        assert (entry["value"], entry["n"], entry["left_out"]) == (pytest.approx(0.75), 10, 1)
        assert found["measures"]["removal_accuracy_deviation"]["ja"]["a"]["n"] == 11
        assert "Up to 1 images" in markdown(found)
        folders.write("edit/remove_enhance/ja", "a", {0: usable})
        assert "left out" not in markdown(folders.table())

    def test_every_class_with_one_image(self, folders):
        records = {label: [record(label, 0.5, 0.25 * label, image=f"{label}")] for label in (0, 1, 2)}
        folders.write("edit/remove_enhance/ja", "a", records)
        found = folders.table()
        entry = found["measures"]["removal_probability_deviation_ratio_of_means"]["ja"]["a"]
        assert (entry["value"], entry["low"], entry["high"], entry["n"]) == (0.5, None, None, 3)
        assert "| 0.5000 |" in markdown(found)

    def test_a_class_without_records(self, folders):
        folders.scores("a")
        before = folders.table()
        (folders.root / "ja" / "a" / "imgnet_all-7.rlt.jsonl").touch()
        assert folders.table() == before

    def test_matched_control_counts_the_draws(self, folders):
        draws = [{"remove": 0.2, "remove_label": label} for label in (0, 0, 0, 0, 1)]
        records = {0: [record(0, 0.4, 0.2, image=f"{i}", draws=draws) for i in range(2)]}
        for draw in draws:
            draw |= {"enhance": 0.1, "enhance_label": 1}
        folders.write("edit/remove_enhance/random", "a", records)
        found = folders.table()["measures"]
        assert found["removal_accuracy_deviation"]["random"]["a"]["value"] == pytest.approx(-20)
        assert found["enhancement_accuracy_deviation"]["random"]["a"]["value"] == pytest.approx(-100)


class TestFaults:
    def fault(self, do, *words) -> str:
        with pytest.raises(UserError) as caught:
            do()
        assert "\n" not in str(caught.value)
        assert all(str(word) in str(caught.value) for word in words), str(caught.value)

    def test_no_records_at_all(self, folders, tmp_path):
        self.fault(folders.table, folders.root, "imgnet_all")
        folders.root.mkdir()
        self.fault(folders.table, folders.root, "imgnet_all")
        folders.scores("a")
        results = Results(folders.root, "other")
        self.fault(results.models, folders.root, "other")

    @pytest.mark.parametrize(("job", "key"), [("ja", "ja_score"), ("ja", "base_score"), ("influence_pattern", "score")])
    @pytest.mark.parametrize(
        "value",
        [
            "lacking",
            None,
            "text",
            [1, 2],
        ],
    )
    def test_scores_that_are_none(self, folders, job, key, value):
        folders.scores("a")
        file = folders.root / job / "a" / "imgnet_all-1.rlt.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines[1][key] = value
        if value == "lacking":
            del lines[1][key]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.fault(folders.table, folders.root / job / "a", key)

    @pytest.mark.parametrize("key", ["original", "remove", "enhance", "original_label", "remove_label"])
    def test_edits_that_lack_something(self, folders, key):
        folder = folders.edits("a")
        file = folder / "imgnet_all-1.rlt.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        del lines[2][key]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.fault(folders.table, folder, key)

    @pytest.mark.parametrize("value", [None, "text", [1, 2]], ids=str)
    def test_edits_that_are_no_numbers(self, folders, value):
        folder = folders.edits("a")
        file = folder / "imgnet_all-1.rlt.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines[2]["remove"] = value
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.fault(folders.table, folder)

    def test_broken_line(self, folders):
        folder = folders.edits("a")
        file = folder / "imgnet_all-1.rlt.jsonl"
        file.write_text(file.read_text() + '{"image": "x", "remove": NaN}\n')
        self.fault(folders.table, file, "line 5")

    def test_only_label_files_without_records(self, folders):
        """Every image was skipped, or every run was killed before its first record."""
        folders.write("edit/remove_enhance/ja", "a", {0: [], 1: []})
        folders.write("ja", "a", {0: []})
        measures = folders.table("a")["measures"]
        assert all(row["a"]["value"] is None for methods in measures.values() for row in methods.values())

    def test_two_methods_without_a_common_image(self, folders):
        folders.edits("a")
        others = {0: [record(0, 0.5, 0.5, image="elsewhere"), record(0, 0.5, 0.5, image="nowhere")]}
        folders.write("edit/remove_enhance/base", "a", others)
        assert folders.table()["measures"]["removal_paired_probability"]["base"]["a"]["value"] is None

    def test_every_probability_is_0(self, folders):
        records = {0: [record(0, 0.0, 0.0, image="a"), record(0, 0.0, 0.0, image="b")]}
        folders.write("edit/remove_enhance/ja", "a", records)
        measures = folders.table()["measures"]
        for what in ("mean_ratio", "ratio_of_means"):
            assert measures[f"removal_probability_deviation_{what}"]["ja"]["a"]["value"] is None

    def test_resamples_whose_probabilities_are_all_0(self, folders):
        """Two images, one of them 0 before: a quarter of the resamples has no ratio of means."""
        records = {0: [record(0, 0.0, 0.1, image="a"), record(0, 0.5, 0.25, image="b")]}
        folders.write("edit/remove_enhance/ja", "a", records)
        folders.table()


class TestScript:
    """In a process of its own."""

    def test_table(self, folders, tmp_path):
        folders.scores("ViT-B_16")
        folders.edits("ViT-B_16")
        file = tmp_path / "new" / "table.json"
        result = run_script("scripts/table.py", "--results", "results", "--json", file, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        expected = folders.table()
        assert json.loads(file.read_text()) == expected
        assert markdown(expected) in result.stdout
        assert str(file) in result.stdout
