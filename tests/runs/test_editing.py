"""The edit job as users meet it: what its records hold, and what is refused."""

import json
from collections import Counter

import numpy as np
import oracle
import pytest
import torch
from helpers import (
    IMAGES,
    LABELS,
    NUM_CLASSES,
    ROOT,
    EditCommand,
    assert_same_edits,
    random_model,
    records,
    run_job,
    settings,
    tiny_config,
)
from made import write_paths

from neuronpath.attribution.controls import matched_paths, unit_weights
from neuronpath.attribution.edits import edit
from neuronpath.models.checkpoint import save
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import InfluencePattern, JointAttribution

#: By objective, as what an edit's probabilities are recorded.
SHOWN = {"probability": "probability", "logit": "probability", "sigmoid": "sigmoid"}

EDIT_SCRIPTS = {
    pool: f"experiments/quantitative-comparison/manipulation/{kind}/edit.py"
    for pool, kind in (("cls", "ViT"), ("mean", "MAE"))
}


class TestRecords:
    KEYS = ("image", "label", "pred", "prob", "method", "path", "original", "original_label")
    RESULTS = ("remove", "remove_label", "enhance", "enhance_label")

    @pytest.mark.parametrize(
        ("method", "k", "objective"),
        [
            *((method, k, "probability") for method in ("ja", "base", "influence_pattern") for k in (1, 3)),
            ("ja", 3, "logit"),
            ("ja", 3, "sigmoid"),
        ],
    )
    def test_equal_the_oracle(self, wide, method, k, objective):
        folder, key = (wide.influence, "path") if method == "influence_pattern" else (wide.ja, method)
        paths = write_paths(folder, key, k, 90)
        more = ("--objective", objective, "--precision", "fp64", "--batch_size", 4)
        wide("--method", method, *more, "--gain", 0.5, -30, 3)
        model, images = wide.loaded()
        found = records(wide.out)
        assert list(found) == IMAGES
        for image, record in found.items():
            assert tuple(record) == (*self.KEYS, *self.RESULTS, "gain", "gain_label")
            assert (record["label"], record["method"], record["path"]) == (LABELS[image], method, paths[image])
            factors = [1, 0, 2, 0.5, -30, 3]
            edited = [
                oracle.edited(
                    model, images[image], oracle.path_factors(model, paths[image], f), objective=SHOWN[objective]
                )
                for f in factors
            ]
            p = [x[record["label"]].item() for x in edited]
            original, removed, doubled, *gains = (x.argmax().item() for x in edited)
            assert [record["original"], record["remove"], record["enhance"], *record["gain"]] == pytest.approx(p, 1e-9)
            assert record["prob"] == record["original"]
            assert record["pred"] == record["original_label"] == original
            assert (record["remove_label"], record["enhance_label"]) == (removed, doubled)
            assert record["gain_label"] == gains
        assert any(record["gain_label"][1] != record["original_label"] for record in found.values())

    def test_of_the_search_itself_in_fp32(self, wide):
        wide.search()
        wide.search(InfluencePattern, wide.influence)
        model, images = wide.loaded()
        for method in ("ja", "base", "influence_pattern"):
            folder, key = (wide.influence, "path") if method == "influence_pattern" else (wide.ja, method)
            out = wide.out / method
            stdout = wide("--method", method, out=out)
            found, searched = records(out), records(folder)
            assert list(found) == IMAGES
            for image, record in found.items():
                assert tuple(record) == (*self.KEYS, *self.RESULTS)
                assert record["path"] == searched[image][key]
                assert record["pred"] == searched[image]["pred"]
                assert record["original"] == pytest.approx(searched[image]["prob"], rel=1e-4)
                for operation, factor in (("original", 1), ("remove", 0), ("enhance", 2)):
                    factors = oracle.path_factors(model, record["path"], factor)
                    expected = oracle.edited(model, images[image], factors)
                    assert record[operation] == pytest.approx(expected[record["label"]].item(), rel=1e-4, abs=1e-6)
            for operation in ("original", "remove", "enhance"):
                right = sum(record[f"{operation}_label"] == record["label"] for record in found.values())
                assert f"{100 * right / len(found):.2f} %" in stdout
                assert f"{np.mean([record[operation] for record in found.values()]):.4f}" in stdout
            assert "11 new" in stdout
            assert str(out) in stdout

    @pytest.mark.parametrize("objective", ["probability", "sigmoid"])
    def test_of_the_matched_control(self, wide, objective):
        paths = write_paths(wide.ja, k=3, units=90)
        more = ("--objective", objective, "--precision", "fp64", "--batch_size", 4)
        wide("--method", "random", *more, "--gain", 0.5, "--seed", 7)
        model, images = wide.loaded()
        averaged = Counter()
        for image, record in records(wide.out).items():
            assert tuple(record) == (*self.KEYS, *self.RESULTS, "gain", "gain_label", "draws", "control_ratio")
            assert (record["method"], record["path"]) == ("random", paths[image])
            label, weights = record["label"], oracle.unit_weights(model, images[image])
            drawn = [draw["path"] for draw in record["draws"]]
            assert drawn == matched_paths(weights, paths[image], image, 7)
            for path in drawn:
                oracle.assert_matched(weights.tolist(), paths[image], path)
            for w, own, ratios, *units in zip(weights, paths[image], record["control_ratio"], *drawn, strict=True):
                expected = [sum(w[j] / w[n] for n, j in zip(own, of_draw, strict=True)) / 3 for of_draw in units]
                assert ratios == pytest.approx([x.item() for x in expected], rel=1e-9)
            totals = [torch.zeros(NUM_CLASSES) for _ in range(3)]
            shares = [torch.zeros(NUM_CLASSES) for _ in range(3)]  # by softmax, which predicts
            for draw in record["draws"]:
                assert tuple(draw) == ("path", *self.RESULTS, "gain", "gain_label")
                edited, by_softmax = (
                    [
                        oracle.edited(model, images[image], oracle.path_factors(model, draw["path"], f), objective=F)
                        for f in (0, 2, 0.5)
                    ]
                    for F in (objective, "probability")
                )
                p = [x[label].item() for x in edited]
                assert [draw["remove"], draw["enhance"], *draw["gain"]] == pytest.approx(p, rel=1e-9)
                predicted = [x.argmax().item() for x in edited]
                assert [draw["remove_label"], draw["enhance_label"], *draw["gain_label"]] == predicted
                totals = [a + b / 5 for a, b in zip(totals, edited, strict=True)]
                shares = [a + b / 5 for a, b in zip(shares, by_softmax, strict=True)]
                averaged[predicted[0]] += 1
            assert [record["remove"], record["enhance"], *record["gain"]] == pytest.approx(
                [x[label].item() for x in totals], rel=1e-9
            )
            assert [record["remove_label"], record["enhance_label"], *record["gain_label"]] == [
                x.argmax().item() for x in shares
            ]
            original = oracle.forward(model, images[image], objective=objective)[0][label].item()
            assert record["original"] == pytest.approx(original, rel=1e-9)
        assert len(averaged) > 1

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_weights_of_the_control_are_taken_in_float64(self, tmp_path, image_folder, pool):
        """Units about 10 % from each other: in fp32 the batch size could decide which are within 10 %."""
        model = random_model(tiny_config(pool, mlp_dim=90), seed=5, scale=0.25, dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        for block in model.blocks:
            for weight in (block.mlp.fc1.weight, block.mlp.fc1.bias):
                weight.copy_(weight[:1].clone())
            column = block.mlp.fc2.weight[:, :1].clone()
            steps = 1.1 ** torch.arange(5).repeat(18) * (1 + 3e-8 * torch.randn(90, generator=generator))
            block.mlp.fc2.weight.copy_(column * steps)
        save(model, tmp_path / "near.pth")
        edits = EditCommand(tmp_path / "near.pth", image_folder, tmp_path)
        edits.pool = pool
        paths = write_paths(edits.ja, units=90)
        model, images = edits.loaded()
        weights = {image: oracle.unit_weights(model, x) for image, x in images.items()}
        exact = {image: matched_paths(weights[image], paths[image], image, 42) for image in IMAGES}
        coarse = {image: matched_paths(weights[image].float(), paths[image], image, 42) for image in IMAGES}
        assert exact != coarse
        for i, size in enumerate((1, 4, 100)):
            edits("--method", "random", "--batch_size", size, out=tmp_path / f"out{i}")
            found = records(tmp_path / f"out{i}")
            assert {image: [draw["path"] for draw in r["draws"]] for image, r in found.items()} == exact

    def test_the_predicted_class_does_not_depend_on_the_objective(self, tmp_path, image_folder):
        """Logits so large that the logistic function of several is 1."""
        model = random_model(tiny_config(), seed=5, dtype=torch.float32)
        model.head.bias.copy_(torch.tensor([50.0, 51.0, 52.0, 53.0]))
        save(model, tmp_path / "large.npz")
        edits = EditCommand(tmp_path / "large.npz", image_folder, tmp_path)
        write_paths(edits.ja)
        for objective in ("probability", "sigmoid"):
            edits("--objective", objective, out=tmp_path / objective)
        one, other = (records(tmp_path / objective).values() for objective in ("probability", "sigmoid"))
        assert {record["original"] for record in other} == {1}
        for a, b in zip(one, other, strict=True):
            for key in ("pred", "original_label", "remove_label", "enhance_label"):
                assert a[key] == b[key]
        assert any(record["pred"] for record in other)

    def test_paths_of_another_objective_are_warned_of(self, edits, tmp_path):
        edits("--objective", "logit", kind=JointAttribution, out=edits.ja)
        edits("--objective", "logit", out=tmp_path / "same")
        assert not edits.result.warnings
        edits(out=tmp_path / "other")
        (warned,) = edits.result.warnings
        assert "its paths were found with other settings (objective logit → probability)" in warned
        assert records(tmp_path / "other") == records(tmp_path / "same"), "both by softmax"
        assert settings(tmp_path / "same")["objective"] == "logit"
        assert "(objective logit → sigmoid)" in edits("--objective", "sigmoid", out=tmp_path / "same", code=2)

    def test_factor_1_is_the_original_exactly(self, wide):
        write_paths(wide.ja, units=90)
        wide("--gain", 1, 0, 2)
        for record in records(wide.out).values():
            assert record["gain"] == [record["original"], record["remove"], record["enhance"]]
            labels = [record[f"{operation}_label"] for operation in ("original", "remove", "enhance")]
            assert record["gain_label"] == labels

    @pytest.mark.parametrize("method", ["ja", "random"])
    def test_batches_do_not_matter(self, wide, tmp_path, method):
        write_paths(wide.ja, units=90)
        more = ("--method", method, "--gain", 0.5, 3)
        wide(*more)
        expected = records(wide.out)
        for i, (option, value) in enumerate([("batch", 1), ("batch", 4), ("internal_batch", 1), ("internal_batch", 3)]):
            wide(*more, f"--{option}_size", value, out=tmp_path / f"out{i}")
            assert_same_edits(records(tmp_path / f"out{i}"), expected)

    def test_seed_matters_to_the_control_alone(self, edits, tmp_path):
        write_paths(edits.ja)
        for method in ("ja", "random"):
            outs = [tmp_path / f"{method}{seed}" for seed in (1, 2)]
            for seed, out in enumerate(outs, 1):
                edits("--method", method, "--seed", seed, out=out)
            a, b = (records(out) for out in outs)
            assert (a == b) == (method == "ja")

    def test_args_say_what_made_them(self, edits):
        write_paths(edits.ja)
        edits("--gain", 0.5, 3, "--seed", 7)
        args = json.loads((edits.out / "imgnet_all.args.json").read_text())
        assert args["job"] == "edit"
        expected = {"method": "ja", "operation": "remove_enhance", "gain": [0.5, 3.0], "seed": 7, "precision": "fp32"}
        assert expected.items() <= args["settings"].items()
        assert {"ja_path": str(edits.ja), "input_prefix": "imgnet_all", "method": "ja"}.items() <= args[
            "options"
        ].items()

    def test_default_folders(self, edits, tmp_path, monkeypatch):
        monkeypatch.setattr("neuronpath.files.ROOT", tmp_path)
        write_paths(tmp_path / "results" / "ja" / "tiny")
        write_paths(tmp_path / "results" / "influence_pattern" / "tiny", "path")
        words = ["--dataset", "imagefolder", "--num_workers", "0", "--pretrain_weight", str(edits.checkpoint)]
        for method in ("ja", "base", "influence_pattern", "random"):
            if method == "base":
                write_paths(tmp_path / "results" / "ja" / "tiny", "base")
            elif method == "random":
                write_paths(tmp_path / "results" / "ja" / "tiny")
            given = [*words, "--dataset_path", str(edits.images), "--method", method]
            run_job(Edit, *given).expect()
            assert list(records(tmp_path / "results" / "edit" / "remove_enhance" / method / "tiny")) == IMAGES

    def test_prefixes(self, edits):
        write_paths(edits.ja)
        for file in edits.ja.iterdir():
            file.rename(file.with_name(file.name.replace("imgnet_all", "mine")))
        assert "imgnet_all" in edits.refused()
        edits("--input_prefix", "mine", "--output_prefix", "yours")
        assert list(records(edits.out, "yours")) == IMAGES

    def test_a_part_of_the_images(self, edits):
        paths = write_paths(edits.ja)
        for label in (0, 2):
            (edits.ja / f"imgnet_all-{label}.rlt.jsonl").unlink()
        edits("--labels", "1,3", "--images_per_class", 2)
        found = records(edits.out)
        assert list(found) == ["class1/00.png", "class3/00.png", "class3/01.png"]
        assert all(record["path"] == paths[image] for image, record in found.items())


class TestFaults:
    @pytest.mark.parametrize(("pool", "other"), [("cls", "mean"), ("mean", "cls")])
    def test_the_other_head_names_its_script(self, edits, tmp_path, pool, other):
        write_paths(edits.ja)
        file = tmp_path / "other.pth"
        save(random_model(tiny_config(other), dtype=torch.float32), file)
        edits.pool = pool
        message = edits.refused(checkpoint=file)
        assert EDIT_SCRIPTS[other] in message
        assert EDIT_SCRIPTS[pool] not in message
        assert (ROOT / EDIT_SCRIPTS[other]).is_file()

    @pytest.mark.parametrize(
        ("option", "value", "word"),
        [
            ("--method", "nonsense", "nonsense"),
            ("--method", "", "--method"),
            ("--meth", "ja", "--meth"),
            ("--gain", "much", "much"),
            ("--gain", "nan", "nan"),
            ("--gain", "inf", "inf"),
            ("--seed", "-1", "--seed"),
            ("--input_prefix", "a/b", "a/b"),
            ("--topK", "3", "--topK"),
            ("--target", "pred", "--target"),
            ("--ig_total_step", "3", "--ig_total_step"),
        ],
    )
    def test_bad_options(self, edits, option, value, word):
        write_paths(edits.ja)
        assert word in edits.refused(option, value)

    def test_help_names_every_option(self):
        for pool in ("cls", "mean"):
            text = run_job(Edit, "--help", pool=pool).expect().stdout
            options = "dataset dataset_path output_dir output_prefix model_type pretrain_weight img_size preprocess"
            options += " method ja_path influence_pattern_path input_prefix gain batch_size internal_batch_size labels"
            options += " images_per_class device no_cuda precision num_workers seed on_bad_image overwrite"
            assert all(f"--{option} " in text for option in options.split())

    def test_probabilities_that_are_not_finite_name_the_image(self, edits):
        write_paths(edits.ja)
        message = edits("--gain", 1e38, "--batch_size", 2, code=2)
        assert IMAGES[0] in message
        assert "finite" in message
        assert not records(edits.out)

    def test_activations_that_are_not_finite_name_the_image(self, edits, monkeypatch):
        write_paths(edits.ja)
        weigh = unit_weights
        broken = [torch.tensor([0.0, torch.nan, 0, 0])]

        def weights(model, images, units):
            added = (broken.pop() if broken else torch.zeros(len(images)))[:, None]
            return [layer + added for layer in weigh(model, images, units)]

        monkeypatch.setattr("neuronpath.attribution.controls.unit_weights", weights)
        message = edits("--method", "random", "--batch_size", 4, code=2)
        assert f"{IMAGES[1]}: the activations are not finite" in message

    def test_short_memory_halves_the_rows(self, edits, monkeypatch, tmp_path):
        write_paths(edits.ja)
        edits(out=tmp_path / "whole")
        whole, rows = edit, []

        def short(*given, internal_batch_size, **named):
            rows.append(internal_batch_size)
            if internal_batch_size > 3:
                raise torch.OutOfMemoryError("out of memory")
            return whole(*given, internal_batch_size=internal_batch_size, **named)

        monkeypatch.setattr("neuronpath.runs.edit_plan.edit", short)
        edits("--internal_batch_size", 12)
        assert rows[:3] == [12, 6, 3]
        assert_same_edits(records(edits.out), records(tmp_path / "whole"))
