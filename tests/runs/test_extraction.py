"""What the extraction jobs record: neuron, activation and top-K paths, in every precision."""

import hashlib
import json
import os

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, assert_same_search, random_model, records, settings, tiny_config

import neuronpath
from neuronpath.attribution.objectives import OBJECTIVES
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.models.checkpoint import save
from neuronpath.runs.extraction import InfluencePattern, JointAttribution, TopKAttribution


class TestRecords:
    def test_equal_what_the_package_finds(self, run):
        stdout = run()
        model = neuronpath.load(run.checkpoint)
        source = open_dataset("imagefolder", run.images, NUM_CLASSES)
        (batch,) = batches(source, source.items, preprocessing("paper", model.config), 100)
        labels = torch.tensor([item.label for item in batch.items])
        quadrature = neuronpath.Quadrature("right", 5)
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
        assert_same_search(records(run.out), expected)
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
        expected = {"quadrature": "right", "ig_total_step": 5, "target": "label", "precision": "fp32"}
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
            assert_same_search(records(tmp_path / f"out{i}"), expected)

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

    @pytest.mark.parametrize("kind", [JointAttribution, InfluencePattern])
    @pytest.mark.parametrize("objective", ["logit", "sigmoid"])
    def test_objective(self, run, kind, objective):
        more = ("--objective", objective, "--precision", "fp64")
        stdout = run(*more, kind=kind)
        assert f"in units of {OBJECTIVES[objective].unit}" in stdout
        assert settings(run.out)["objective"] == objective
        (model, images), found = run.loaded(), records(run.out)
        labels = torch.tensor([record["label"] for record in found.values()])
        search, x = neuronpath.Quadrature("right", 5), torch.stack([*images.values()])
        find = neuronpath.find_path if kind is JointAttribution else neuronpath.influence_path
        expected, other = (find(model, x, labels, search, objective=F) for F in (objective, "probability"))
        path, score = ("ja", "ja_score") if kind is JointAttribution else ("path", "score")
        assert [record[path] for record in found.values()] == expected.path.tolist() != other.path.tolist()
        assert [record[score] for record in found.values()] == pytest.approx(expected.score.tolist(), rel=1e-9)
        shown = {"logit": expected.logits.softmax(-1), "sigmoid": expected.logits.sigmoid()}[objective]
        prob = [p[label].item() for p, label in zip(shown, labels, strict=True)]
        assert [record["prob"] for record in found.values()] == pytest.approx(prob, rel=1e-9)
        assert "11 from earlier" in run(*more, kind=kind)
        assert f"(objective {objective} → probability)" in run("--precision", "fp64", kind=kind, code=2)

    def test_records_of_before_resume_as_of_the_probability(self, run):
        run("--labels", 1)
        file = run.out / "imgnet_all.args.json"
        args = json.loads(file.read_text())
        assert args["settings"].pop("objective") == "probability"
        file.write_text(json.dumps(args))
        assert "(0 new, 1 from earlier runs)" in run("--labels", 1)
        assert "(objective probability → logit)" in run("--labels", 1, "--objective", "logit", code=2)
        run("--labels", 1, "--overwrite", "--objective", "logit")
        assert settings(run.out)["objective"] == "logit"

    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_logits_that_are_not_finite_are_refused_whatever_f(self, run, tmp_path, objective):
        """The logistic function of an infinite logit is 1, its derivative 0."""
        model = random_model(tiny_config(depth=1), dtype=torch.float32)
        model.head.weight.fill_(3e38)
        save(model, tmp_path / "huge.npz")
        message = run("--objective", objective, checkpoint=tmp_path / "huge.npz", code=2)
        assert "are not finite" in message

    def test_precision(self, run, tmp_path):
        run()
        run("--precision", "fp64", "--batch_size", 3, out=tmp_path / "a")
        run("--precision", "fp64", "--internal_batch_size", 7, out=tmp_path / "b")
        assert_same_search(records(run.out), records(tmp_path / "a"), 1e-3)
        assert_same_search(records(tmp_path / "a"), records(tmp_path / "b"), 1e-9)

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


class TestPrecisions:
    def test_a_run_in_bf16(self, run, tmp_path):
        assert "images below 0.003" in run("--precision", "bf16", out=tmp_path / "half")
        run(out=tmp_path / "full")
        half, full = records(tmp_path / "half"), records(tmp_path / "full")
        assert half.keys() == full.keys()
        assert [r["prob"] for r in half.values()] == pytest.approx([r["prob"] for r in full.values()], abs=0.05)
        assert [r["prob"] for r in half.values()] != [r["prob"] for r in full.values()]
        assert "precision bf16 → fp32" in run(code=2, out=tmp_path / "half")

    def test_influence_patterns_in_bf16(self, run):
        assert "images below 0.003" in run("--precision", "bf16", kind=InfluencePattern)

    def test_tf32_needs_a_gpu(self, run):
        assert "--precision tf32: cpu has none" in run.refused("--precision", "tf32", "--device", "cpu")

    def test_mps_is_not_there(self, run, monkeypatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert "--device mps: this machine has 0 mps device(s)" in run.refused("--device", "mps")


class TestTopK:
    def test_one_neuron_equals_joint_attr(self, topk, tmp_path):
        topk("--topK", 1, kind=TopKAttribution, out=tmp_path / "k")
        topk(kind=JointAttribution, out=tmp_path / "one")
        assert records(tmp_path / "k") == records(tmp_path / "one")

    def test_records_k_neurons_per_layer(self, topk):
        found = records(topk.ja)
        assert len(found) == 6 + 1 + 2 + 11
        for record in found.values():
            for key in ("ja", "base", "ja_act", "base_act"):
                assert [len(layer) for layer in record[key]] == [5] * 6
        assert settings(topk.ja)["topK"] == 5

    def test_more_neurons_than_there_are(self, topk, tmp_path):
        assert "28 neurons" in topk("--topK", 29, kind=TopKAttribution, out=tmp_path / "out", code=2)
        assert not (tmp_path / "out").exists()

    def test_another_k_is_refused_on_resume(self, topk):
        assert "topK 5 → 4" in topk("--topK", 4, kind=TopKAttribution, out=topk.ja, code=2)
