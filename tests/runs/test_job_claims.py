"""A job from its words to its report, args.json and lists, whole."""

import hashlib
import json
import re
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NO_SOURCES, NUM_CLASSES, ROOT, random_model, tiny_config
from PIL import Image

from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import Baseline, InfluencePattern, JointAttribution, TopKAttribution
from neuronpath.runs.pruning import TopKEdit

COUNTS = (3, 1, 2, 5)


@pytest.fixture
def run(checkpoint, image_folder, tmp_path):
    def run(*more, of=JointAttribution, pool: str = "cls", out: str | None = "out", steps=2, **changes):
        given = {"--dataset": "imagefolder", "--dataset_path": image_folder, "--pretrain_weight": checkpoint}
        given |= {"--num_workers": 0, **({"--ig_total_step": steps} if steps else {})}
        given |= {"--output_dir": tmp_path / out} if out else {}
        words = [str(word) for pair in (given | changes).items() for word in pair] + [str(word) for word in more]
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            report = job.main(of(pool), "", words)
        run.warned = [str(w.message) for w in found]
        return report

    run.out, run.images, run.checkpoint = tmp_path / "out", image_folder, checkpoint
    return run


def said(run, *more, **named) -> str:
    with pytest.raises(UserError) as e:
        run(*more, **named)
    return str(e.value)


def records(out: Path) -> list[dict]:
    files = [out / f"imgnet_all-{label}.rlt.jsonl" for label in range(NUM_CLASSES)]
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def args(out: Path) -> dict:
    return json.loads((out / "imgnet_all.args.json").read_text())


class TestReport:
    def test_of_a_first_run_and_of_one_that_resumes(self, run):
        report = run("--labels", "0,3")
        found = records(run.out)
        right = sum(r["pred"] == r["label"] for r in found)
        ja, base = (np.mean([r[key] for r in found]) for key in ("ja_score", "base_score"))
        least = sorted((min((m, layer) for layer, m in enumerate(r["margin"])), r["image"]) for r in found)[:3]
        smallest = ", ".join(f"{m:.1e} (layer {layer} of {image})" for (m, layer), image in least)
        near = sum(min(r["margin"]) < 1e-4 for r in found)
        lines = report.text.splitlines()
        assert re.fullmatch(r"time        \d+\.\d s, \d+\.\d{3} s per new image", lines.pop(-2))
        assert lines == [
            "joint_attr",
            "model       tiny: 6 layers of 28 neurons, 9 pixels",
            "images      8 (8 new, 0 from earlier runs)",
            f"top-1       {100 * right / 8:.2f} %",
            f"mean JAS    neuron path {ja:.4f} · activation path {base:.4f}, in units of probability",
            f"margins     smallest {smallest}; {near} images below 0.0001",
            f"files       {run.out}/imgnet_all-<label>.rlt.jsonl (2 labels)",
        ]
        assert report.code == 0
        again = run("--labels", "0", "--images_per_class", 1).text.splitlines()
        assert again[2] == "images      1 (0 new, 1 from earlier runs)"
        assert again[-1] == "also there  7 records of other images, from earlier runs of the same settings"
        assert not any(line.startswith("time") for line in again)

    def test_skipped_images_are_counted_listed_and_end_with_code_3(self, run):
        (run.images / "class0/01.png").write_text("no image")
        (run.images / "class3/04.png").write_text("no image")
        report = run("--on_bad_image", "skip")
        listed = run.out / "imgnet_all.skipped.jsonl"
        assert report.text.splitlines()[-1] == f"skipped     2 images, listed in {listed}"
        assert report.code == 3
        entries = [json.loads(line) for line in listed.read_text().splitlines()]
        assert [(e["image"], e["label"]) for e in entries] == [("class0/01.png", 0), ("class3/04.png", 3)]
        assert all(entry.keys() == {"image", "label", "error"} for entry in entries)

    @pytest.mark.parametrize(("index", "count", "words"), [(1, 3, ", process 1 of 3: every 3th label"), (0, 1, "")])
    def test_a_share_of_the_labels_is_named(self, run, index, count, words):
        lines = run("--shard", f"{index}/{count}").text.splitlines()
        assert lines[0] == f"joint_attr{words}"
        labels = [label for i, label in enumerate(range(4)) if i % count == index]
        assert {r["label"] for r in records(run.out)} == set(labels)
        assert not any(line.startswith("also there") for line in lines)

    def test_a_process_without_labels_says_so(self, run):
        report = run("--shard", "2/3", "--labels", "1,3")
        assert (report.text, report.code) == ("process 2 of 3: no labels are left for it", 0)
        assert not run.out.exists()

    @pytest.mark.parametrize(
        ("environment", "code"),
        [
            ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 0),
            ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}, 3),
        ],
    )
    def test_a_second_process_speaks_of_what_it_skipped_alone_and_torchrun_is_not_told(
        self, run, monkeypatch, environment, code
    ):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        (run.images / "class3/00.png").write_text("no image")
        report = run("--on_bad_image", "skip")
        listed = f"skipped     1 images, listed in {run.out}/imgnet_all.skipped.jsonl"
        assert (report.text, report.code) == (listed, code)

    @pytest.mark.parametrize(
        ("size", "words"),
        [
            (384, "384 pixels, the file's own; the paper ran its 384-pixel files at 224 (--img_size 224)"),
            (288, "288 pixels"),
            (480, "480 pixels"),
        ],
    )
    def test_files_of_384_pixels_are_told_how_the_paper_ran_them(self, run, tmp_path, size, words):
        config = tiny_config(patch_size=96, img_size=size, depth=1)
        save(random_model(config, dtype=torch.float32), tmp_path / "large.npz")
        text = run("--labels", 1, steps=1, **{"--pretrain_weight": tmp_path / "large.npz"}).text
        assert text.splitlines()[1] == f"model       large: 1 layers of 28 neurons, {words}"


class TestArgs:
    def settings(self, run) -> dict:
        """Of every job: data, weights, sizes and preprocessing."""
        sizes = {f"model_{key}": value for key, value in tiny_config().to_dict().items()}
        digest = hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()
        common = {"dataset": "imagefolder", "checkpoint_sha256": digest, "preprocess": "paper", "precision": "fp32"}
        return {**sizes, **common}

    RULE: dict = {"target": "label", "objective": "probability", "quadrature": "right", "ig_total_step": 2}  # noqa: RUF012
    SHORT: dict = {  # noqa: RUF012
        "search": "shortlist",
        "topK": 1,
        "shortlist_max": 64,
        "shortlist_kappa": 2.0,
        "shortlist_first": 4,
    }

    @pytest.mark.parametrize(
        ("of", "name", "more", "own"),
        [
            (JointAttribution, "joint_attr", (), RULE | {"search": "layer", "topK": 1}),
            (JointAttribution, "joint_attr", ("--search", "exhaustive"), RULE | {"search": "exhaustive", "topK": 1}),
            (JointAttribution, "joint_attr", ("--search", "shortlist"), RULE | SHORT),
            (
                JointAttribution,
                "joint_attr",
                ("--search", "beam"),
                RULE | {"search": "beam", "beam_width": 4, "beam_over": "layer", "topK": 1},
            ),
            (
                JointAttribution,
                "joint_attr",
                ("--search", "beam", "--beam_over", "shortlist", "--beam_width", 2),
                RULE | SHORT | {"search": "beam", "beam_width": 2, "beam_over": "shortlist"},
            ),
            (TopKAttribution, "joint_attr", ("--topK", 3), RULE | {"search": "layer", "topK": 3}),
            (TopKAttribution, "joint_attr", (), RULE | {"search": "layer", "topK": 5}),
            (InfluencePattern, "influence_pattern", ("--target", "3"), RULE | {"target": 3}),
            (Baseline, "baseline", (), RULE | {"method": "gradient_activation", "topK": 1}),
        ],
    )
    def test_settings_of_extraction(self, run, of, name, more, own):
        run("--labels", 1, *more, of=of)
        found = args(run.out)
        assert found["job"] == name
        assert found["settings"] == self.settings(run) | own  # and no preprocess_mean, which is CIFAR's
        assert "paths" not in found

    @pytest.mark.parametrize(
        ("own", "nodes"),
        [
            ({"search": "layer", "topK": 1}, [4, 5, 9]),
            (SHORT, [2, 3, 5]),
            ({"search": "exhaustive", "topK": 1}, [2, 3, 5]),
        ],
    )
    def test_settings_of_auto(self, run, own, nodes):
        run("--labels", 1, "--quadrature", "auto", "--search", own["search"], steps=None)
        auto = self.RULE | {"quadrature": "auto", "ig_total_step": None, "auto_nodes": nodes}
        assert args(run.out)["settings"] == self.settings(run) | auto | own

    def test_twenty_nodes_of_the_right_rule_unless_otherwise_asked(self, run):
        run("--labels", 1, steps=None)
        found = args(run.out)["settings"]
        assert (found["quadrature"], found["ig_total_step"]) == ("right", 20)

    def test_settings_of_edits_and_of_the_paths_they_read(self, run):
        run(out="ja")
        ja = run.out.with_name("ja")
        run("--ja_path", ja, of=Edit, steps=None)
        found = args(run.out)
        own = {"method": "ja", "operation": "remove_enhance", "seed": 42, "objective": "probability"}
        assert (found["job"], found["settings"]) == ("edit", self.settings(run) | own)
        paths = {key: v for key, v in args(ja)["settings"].items() if key not in ("topK",)}
        assert found["paths"] == paths
        run("--ja_path", ja, "--edit_operation", "enhance", "--topK", 1, of=TopKEdit, steps=None, out="top")
        found = args(run.out.with_name("top"))
        own = {"method": "ja", "operation": "enhance", "topK": 1, "seed": 42, "objective": "probability"}
        assert (found["job"], found["settings"]) == ("edit_topk", self.settings(run) | own)

    def test_settings_of_pruning(self, run):
        run("--method", "random", "--images_per_class", 4, of=TopKEdit, steps=None)
        own = {"operation": "prune", "depth_prune": 6, "method": "random", "topK": 5, "mask_proportion": 1.0}
        own |= {
            "select_fraction": 0.8,
            "prune_tokens": "cls",
            "seed": 42,
            "images_per_class": 4,
            "objective": "probability",
        }
        assert args(run.out)["settings"] == self.settings(run) | own

    def test_options_and_versions(self, run):
        run("--labels", "1", "--internal_batch_size", 7)
        found = args(run.out)
        assert found["options"] == {
            "dataset": "imagefolder", "dataset_path": str(run.images), **NO_SOURCES,
            "labels": [1], "images_per_class": None,
            "preprocess": "paper", "mean": None, "std": None, "crop_pct": None, "interpolation": None,
            "on_bad_image": "fail", "num_workers": 0, "pretrain_weight": str(run.checkpoint), "model_type": "auto",
            "num_heads": None, "pool": None, "activation": None, "classifier": None, "img_size": None,
            "device": found["options"]["device"],
            "no_cuda": False, "precision": "fp32", "ig_total_step": 2, "quadrature": "right", "search": "layer",
            "shortlist_max": None, "shortlist_kappa": None, "beam_width": None, "beam_over": None, "target": "label",
            "objective": "probability", "batch_size": 10,
            "internal_batch_size": 7, "shard": [0, 1],
            "seed": 42, "output_dir": str(run.out), "output_prefix": "imgnet_all", "overwrite": False,
        } | {"shard": found["options"]["shard"]}  # fmt: skip
        versions = found["versions"]
        assert (versions["torch"], versions["neuronpath"]) == (torch.__version__, version("neuronpath"))
        assert versions.keys() == {"torch", "neuronpath", "git"}
        assert versions["git"] is None or re.fullmatch(r"[\w.-]+\+?", versions["git"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("of", "pool", "script"),
        [
            (JointAttribution, "cls", "path/joint_attr_mae.py"),
            (JointAttribution, "mean", "path/joint_attr.py"),
            (InfluencePattern, "cls", "path/influence_pattern_mae.py"),
            (InfluencePattern, "mean", "path/influence_pattern.py"),
            (Edit, "cls", "experiments/quantitative-comparison/manipulation/MAE/edit.py"),
            (Edit, "mean", "experiments/quantitative-comparison/manipulation/ViT/edit.py"),
            (TopKAttribution, "cls", None),
            (TopKEdit, "cls", None),
        ],
    )
    def test_the_other_head_is_told_its_script(self, run, tmp_path, of, pool, script):
        file = tmp_path / "other.pth"
        save(random_model(tiny_config("mean" if pool == "cls" else "cls"), dtype=torch.float32), file)
        steps = None if of in (Edit, TopKEdit) else 2
        message = said(run, of=of, pool=pool, steps=steps, **{"--pretrain_weight": file})
        reads = {"cls": "the CLS token (a ViT)", "mean": "the mean patch token (a fine-tuned MAE)"}
        other = {"cls": "mean", "mean": "cls"}[pool]
        expected = f"{file}: its head reads {reads[other]}, not {reads[pool]}"
        assert message == (f"{expected}; run {script}" if script else expected)
        assert script is None or (ROOT / script).is_file()

    def test_an_image_that_cannot_be_read(self, run):
        (run.images / "class1/00.png").write_text("no image")
        message = said(run)
        assert message.startswith(f"{run.images}/class1/00.png: cannot be read (")
        assert message.endswith("); replace it or use --on_bad_image skip")

    def test_results_that_are_not_finite(self, run, tmp_path):
        model = random_model(tiny_config(), dtype=torch.float32)
        model.blocks[5].mlp.fc2.weight.fill_(3e38)
        save(model, tmp_path / "huge.npz")
        message = said(run, **{"--pretrain_weight": tmp_path / "huge.npz"})
        assert re.fullmatch(
            r"class0/00\.png: the scores of layer \d are not finite; check the checkpoint, or use --precision fp64",
            message,
        )

    def test_numbers_that_do_not_fit(self, run):
        target = "--target 4: the model's classes are 0 to 3"
        assert said(run, "--target", 4) == said(run, "--target", 4, of=InfluencePattern) == target
        assert run("--target", 3, "--labels", 1).code == 0
        top = "--topK 29: a layer of this model has 28 neurons"
        assert said(run, "--topK", 29, of=TopKAttribution) == top
        short = ("--search", "shortlist", "--shortlist_max")
        few = "--shortlist_max 2: at least the 3 neurons of --topK must be scored"
        assert said(run, *short, 2, "--topK", 3, of=TopKAttribution) == few
        unused = "--shortlist_max: --search layer has no use for it; leave one of the two out"
        assert said(run, "--shortlist_max", 2) == unused
        over = "--shortlist_max: --search beam --beam_over layer has no use for it; leave one of the two out"
        assert said(run, "--search", "beam", "--shortlist_max", 2) == over
        for option, value in (("--beam_width", 2), ("--beam_over", "layer")):
            unused = f"{option}: --search layer has no use for it; leave one of the two out"
            assert said(run, option, value) == unused
        one = "--search beam: finds one neuron per layer, not the 5 of --topK; give --topK 1"
        assert said(run, "--search", "beam", of=TopKAttribution) == one
        doubt = "--search beam: --quadrature auto cannot tell its doubt; give another rule or search"
        assert said(run, "--search", "beam", "--quadrature", "auto", steps=None) == doubt
        nodes = "--ig_total_step: --quadrature auto chooses the nodes itself; leave one of the two out"
        assert said(run, "--quadrature", "auto") == nodes
        radau = ("--quadrature", "gauss-radau", "--labels", 1)
        few = "--ig_total_step 1: gauss-radau needs 2 nodes or more"
        assert said(run, *radau, steps=1) == said(run, *radau, steps=1, of=InfluencePattern) == few
        assert run(*radau, steps=2, out="radau").code == 0
        assert run(*short, 3, "--topK", 3, "--labels", 1, of=TopKAttribution, out="top").code == 0

    @pytest.mark.parametrize(
        ("of", "more", "folder"),
        [
            (JointAttribution, (), "ja"),
            (InfluencePattern, (), "influence_pattern"),
            (Baseline, ("--method", "random"), "baseline/random"),
            (Baseline, ("--topK", 2), "baseline/gradient_activation_top2"),
            (TopKAttribution, (), "ja_top5"),
            (TopKAttribution, ("--topK", 2), "ja_top2"),
            (TopKEdit, ("--method", "random"), "edit/prune/random"),
        ],
    )
    def test_folders_of_the_jobs(self, run, tmp_path, monkeypatch, of, more, folder):
        monkeypatch.setattr("neuronpath.files.ROOT", tmp_path)
        run("--labels", 0, *more, of=of, out=None, steps=None if of is TopKEdit else 1)
        found = {file.parent for file in tmp_path.rglob("*.args.json")}
        assert found == {tmp_path / "results" / folder / "tiny"}


class TestAccuracy:
    def folders(self, root: Path, *counts: int) -> Path:
        for label, count in enumerate(counts):
            (root / str(label)).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (9, 9), (40 * label, 10 * i, 9)).save(root / str(label) / f"{i}.png")
        return root

    @pytest.mark.parametrize(("images", "warned"), [(9, False), (10, True)])
    def test_low_accuracy_is_warned_of_once_from_ten_images_on(self, run, tmp_path, images, warned):
        """Of a model that always says class 2, images of class 0."""
        model = random_model(tiny_config(depth=1), dtype=torch.float32)
        model.head.bias[2] = 1e3
        save(model, tmp_path / "two.npz")
        given = {
            "--pretrain_weight": tmp_path / "two.npz",
            "--dataset_path": self.folders(tmp_path / "d", images, 1, 1, 1),
        }
        run("--labels", 0, steps=1, **given)
        words = f"top-1 is 0.0 % of {images} images, no better than guessing: it should be 62 % or so"
        assert [w.split(";")[0] for w in run.warned if "top-1" in w] == [words] * warned
        run("--labels", 0, steps=1, **given)
        assert not [w for w in run.warned if "top-1" in w], "nothing new, nothing said"
