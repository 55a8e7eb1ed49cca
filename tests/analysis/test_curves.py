"""Curves over K, their areas and paired differences, against loops and examples done by hand."""

import json
import math

import numpy as np
import pytest
from helpers import fault, write_lines
from made import write_args

from neuronpath.analysis.curves import Curve, Which, area_difference, log_area, markdown, over_k, read_curves, table
from neuronpath.analysis.metrics import Edited, Missing

KS = (1, 2, 5, 10, 20, 50)


def area_by_loop(ks, values) -> float:
    """The trapezoids, one by one."""
    total = 0.0
    for i in range(len(ks) - 1):
        total += (values[i] + values[i + 1]) / 2 * (math.log(ks[i + 1]) - math.log(ks[i]))
    return total / (math.log(ks[-1]) - math.log(ks[0]))


def edits(ks=KS, counts=(3, 1, 5), seed: int = 0, first: int = 0) -> dict[int, Edited]:
    """By K; images are numbered from `first`."""
    rng, n = np.random.default_rng(seed), sum(counts)
    labels, before, right = np.repeat([4, 0, 7], counts), rng.random(n), rng.random(n) < 0.8
    images = [f"{first + i}" for i in range(n)]
    return {
        k: Edited(images, labels, before, rng.random(n), right.astype(float), (rng.random(n) < 0.5).astype(float))
        for k in ks
    }


class TestArea:
    def test_equals_the_loop(self):
        values = np.random.default_rng(0).random((7, len(KS)))
        assert log_area(KS, values) == pytest.approx([area_by_loop(KS, row) for row in values], rel=1e-12)

    def test_by_hand(self):
        assert log_area((1, 10), np.array([1.0, 0.5])) == pytest.approx(0.75)
        assert log_area((1, 10, 100), np.array([1.0, 0.5, 0.0])) == pytest.approx(0.5)
        assert log_area(KS, np.full(len(KS), 0.3)) == pytest.approx(0.3)

    def test_of_one_k_there_is_none(self):
        with pytest.raises(Missing):
            log_area((5,), np.ones((3, 1)))


class TestCurve:
    def test_values_are_means_over_the_images(self):
        edited = edits()
        curve = Curve.of(edited)
        assert curve.ks == KS
        assert [found.value for found in curve.at("prob")] == pytest.approx([edited[k].after.mean() for k in KS])
        expected = [100 * edited[k].right_after.mean() for k in KS]
        assert [found.value for found in curve.at("top1")] == pytest.approx(expected)
        assert curve.unedited("prob") == pytest.approx(edited[1].before.mean())
        assert curve.unedited("top1") == pytest.approx(100 * edited[1].right_before.mean())
        area = curve.area("prob")
        assert area.value == pytest.approx(area_by_loop(KS, [edited[k].after.mean() for k in KS]))
        assert area.low < area.value < area.high

    def test_of_the_images_that_all_k_have(self):
        edited = edits((1, 5)) | edits((2,), seed=1, first=2)
        curve = Curve.of(edited)
        assert curve.images == [f"{i}" for i in range(2, 9)]
        assert curve.ks == (1, 2, 5)
        expected = [edited[1].after[2:].mean(), edited[2].after[:7].mean(), edited[5].after[2:].mean()]
        assert [found.value for found in curve.at("prob")] == pytest.approx(expected)
        assert curve.labels.tolist() == edited[1].labels[2:].tolist()
        with pytest.raises(Missing):
            Curve.of(edits((1,)) | edits((2,), first=100))

    def test_paired_difference_by_loop(self):
        one, other = edits(), edits((1, 5, 50, 70), seed=3, first=4)
        found = area_difference(Curve.of(one), Curve.of(other), "prob")
        differences = []
        for i in range(9):
            for j in range(9):
                if one[1].images[i] == other[1].images[j]:
                    a, b = ([x[k].after[at] for k in (1, 5, 50)] for x, at in ((one, i), (other, j)))
                    differences.append(area_by_loop((1, 5, 50), a) - area_by_loop((1, 5, 50), b))
        assert len(differences) == found.n == 5
        assert found.value == pytest.approx(np.mean(differences), rel=1e-12)

    def test_pairing_makes_the_interval_of_equal_changes_a_point(self):
        one = edits()
        other = {
            k: Edited(e.images, e.labels, e.before, e.after - 0.25, *(e.right_before,) * 2) for k, e in one.items()
        }
        found = area_difference(Curve.of(one), Curve.of(other), "prob")
        assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
        assert Curve.of(one).area("prob").high > Curve.of(one).area("prob").low + 0.01

    def test_without_common_images_or_numbers_there_is_none(self):
        one = Curve.of(edits())
        for other in (edits(first=100), edits((1,)), edits((3, 4))):
            with pytest.raises(Missing):
                area_difference(one, Curve.of(other), "prob")


def record(rng, label: int, i: int, k: int, **more) -> dict:
    found = {"image": f"{label}/{i}.png", "label": label, "pred": label, "prob": 0.5, "method": "ja"}
    found |= {"path": [[*range(k)]] * 3, "original": 0.9, "original_label": label}
    for key in ("remove", "enhance", *more.pop("keys", ())):
        found |= {key: rng.random(), f"{key}_label": label if rng.random() < 0.5 else label + 1}
    return found | more


def write_run(folder, method="ja", k=1, ablation="zero", **made) -> None:
    rng = np.random.default_rng(k)
    keys = ("retain",) if ablation == "mean" else ()
    for label, n in enumerate((3, 4)):
        lines = [record(rng, label, i, k, keys=keys) for i in range(n)]
        write_lines(folder / f"imgnet_all-{label}.rlt.jsonl", lines)
    settings = {
        "operation": "remove_enhance",
        "method": method,
        **({} if ablation == "zero" else {"ablation": ablation}),
    }
    write_args(folder, "edit", **settings, **made)


class TestReading:
    def test_curves_are_told_by_settings(self, tmp_path):
        for method in ("ja", "base"):
            for ablation in ("zero", "mean", "resample"):
                for k in (1, 5):
                    write_run(tmp_path / f"{method}{ablation}{k}/anything/ViT", method, k, ablation)
        write_run(tmp_path / "influence/ViT", "influence_pattern")
        write_args(tmp_path / "ja/ViT", "joint_attr", quadrature="right")
        curves = read_curves(tmp_path, "imgnet_all")
        kinds = [("remove", "zero"), ("remove", "mean"), ("remove", "resample"), ("retain", "mean")]
        expected = [Which("ViT", *kind, method) for kind in kinds for method in ("base", "ja")]
        expected.insert(1, Which("ViT", "remove", "zero", "influence_pattern"))
        assert list(curves) == expected
        assert {curve.ks for which, curve in curves.items() if which.method != "influence_pattern"} == {(1, 5)}
        found = curves[Which("ViT", "retain", "mean", "ja")]
        lines = (tmp_path / "jamean5/anything/ViT/imgnet_all-1.rlt.jsonl").read_text().splitlines()
        assert found.after["prob"][3:, 1].tolist() == [json.loads(line)["retain"] for line in lines]

    def test_draws_of_other_images_count_for_accuracy_and_enhancement_has_none(self):
        draws = [{"other": "x", "remove": 0.1, "remove_label": label} for label in (0, 0, 1, 2, 0)]
        found = {0: [record(np.random.default_rng(0), 0, 0, 1, remove_label=1, enhance_label=0, draws=draws)]}
        assert Edited.of(found, "remove").right_after.tolist() == [0.6]
        assert Edited.of(found, "enhance").right_after.tolist() == [1]

    def test_faults(self, tmp_path):
        assert "edit.py" in fault(read_curves, tmp_path, "imgnet_all")
        write_run(tmp_path / "a/ViT")
        write_run(tmp_path / "b/ViT")
        message = fault(read_curves, tmp_path, "imgnet_all")
        assert str(tmp_path / "a/ViT") in message
        assert str(tmp_path / "b/ViT") in message
        write_args(tmp_path / "b/ViT", "edit", operation="remove_enhance", method="ja", ablation="mean")
        assert "retain" in fault(read_curves, tmp_path, "imgnet_all")
        write_args(tmp_path / "b/ViT", "edit", operation="remove_enhance", method="nobody")
        assert "nobody" in fault(read_curves, tmp_path, "imgnet_all")
        write_run(tmp_path / "b/ViT", k=2)
        write_lines(tmp_path / "b/ViT/imgnet_all-0.rlt.jsonl", [record(np.random.default_rng(0), 0, 0, 3)])
        assert "one length" in fault(read_curves, tmp_path, "imgnet_all")

    def test_other_circumstances_are_warned_of(self, tmp_path):
        write_run(tmp_path / "a/ViT", checkpoint_sha256="a")
        write_run(tmp_path / "b/ViT", k=2, checkpoint_sha256="b")
        with pytest.warns(UserWarning, match="checkpoint_sha256 a → b"):
            read_curves(tmp_path, "imgnet_all")

    def test_the_ablation_itself_is_no_other_circumstance(self, tmp_path, recwarn):
        for ablation in ("zero", "mean", "resample"):
            write_run(tmp_path / ablation / "ViT", ablation=ablation, checkpoint_sha256="a")
        read_curves(tmp_path, "imgnet_all")
        assert not recwarn.list


class TestTable:
    def test_values_and_markdown(self, tmp_path):
        for k in (1, 5):
            for method in ("ja", "base"):
                write_run(tmp_path / f"{method}{k}/ViT", method, k)
        write_run(tmp_path / "influence/ViT", "influence_pattern")
        curves = read_curves(tmp_path, "imgnet_all")
        rows = table(curves)
        json.dumps(rows, allow_nan=False)
        by_method = {row["method"]: row for row in rows}
        base, path = curves[Which("ViT", "remove", "zero", "base")], curves[Which("ViT", "remove", "zero", "ja")]
        assert by_method["base"]["prob"]["ja_minus"]["value"] == area_difference(path, base, "prob").value
        assert by_method["ja"]["prob"]["ja_minus"] is None
        assert by_method["influence_pattern"]["prob"]["area"] is None
        text = markdown(rows)
        assert f"| ViT | remove | zero | Activation | 1, 5 | {base.area('prob').shown(4)} |" in text
        assert "| ViT | remove | zero | Influence Pattern | 1 | – | – | – | – | 7 |" in text
        assert "over ln K" in text

    def test_names_are_text(self, tmp_path):
        write_run(tmp_path / "a/<i>|x")
        assert r"| \<i\>\|x | remove |" in markdown(table(read_curves(tmp_path, "imgnet_all")))


class TestOverK:
    def test_rows_are_of_the_models_asked_for_and_of_several_k(self, tmp_path):
        for k in (1, 5):
            write_run(tmp_path / f"{k}/ViT", "ja", k)
            write_run(tmp_path / f"{k}/MAE", "ja", k)
        write_run(tmp_path / "one/ViT", "base")
        rows = over_k(tmp_path, "imgnet_all", ["ViT", "other"])
        assert [(row["model"], row["method"], row["ks"]) for row in rows] == [("ViT", "ja", [1, 5])]

    def test_of_one_k_there_is_a_line_on_what_to_run(self, tmp_path):
        write_run(tmp_path / "one/ViT", "base")
        message = f"{tmp_path}: no runs of several K; run edit.py --ablation mean --topK K with several K"
        assert fault(over_k, tmp_path, "imgnet_all", ["ViT"]) == message
