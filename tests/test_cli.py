"""path/joint_attr.py as users meet it: what it writes, how it goes on, and what it says when something is wrong."""

import errno
import hashlib
import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, ROOT, Payload, run_script
from PIL import Image

import neuronpath
from neuronpath.cli import exits as cli
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.records.reading import label_files
from neuronpath.runs import job
from neuronpath.runs.extraction import ExtractionPlan, JointAttribution
from neuronpath.runs.summary import ScoreSummary

SCRIPT = "path/joint_attr.py"
IMAGES = [f"class{label}/{i:02d}.png" for label, count in enumerate((3, 1, 2, 5)) for i in range(count)]
STEPS = 5
BAR = re.compile(r"img/s|it/s|s/img|%\|")


def arguments(checkpoint, images, out, *more) -> list[str]:
    fixed = {"--dataset": "imagefolder", "--num_workers": 0, "--ig_total_step": STEPS}
    given = {"--pretrain_weight": checkpoint, "--dataset_path": images, "--output_dir": out}
    return [str(word) for pair in (fixed | given).items() for word in pair] + [str(word) for word in more]


def messages(stderr: str) -> list[str]:
    """The lines on stderr but for the progress bar's and warnings."""
    return [
        line
        for line in re.split(r"[\r\n]", stderr)
        if line.strip() and not BAR.search(line) and ": warning: " not in line
    ]


def records(out: Path, prefix: str = "imgnet_all") -> dict[str, dict]:
    """By image, in the files' order; every image once."""
    found = []
    for label in range(NUM_CLASSES):
        file = out / f"{prefix}-{label}.rlt.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        found += [json.loads(line) for line in lines]
        assert all(json.loads(line)["label"] == label for line in lines)
    assert len({record["image"] for record in found}) == len(found)
    return {record["image"]: record for record in found}


def contents(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.iterdir()}


def assert_same(found: dict[str, dict], expected: dict[str, dict], tolerance: float = 1e-4) -> None:
    """The same images in the same order; scores and paths equal as far as the margins tell choices from ties."""
    assert list(found) == list(expected)
    for a, b in zip(found.values(), expected.values(), strict=True):
        assert (a["label"], a["pred"], a["base"]) == (b["label"], b["pred"], b["base"])
        assert a["prob"] == pytest.approx(b["prob"], rel=tolerance)
        assert a["base_score"] == pytest.approx(b["base_score"], rel=tolerance)
        clear = next((i for i, margin in enumerate(b["margin"]) if margin < tolerance), len(b["ja"]))
        assert a["ja"][:clear] == b["ja"][:clear]
        if clear == len(b["ja"]):
            assert a["ja_score"] == pytest.approx(b["ja_score"], rel=tolerance)
            np.testing.assert_allclose(a["ja_act"], b["ja_act"], rtol=10 * tolerance, atol=tolerance)
    assert any(min(record["margin"]) > tolerance for record in expected.values()) or not expected


class Run:
    """The command, in this process, on the tiny checkpoint and the image folder."""

    def __init__(self, checkpoint: Path, images: Path, out: Path, capsys):
        self.checkpoint, self.images, self.out, self.capsys = checkpoint, images, out, capsys

    def __call__(self, *more, code: int = 0, **changes) -> str:
        """Run it, expect its exit code; its stdout, or what it says on stderr where it fails."""
        given = {"checkpoint": self.checkpoint, "images": self.images, "out": self.out} | changes
        found = cli.command(lambda: job.main(JointAttribution("cls"), "", arguments(*given.values(), *more)))
        stdout, stderr = self.capsys.readouterr()
        assert found == code, stderr
        assert "Traceback" not in stderr
        return "\n".join(messages(stderr)) if code == 2 else stdout

    def refused(self, *more, **changes) -> str:
        """Run it, expect one line on stderr and nothing written; that line."""
        message = self(*more, code=2, **changes)
        assert "\n" not in message
        assert "usage:" not in message
        assert len(message) > 20
        assert not self.out.exists()
        return message


@pytest.fixture
def run(checkpoint, image_folder, tmp_path, capsys) -> Run:
    return Run(checkpoint, image_folder, tmp_path / "out", capsys)


class TestSummary:
    @pytest.mark.parametrize(("sample", "images"), [(500, 11), (4, 4)])
    def test_accuracy_is_looked_at_once_after_the_sample_or_at_the_end(self, run, monkeypatch, sample, images):
        looked = []
        monkeypatch.setattr("neuronpath.runs.job.SAMPLE", sample)
        monkeypatch.setattr("neuronpath.runs.job.low_accuracy", lambda *given: looked.append(given) or "it is low")
        with pytest.warns(UserWarning, match="it is low"):
            job.main(JointAttribution("cls"), "", arguments(run.checkpoint, run.images, run.out))
        found = [json.loads(line) for file in label_files(run.out, "imgnet_all").values() for line in file.open()]
        correct = sum(r["pred"] == r["label"] for r in found[:images])
        assert looked == [(correct, images, pytest.approx(0.625), 0.25)]

    def test_repeats_count_among_the_nodes_of_auto(self):
        summary = ScoreSummary({"ja_score": "neuron path"}, 1e-4)
        for i, (nodes, converged) in enumerate([(4, None), (4, None), (8, True), (16, True), (16, False)]):
            given = {"ja_score": 0.0, "margin": [0.5], "nodes": nodes, "converged": converged}
            summary.add({"image": str(i), "label": 0, "pred": 0, **given})
        text = dict(summary.lines())["nodes"]
        mean = (4 + 4 + 12 + 28 + 28) / 5
        assert text == f"{mean:.2f} per image, repeats included; 1 images found another path even with 16"

    def test_near_ties_are_images_with_a_margin_under_the_threshold_in_any_layer(self):
        summary = ScoreSummary({"ja_score": "neuron path"}, 1e-4)
        margins = [[0.5, 0.5, 0.5], [0.5, 0.5, 9e-5], [0.5, 0.0, 0.5], [2e-4, 0.5, 0.5], [9e-5, 9e-5, 9e-5]]
        for i, margin in enumerate(margins):
            summary.add({"image": str(i), "label": 0, "pred": 0, "ja_score": 0.0, "margin": margin})
        assert summary.near_ties == 3
        (line,) = (text for name, text in summary.lines() if name == "margins")
        assert line.endswith("; 3 images below 0.0001")
        assert line.startswith("smallest 0.0e+00 (layer 1 of 2), 9.0e-05 (layer 0 of 4), 9.0e-05 (layer 2 of 1)")

    def test_top_1_is_the_share_of_images_predicted_as_their_label(self, run):
        stdout, found = run(), records(run.out)
        right = sum(record["pred"] == record["label"] for record in found.values())
        assert 0 < right < len(found)
        assert f"top-1       {100 * right / len(found):.2f} %" in stdout

    def test_records_of_other_images_in_the_folder_are_mentioned(self, run):
        assert "also there" not in run()
        assert "also there  10 records of other images" in run("--labels", "3", "--images_per_class", 1)


class TestScript:
    """In a process of its own."""

    def expect(self, result: subprocess.CompletedProcess, code: int) -> str:
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        if code == 2:
            assert result.stdout == ""
            (message,) = messages(result.stderr)
            return message
        assert messages(result.stderr) == []
        return result.stdout

    def test_from_the_root(self, checkpoint, image_folder, tmp_path):
        out = tmp_path / "out"
        given = arguments(checkpoint, image_folder, out, "--num_workers", 2)
        assert str(out) in self.expect(run_script(SCRIPT, *given), 0)
        assert list(records(out)) == IMAGES

    def test_from_its_own_folder_with_relative_paths(self, checkpoint, image_folder, tmp_path):
        out, here = tmp_path / "out", ROOT / "path"
        given = arguments(*(os.path.relpath(path, here) for path in (checkpoint, image_folder, out)))
        assert str(out) in self.expect(run_script(SCRIPT, *given, cwd=here), 0)
        assert list(records(out)) == IMAGES

    def test_hostile_checkpoint_runs_nothing(self, checkpoint, image_folder, tmp_path):
        canary, hostile, out = tmp_path / "canary", tmp_path / "hostile.npz", tmp_path / "out"
        np.savez(hostile, **{**np.load(checkpoint), "head/bias": np.array([Payload(canary)], dtype=object)})
        message = self.expect(run_script(SCRIPT, *arguments(hostile, image_folder, out)), 2)
        assert message.startswith("joint_attr.py: ")
        assert "hostile.npz" in message
        assert not canary.exists()
        assert not out.exists()

    def test_unreadable_image_in_mid_run(self, checkpoint, image_folder, tmp_path):
        (image_folder / "class3" / "02.png").write_text("no image")
        out = tmp_path / "out"
        given = arguments(checkpoint, image_folder, out, "--batch_size", 2, "--num_workers", 1)
        message = self.expect(run_script(SCRIPT, *given), 2)
        assert str(image_folder / "class3" / "02.png") in message
        assert list(records(out)) == IMAGES[:8]


class TestRecords:
    def test_equal_what_the_package_finds(self, run):
        stdout = run()
        model = neuronpath.load(run.checkpoint)
        source = open_dataset("imagefolder", run.images, NUM_CLASSES)
        (batch,) = batches(source, source.items, preprocessing("paper", model.config), 100)
        labels = torch.tensor([item.label for item in batch.items])
        quadrature = neuronpath.Quadrature("right", STEPS)
        found = neuronpath.find_path(model, batch.images, labels, quadrature)
        prob = model(batch.images).softmax(-1)
        expected = {
            item.image: {
                "image": item.image,
                "label": item.label,
                "pred": prob[i].argmax().item(),
                "prob": prob[i, item.label].item(),
                "ja": found.path[i].tolist(),
                "ja_score": found.score[i].item(),
                "ja_act": found.activation[i].tolist(),
                "base": found.base_path[i].tolist(),
                "base_score": found.base_score[i].item(),
                "base_act": found.base_activation[i].tolist(),
                "margin": found.margin[i].tolist(),
            }
            for i, item in enumerate(batch.items)
        }
        assert_same(records(run.out), expected)
        for record in records(run.out).values():
            assert record.keys() == expected[record["image"]].keys()
            for key in ("ja", "base", "ja_act", "base_act"):
                assert [len(layer) for layer in record[key]] == [1] * 6
            assert len(record["margin"]) == 6
        assert f"{np.mean([record['ja_score'] for record in expected.values()]):.4f}" in stdout
        assert "11 new" in stdout
        assert str(run.out) in stdout

    def test_args_say_what_made_them(self, run):
        run("--labels", "0,2-3", "--seed", 7)
        args = json.loads((run.out / "imgnet_all.args.json").read_text())
        assert args["job"] == "joint_attr"
        assert args["settings"]["checkpoint_sha256"] == hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()
        expected = {"quadrature": "right", "ig_total_step": STEPS, "target": "label", "precision": "fp32"}
        assert expected.items() <= args["settings"].items()
        assert {"torch", "neuronpath", "git"} <= args["versions"].keys()
        assert args["versions"]["torch"] == torch.__version__
        expected = {"labels": [0, 2, 3], "seed": 7, "batch_size": 10, "dataset_path": str(run.images)}
        assert expected.items() <= args["options"].items()
        others = "dataset output_dir output_prefix model_type pretrain_weight img_size preprocess internal_batch_size"
        others += " search images_per_class device no_cuda num_workers on_bad_image overwrite"
        assert set(others.split()) <= args["options"].keys()

    def test_image_name_that_is_not_utf8(self, run):
        (run.images / "class1" / "00.png").rename(run.images / "class1" / os.fsdecode(b"\xff.png"))
        for _ in range(2):
            run("--labels", 1)
        assert list(records(run.out)) == [os.fsdecode(b"class1/\xff.png")]

    def test_batch_sizes_do_not_matter(self, run, tmp_path):
        run()
        expected = records(run.out)
        for i, (option, value) in enumerate(
            [("batch", 1), ("batch", 4), ("batch", 100), ("internal_batch", 1), ("internal_batch", 7)]
        ):
            run(f"--{option}_size", value, out=tmp_path / f"out{i}")
            assert_same(records(tmp_path / f"out{i}"), expected)

    @pytest.mark.parametrize("target", ["label", "pred", "2"])
    @torch.no_grad()
    def test_target(self, run, target):
        run("--target", target)
        model = neuronpath.load(run.checkpoint)
        source = open_dataset("imagefolder", run.images, NUM_CLASSES)
        (batch,) = batches(source, source.items, preprocessing("paper", model.config), 100)
        prob = model(batch.images).softmax(-1)
        assert len(set(prob.argmax(-1).tolist())) > 1
        for item, p in zip(batch.items, prob, strict=True):
            record = records(run.out)[item.image]
            assert record["pred"] == p.argmax()
            wanted = {"label": item.label, "pred": p.argmax(), "2": 2}[target]
            assert record["prob"] == pytest.approx(p[wanted].item(), rel=1e-4)

    def test_precision(self, run, tmp_path):
        run()
        run("--precision", "fp64", "--batch_size", 3, out=tmp_path / "a")
        run("--precision", "fp64", "--internal_batch_size", 7, out=tmp_path / "b")
        assert_same(records(run.out), records(tmp_path / "a"), 1e-3)
        assert_same(records(tmp_path / "a"), records(tmp_path / "b"), 1e-9)

    @pytest.mark.parametrize(
        "more",
        [("--preprocess", "native"), ("--quadrature", "gauss-legendre"), ("--img_size", 12), ("--ig_total_step", 2)],
        ids=lambda more: more[0],
    )
    def test_settings_change_the_records(self, run, tmp_path, more):
        run("--labels", 3)
        run("--labels", 3, *more, out=tmp_path / "other")
        a, b = records(run.out), records(tmp_path / "other")
        assert list(a) == list(b)
        assert all(a[image]["ja_score"] != b[image]["ja_score"] for image in a)
        assert more[0][2:] in run(*more, code=2)


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
        assert_same(records(run.out), records(tmp_path / "whole"))
        assert all(records(run.out)[image] == record for image, record in before.items())
        assert "0 new, 4 from earlier" in run("--images_per_class", 1)

    def test_torn_record_is_computed_again(self, run):
        run()
        before, file = records(run.out), run.out / "imgnet_all-2.rlt.jsonl"
        file.write_bytes(file.read_bytes()[:-20])
        assert "1 new, 10 from earlier" in run()
        assert_same(records(run.out), before)

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
        assert_same(records(run.out), records(tmp_path / "whole"))

    def test_unreadable_images_skipped(self, run, tmp_path):
        run(out=tmp_path / "whole")
        spoilt = {name: (run.images / name).read_bytes() for name in ("class0/01.png", "class1/00.png")}
        for name in spoilt:
            (run.images / name).write_text("no image")
        listed = run.out / "imgnet_all.skipped.jsonl"
        for _ in range(2):
            assert str(listed) in run("--on_bad_image", "skip", "--batch_size", 2, code=3)
            assert list(records(run.out)) == [image for image in IMAGES if image not in spoilt]
            skipped = [json.loads(line) for line in listed.read_text().splitlines()]
            assert [entry["image"] for entry in skipped] == list(spoilt)
            assert [entry["label"] for entry in skipped] == [0, 1]
            assert all(entry["error"] for entry in skipped)
        for name, content in spoilt.items():
            (run.images / name).write_bytes(content)
        run("--on_bad_image", "skip")
        assert_same(records(run.out), records(tmp_path / "whole"))
        assert not listed.exists()


class TestBadOptions:
    @pytest.mark.parametrize(
        ("option", "value", "word"),
        [
            ("--batch_size", "0", "--batch_size"),
            ("--batch_size", "ten", "--batch_size"),
            ("--batch_size", "9" * 30, "--batch_size"),
            ("--internal_batch_size", "0", "--internal_batch_size"),
            ("--internal_batch_size", "9" * 30, "--internal_batch_size"),
            ("--ig_total_step", "0", "--ig_total_step"),
            ("--ig_total_step", "-3", "--ig_total_step"),
            ("--ig_total_step", "1.5", "--ig_total_step"),
            ("--ig_total_step", "9" * 30, "--ig_total_step"),
            ("--images_per_class", "0", "--images_per_class"),
            ("--num_workers", "-1", "--num_workers"),
            ("--device", "nonsense", "nonsense"),
            ("--device", "cuda:99", "cuda:99"),
            ("--device", "cuda:x", "cuda:x"),
            ("--model_type", "nonsense", "nonsense"),
            ("--model_type", "ViT-B_16", "ViT-B_16"),
            ("--precision", "fp8", "fp8"),
            ("--quadrature", "simpson", "simpson"),
            ("--search", "none", "none"),
            ("--dataset", "mnist", "mnist"),
            ("--labels", "9", "9"),
            ("--labels", "0,x", "--labels"),
            ("--labels", "3-1", "--labels"),
            ("--labels", "", "--labels"),
            ("--target", "99", "99"),
            ("--target", "-1", "--target"),
            ("--target", "cat", "cat"),
            ("--img_size", "10", "10"),
            ("--img_size", "0", "--img_size"),
            ("--output_prefix", "a/b", "a/b"),
            ("--output_prefix", "../b", "../b"),
            ("--nonsense", "1", "--nonsense"),
            ("--batch", "4", "--batch"),
            ("--pretrain", "x.npz", "--pretrain"),
            ("--seed", "1\n2", "--seed"),
            ("--no\nsense", "1", "sense"),
        ],
    )
    def test_is_refused_by_name(self, run, option, value, word):
        assert word in run.refused(option, value)

    def test_checkpoint_is_required(self, capsys):
        assert cli.command(lambda: job.main(JointAttribution("cls"), "", [])) == 2
        (message,) = messages(capsys.readouterr().err)
        assert "--pretrain_weight" in message

    def test_help_names_every_option(self, capsys):
        with pytest.raises(SystemExit) as caught:
            cli.command(lambda: job.main(JointAttribution("cls"), "", ["--help"]))
        assert not caught.value.code
        text = capsys.readouterr().out
        options = "dataset dataset_path output_dir output_prefix model_type pretrain_weight img_size preprocess target"
        options += " batch_size internal_batch_size ig_total_step quadrature search labels images_per_class device"
        options += " shortlist_max"
        options += " no_cuda precision num_workers seed on_bad_image overwrite"
        assert all(f"--{option} " in text for option in options.split())


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

    def test_absent_default_is_named_in_full(self, run, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        given = ["--pretrain_weight", str(run.checkpoint), "--output_dir", str(run.out)]
        assert cli.command(lambda: job.main(JointAttribution("cls"), "", given)) == 2
        assert str(ROOT / "dataset" / "imagenet2012" / "val") in capsys.readouterr().err

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
    def test_short_memory_halves_the_rows_with_a_warning_and_goes_on(self, run, monkeypatch):
        expected, rows = records_after(run), []
        monkeypatch.setattr(run, "out", run.out.with_name("again"))

        class ShortPlan(ExtractionPlan):
            def records(self, items, images, most):
                rows.append(most)
                if most > 3:
                    raise torch.OutOfMemoryError("out of memory")
                return super().records(items, images, most)

        class Short(JointAttribution):
            def prepare(self, inputs):
                return ShortPlan(**vars(super().prepare(inputs)))

        given = arguments(run.checkpoint, run.images, run.out, "--internal_batch_size", 12)
        assert cli.command(lambda: job.main(Short("cls"), "", given)) == 0
        assert rows[:3] == [12, 6, 3]
        assert run.capsys.readouterr().err.count("--internal_batch_size is now") == 2
        assert_same(records(run.out), expected)

    def test_no_memory_for_a_single_row_exits_4(self, run, monkeypatch):
        def short(*_):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

        monkeypatch.setattr(ExtractionPlan, "records", short)
        given = arguments(run.checkpoint, run.images, run.out)
        assert cli.command(lambda: job.main(JointAttribution("cls"), "", given)) == 4
        assert "out of memory" in messages(run.capsys.readouterr().err)[-1]

    def test_a_full_disk_exits_4(self, run, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "x")

        monkeypatch.setattr("neuronpath.records.store.Store.write", full)
        assert (
            cli.command(lambda: job.main(JointAttribution("cls"), "", arguments(run.checkpoint, run.images, run.out)))
            == 4
        )
        assert "disk is full" in messages(run.capsys.readouterr().err)[-1]


def records_after(run) -> dict[str, dict]:
    run()
    return records(run.out)
