"""The loop over images, as the search command shows it: going on, bad checkpoints and folders, short memory."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import IMAGES, ROOT, Payload, assert_same_search, contents, read_lines, records, run_job
from PIL import Image

from neuronpath.runs.extraction import JointAttribution
from neuronpath.runs.extraction_plan import ExtractionPlan


class TestGoingOn:
    def test_a_finished_run_changes_nothing(self, run):
        run()
        before = contents(run.out)
        assert "0 new, 11 from earlier" in run()
        assert contents(run.out) == before
        assert list(records(run.out)) == IMAGES

    def test_selection_grows(self, run, tmp_path):
        run(out=tmp_path / "whole")
        run("--labels", "1,3", "--images_per_class", 2)
        assert list(records(run.out)) == ["class1/00.png", "class3/00.png", "class3/01.png"]
        before = records(run.out)
        assert "8 new, 3 from earlier" in run("--output_prefix", "imgnet_all")
        assert_same_search(records(run.out), records(tmp_path / "whole"))
        assert all(records(run.out)[image] == record for image, record in before.items())
        assert "0 new, 4 from earlier" in run("--images_per_class", 1)

    def test_torn_record_is_computed_again(self, run):
        run()
        before, file = records(run.out), run.out / "imgnet_all-2.rlt.jsonl"
        file.write_bytes(file.read_bytes()[:-20])
        assert "1 new, 10 from earlier" in run()
        assert_same_search(records(run.out), before)

    def test_overwrite(self, run):
        run("--labels", "0,1")
        before = contents(run.out)
        assert "ig_total_step" in run("--labels", "0,1", "--ig_total_step", 3, code=2)
        assert "label 1" in run("--labels", 0, "--ig_total_step", 3, "--overwrite", code=2)
        assert contents(run.out) == before
        run("--labels", "0,1", "--ig_total_step", 3, "--overwrite")
        assert sorted(contents(run.out)) == sorted(before)
        assert all(contents(run.out)[name] != before[name] for name in before)

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("--dataset", "digits", "dataset imagefolder → digits"),
            ("--preprocess", "native", "preprocess paper → native"),
            ("--target", "pred", "target label → pred"),
            ("--quadrature", "left", "quadrature right → left"),
            ("--search", "exhaustive", "search layer → exhaustive"),
            ("--precision", "fp64", "precision fp32 → fp64"),
            ("--img_size", "12", "model_img_size 9 → 12"),
        ],
    )
    def test_every_setting_is_compared(self, run, option, value, said):
        run("--labels", 1)
        before = contents(run.out)
        assert said in run("--labels", 1, option, value, code=2)
        assert contents(run.out) == before

    def test_unreadable_image_replaced(self, run, tmp_path):
        run(out=tmp_path / "whole")
        image = run.images / "class3" / "02.png"
        whole = image.read_bytes()
        image.write_bytes(whole[:60])
        assert str(image) in run("--batch_size", 1, code=2)
        assert list(records(run.out)) == IMAGES[:8]
        image.write_bytes(whole)
        assert "3 new, 8 from earlier" in run()
        assert_same_search(records(run.out), records(tmp_path / "whole"))

    def test_unreadable_images_skipped(self, run, tmp_path):
        run(out=tmp_path / "whole")
        spoilt = {name: (run.images / name).read_bytes() for name in ("class0/01.png", "class1/00.png")}
        for name in spoilt:
            (run.images / name).write_text("no image")
        listed = run.out / "imgnet_all.skipped.jsonl"
        for _ in range(2):
            assert str(listed) in run("--on_bad_image", "skip", "--batch_size", 2, code=3)
            assert list(records(run.out)) == [image for image in IMAGES if image not in spoilt]
            skipped = read_lines(listed)
            assert [entry["image"] for entry in skipped] == list(spoilt)
            assert [entry["label"] for entry in skipped] == [0, 1]
            assert all(entry["error"] for entry in skipped)
        for name, content in spoilt.items():
            (run.images / name).write_bytes(content)
        run("--on_bad_image", "skip")
        assert_same_search(records(run.out), records(tmp_path / "whole"))
        assert not listed.exists()


class TestBadCheckpoints:
    @pytest.mark.parametrize(
        "content",
        [b"", b"<!DOCTYPE html><title>404</title>\n", pickle.dumps(Payload(Path("canary")))],
        ids=["empty", "html", "pickle"],
    )
    def test_file_of_another_kind(self, run, tmp_path, content, monkeypatch):
        monkeypatch.chdir(tmp_path)
        file = tmp_path / "bad.npz"
        file.write_bytes(content)
        assert str(file) in run.refused(checkpoint=file)
        assert not (tmp_path / "canary").exists()

    def test_missing_file_and_folder(self, run, tmp_path):
        for file in (tmp_path / "nowhere.npz", tmp_path):
            assert str(file) in run.refused(checkpoint=file)

    @pytest.mark.parametrize("fault", ["cut", "corrupt"])
    def test_damaged_file(self, run, tmp_path, fault):
        file, data = tmp_path / "bad.npz", bytearray(run.checkpoint.read_bytes())
        middle = len(data) // 2
        data[middle : None if fault == "cut" else middle + 20] = b"" if fault == "cut" else bytes(20)
        file.write_bytes(data)
        assert str(file) in run.refused(checkpoint=file)

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"head/kernel": None, "head/bias": None}, "head/kernel"),
            ({"Transformer/encoderblock_5/LayerNorm_0/scale": np.ones(21)}, "(21,), not (20,)"),
            ({"cls": np.full((1, 1, 20), np.nan)}, "cls"),
            ({"head/bias": np.arange(4)}, "head/bias"),
            ({"opt/\nstep": np.ones(1)}, "step"),
        ],
        ids=["no head", "shape", "nan", "integers", "left over"],
    )
    def test_wrong_arrays(self, run, tmp_path, changes, word):
        file = tmp_path / "bad.npz"
        arrays = {**np.load(run.checkpoint), **changes}
        np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
        message = run.refused(checkpoint=file)
        assert str(file) in message
        assert word in message


class TestBadFolders:
    def test_absent_empty_and_flat(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        for images in (tmp_path / "nowhere", tmp_path / "empty", run.images / "class0"):
            assert str(images) in run.refused(images=images)

    def test_absent_default_is_named_in_full(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        given = ("--pretrain_weight", run.checkpoint, "--output_dir", run.out)
        assert str(ROOT / "dataset" / "imagenet2012" / "val") in run_job(JointAttribution, *given).fault

    def test_other_number_of_classes(self, run):
        (run.images / "class4").mkdir()
        Image.new("RGB", (4, 4)).save(run.images / "class4" / "0.png")
        assert "5 classes" in run.refused()

    def test_output_folder_that_is_a_file(self, run, tmp_path):
        (tmp_path / "file").write_text("text")
        for out in (tmp_path / "file", tmp_path / "file" / "out"):
            assert str(out) in run(out=out, code=2)

    def test_output_folder_of_another_job(self, run):
        run.out.mkdir()
        (run.out / "imgnet_all.args.json").write_text(
            json.dumps({"job": "influence_pattern", "settings": {}, "versions": {}})
        )
        assert "influence_pattern" in run("--overwrite", code=2)
        assert len(contents(run.out)) == 1

    def test_bad_image_with_a_line_break_in_its_name(self, run):
        (run.images / "class0" / "a\nb.png").write_text("no image")
        message = run(code=2)
        assert "\n" not in message
        assert "b.png" in message


class TestShortage:
    def test_short_memory_halves_the_rows_with_a_warning_and_goes_on(self, run, tmp_path):
        run(out=tmp_path / "whole")
        rows = []

        class ShortPlan(ExtractionPlan):
            def records(self, items, images, most):
                rows.append(most)
                if most > 3:
                    raise torch.OutOfMemoryError("out of memory")
                return super().records(items, images, most)

        class Short(JointAttribution):
            def prepare(self, inputs):
                return ShortPlan(**vars(super().prepare(inputs)))

        run("--internal_batch_size", 12, kind=Short)
        assert rows[:3] == [12, 6, 3]
        assert run.stderr.count("--internal_batch_size is now") == 2
        assert_same_search(records(run.out), records(tmp_path / "whole"))
