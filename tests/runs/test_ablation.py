"""Removal to means and to other images' activations, as users meet it: results, resuming, and what changes nothing."""

from collections import Counter

import numpy as np
import oracle
import pytest
import torch
from helpers import (
    IMAGES,
    LABELS,
    NUM_CLASSES,
    assert_same_edits,
    change_line,
    contents,
    random_model,
    record_lines,
    records,
    run_job,
    settings,
    tiny_config,
)
from made import write_paths

from neuronpath.attribution.activations import summed_activations
from neuronpath.models.checkpoint import save
from neuronpath.runs.editing import Edit
from neuronpath.runs.pruning import TopKEdit

KEYS = ("image", "label", "pred", "prob", "method", "ablation", "path", "original", "original_label")
MEAN = ("remove", "remove_label", "enhance", "enhance_label", "retain", "retain_label")
RESAMPLE = (*MEAN[:4], "draws")
EXACT = ("--precision", "fp64")


def draws_of(found: dict[str, dict]) -> dict[str, list[str]]:
    return {image: [draw["other"] for draw in record["draws"]] for image, record in found.items()}


def means_of(out) -> np.ndarray:
    with np.load(out / "imgnet_all.means.npz") as found:
        return found["means"]


class TestRecords:
    @pytest.mark.parametrize("k", [1, 3])
    def test_mean_equals_the_oracle(self, wide, k):
        paths = write_paths(wide.ja, k=k, units=90)
        wide("--ablation", "mean", *EXACT, "--batch_size", 4, "--gain", 0.5)
        model, images = wide.loaded()
        means, N = oracle.means(model, images.values()), model.num_neuron_tokens
        np.testing.assert_allclose(means_of(wide.out), means, rtol=1e-10, atol=1e-13)
        found = records(wide.out)
        assert list(found) == IMAGES
        for image, record in found.items():
            assert tuple(record) == (*KEYS, *MEAN, "gain", "gain_label")
            assert (record["ablation"], record["path"]) == ("mean", paths[image])
            expected = {
                "original": oracle.forward(model, images[image])[0],
                "remove": oracle.ablated(model, images[image], oracle.at_means(paths[image], means, N)),
                "enhance": oracle.edited(model, images[image], oracle.path_factors(model, paths[image], 2)),
                "retain": oracle.ablated(model, images[image], oracle.all_but(paths[image], means, N)),
            }
            for key, p in expected.items():
                assert record[key] == pytest.approx(p[record["label"]].item(), rel=1e-9)
                assert record[f"{key}_label"] == p.argmax().item()
            assert abs(record["remove"] - record["original"]) > 1e-9

    @pytest.mark.parametrize("k", [1, 3])
    def test_resample_equals_the_oracle(self, wide, k):
        paths = write_paths(wide.ja, k=k, units=90)
        wide("--ablation", "resample", *EXACT, "--batch_size", 4, "--seed", 7)
        model, images = wide.loaded()
        for image, record in records(wide.out).items():
            assert tuple(record) == (*KEYS, *RESAMPLE)
            assert record["ablation"] == "resample"
            label, total = record["label"], torch.zeros(NUM_CLASSES)
            assert len(record["draws"]) == 5
            for draw in record["draws"]:
                assert tuple(draw) == ("other", "remove", "remove_label")
                assert LABELS[draw["other"]] != label
                values = oracle.of_other(model, paths[image], images[draw["other"]])
                p = oracle.ablated(model, images[image], values)
                assert draw["remove"] == pytest.approx(p[label].item(), rel=1e-9)
                assert draw["remove_label"] == p.argmax().item()
                total = total + p / 5
            assert record["remove"] == pytest.approx(total[label].item(), rel=1e-9)
            assert record["remove_label"] == total.argmax().item()
            doubled = oracle.edited(model, images[image], oracle.path_factors(model, paths[image], 2))
            assert record["enhance"] == pytest.approx(doubled[label].item(), rel=1e-9)

    @pytest.mark.parametrize("ablation", ["mean", "resample"])
    def test_of_the_matched_control(self, wide, tmp_path, ablation):
        """Draw i of the control takes other image i; its paths are those of zero ablation."""
        write_paths(wide.ja, k=3, units=90)
        wide("--method", "random", *EXACT, out=tmp_path / "zero")
        wide("--method", "random", "--ablation", ablation, *EXACT)
        wide("--ablation", "resample", *EXACT, out=tmp_path / "own")
        model, images = wide.loaded()
        means, N = oracle.means(model, images.values()), model.num_neuron_tokens
        zero, others = records(tmp_path / "zero"), draws_of(records(tmp_path / "own"))
        for image, record in records(wide.out).items():
            assert [draw["path"] for draw in record["draws"]] == [draw["path"] for draw in zero[image]["draws"]]
            removed = []
            for i, draw in enumerate(record["draws"]):
                values = oracle.at_means(draw["path"], means, N)
                if ablation == "resample":
                    assert draw["other"] == others[image][i]
                    values = oracle.of_other(model, draw["path"], images[draw["other"]])
                removed.append(oracle.ablated(model, images[image], values)[record["label"]].item())
                assert draw["remove"] == pytest.approx(removed[-1], rel=1e-9)
            assert record["remove"] == pytest.approx(np.mean(removed), rel=1e-9)
            assert record["enhance"] == pytest.approx(zero[image]["enhance"], rel=1e-9)
            assert ("retain" in record) == (ablation == "mean")

    def test_zero_is_as_it_was(self, edits, tmp_path):
        write_paths(edits.ja)
        edits(out=tmp_path / "before")
        edits("--ablation", "zero")
        assert record_lines(edits.out) == record_lines(tmp_path / "before")
        assert "ablation" not in str(settings(edits.out))
        assert all("ablation" not in record for record in records(edits.out).values())
        assert not list(edits.out.glob("*.npz"))

    def test_the_summary_says_what_is_retained(self, edits):
        write_paths(edits.ja)
        assert "\nretain      top-1 " in edits("--ablation", "mean")


class TestTopK:
    @pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
    def test_the_best_k_of_longer_paths(self, wide, tmp_path, ablation):
        paths = write_paths(wide.ja, k=3, units=90)
        wide("--topK", 2, "--ablation", ablation)
        for label in range(NUM_CLASSES):
            for line, image in enumerate([i for i in IMAGES if LABELS[i] == label]):
                change_line(wide.ja / f"imgnet_all-{label}.rlt.jsonl", line, ja=[x[:2] for x in paths[image]])
        wide("--ablation", ablation, out=tmp_path / "cut")
        assert_same_edits(records(wide.out), records(tmp_path / "cut"), 0)
        assert settings(wide.out)["topK"] == 2
        assert "topK 2 → None" in wide("--ablation", ablation, code=2)

    def test_fewer_than_k_are_refused(self, edits):
        write_paths(edits.ja, k=3)
        message = edits.refused("--topK", 4)
        assert IMAGES[0] in message
        assert "3 neurons per layer" in message

    def test_default_folders(self, edits, tmp_path, monkeypatch):
        monkeypatch.setattr("neuronpath.files.ROOT", tmp_path)
        write_paths(tmp_path / "results/ja/tiny", k=3)
        words = ["--dataset", "imagefolder", "--num_workers", 0, "--pretrain_weight", edits.checkpoint]
        words += ["--dataset_path", edits.images]
        for more, folder in (
            (("--topK", 2), "remove_enhance_top2"),
            (("--ablation", "mean"), "remove_enhance_mean"),
            (("--ablation", "resample", "--topK", 1), "remove_enhance_resample_top1"),
        ):
            run_job(Edit, *words, *more).expect()
            assert list(records(tmp_path / "results/edit" / folder / "ja/tiny")) == IMAGES

    def test_of_the_top_k_script(self, topk, tmp_path):
        more = ("--topK", 3, "--edit_operation", "remove", "--ablation")
        for ablation in ("mean", "resample"):
            topk(*more, ablation, out=tmp_path / ablation)
            topk("--topK", 3, "--ablation", ablation, kind=Edit, out=tmp_path / "other" / ablation)
            one, other = records(tmp_path / ablation), records(tmp_path / "other" / ablation)
            for image, record in one.items():
                assert "enhance" not in record
                assert record.items() <= other[image].items()
        for operation in ("prune", "enhance"):
            words = topk.words("--topK", 3, "--edit_operation", operation, "--ablation", "mean", out=tmp_path / "x")
            assert "--ablation mean" in run_job(TopKEdit, *words).fault
            assert not (tmp_path / "x").exists()


class TestNothingElseMatters:
    @pytest.mark.parametrize("method", ["ja", "random"])
    @pytest.mark.parametrize("ablation", ["mean", "resample"])
    def test_batches_and_shards(self, wide, tmp_path, ablation, method):
        write_paths(wide.ja, units=90)
        more = ("--ablation", ablation, "--method", method)
        wide(*more)
        expected = records(wide.out)
        for i, sizes in enumerate([("--batch_size", 1), ("--batch_size", 4), ("--internal_batch_size", 1)]):
            wide(*more, *sizes, out=tmp_path / f"out{i}")
            assert_same_edits(records(tmp_path / f"out{i}"), expected)
        for part in (1, 0, 2):
            wide(*more, "--shard", f"{part}/3", "--batch_size", 2, out=tmp_path / "shared")
        assert_same_edits(records(tmp_path / "shared"), expected)

    def test_order_of_the_images(self, wide, tmp_path):
        """The same images under names that turn their order around."""
        paths, turned = write_paths(wide.ja, units=90), tmp_path / "turned"
        names = {image: f"class{LABELS[image]}/{99 - int(image[7:9]):02d}.png" for image in IMAGES}
        for image, name in names.items():
            (turned / name).parent.mkdir(parents=True, exist_ok=True)
            (turned / name).write_bytes((wide.images / image).read_bytes())
        wide("--ablation", "mean")
        for label in range(NUM_CLASSES):
            for line, image in enumerate([i for i in IMAGES if LABELS[i] == label]):
                found = {"image": names[image], "ja": paths[image]}
                change_line(wide.ja / f"imgnet_all-{label}.rlt.jsonl", line, **found)
        wide("--ablation", "mean", images=turned, out=tmp_path / "other")
        a, b = records(wide.out), records(tmp_path / "other")
        for image, name in names.items():
            for key in ("remove", "retain"):
                assert a[image][key] == pytest.approx(b[name][key], abs=1e-6)

    def test_the_seed_matters_to_resampling_alone(self, edits, tmp_path):
        write_paths(edits.ja)
        for ablation in ("mean", "resample"):
            for seed in (1, 2):
                edits("--ablation", ablation, "--seed", seed, out=tmp_path / f"{ablation}{seed}")
            a, b = (records(tmp_path / f"{ablation}{seed}") for seed in (1, 2))
            assert (a == b) == (ablation == "mean")

    def test_methods_and_k_share_their_other_images(self, edits, tmp_path):
        write_paths(edits.ja, k=2)
        edits("--ablation", "resample", out=tmp_path / "two")
        edits("--ablation", "resample", "--topK", 1, out=tmp_path / "one")
        assert draws_of(records(tmp_path / "one")) == draws_of(records(tmp_path / "two"))


class TestGoingOn:
    @pytest.mark.parametrize("ablation", ["mean", "resample"])
    def test_after_a_kill(self, edits, ablation, monkeypatch):
        write_paths(edits.ja)
        more = ("--ablation", ablation)
        edits(*more)
        before, file = records(edits.out), edits.out / "imgnet_all-3.rlt.jsonl"
        whole = contents(edits.out)
        assert "0 new, 11 from earlier" in edits(*more)
        assert contents(edits.out) == whole
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:2]) + lines[2][:50])
        monkeypatch.setattr("neuronpath.runs.ablation.summed_activations", None)  # means are made once
        assert "3 new, 8 from earlier" in edits(*more, "--batch_size", 3)
        assert_same_edits(records(edits.out), before)

    def test_means_that_were_lost_are_made_anew(self, edits):
        write_paths(edits.ja)
        edits("--ablation", "mean")
        before = means_of(edits.out)
        (edits.out / "imgnet_all.means.npz").unlink()
        edits("--ablation", "mean")
        assert not (edits.out / "imgnet_all.means.npz").exists(), "nothing was pending"
        (edits.out / "imgnet_all-1.rlt.jsonl").unlink()
        edits("--ablation", "mean", "--batch_size", 3)
        np.testing.assert_allclose(means_of(edits.out), before, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("ablation", ["mean", "resample"])
    def test_other_images_are_refused(self, edits, ablation):
        write_paths(edits.ja)
        edits("--ablation", ablation, "--images_per_class", 2)
        before = contents(edits.out)
        for more in ((), ("--images_per_class", 2, "--labels", "0-2"), ("--images_per_class", 1)):
            message = edits("--ablation", ablation, *more, code=2)
            assert "ablation_images 7 images, " in message
            assert contents(edits.out) == before
        edits("--ablation", ablation, "--overwrite")
        assert list(records(edits.out)) == IMAGES
        if ablation == "mean":
            with np.load(edits.out / "imgnet_all.means.npz") as found:
                assert int(found["count"]) == 11

    def test_another_ablation_is_refused(self, edits):
        write_paths(edits.ja)
        edits()
        before = contents(edits.out)
        assert "ablation None → mean" in edits("--ablation", "mean", code=2)
        assert contents(edits.out) == before
        edits("--ablation", "mean", "--overwrite")
        assert "ablation mean → resample" in edits("--ablation", "resample", code=2)
        assert "ablation mean → None" in edits(code=2)

    def test_means_of_other_weights_do_not_count(self, edits, tmp_path):
        write_paths(edits.ja)
        edits("--ablation", "mean")
        before, other = means_of(edits.out), tmp_path / "other.npz"
        save(random_model(tiny_config(), seed=1, dtype=torch.float32), other)
        edits("--ablation", "mean", "--overwrite", checkpoint=other)
        assert not np.allclose(means_of(edits.out), before)
        edits("--ablation", "mean", checkpoint=other, out=tmp_path / "fresh")
        assert record_lines(edits.out) == record_lines(tmp_path / "fresh")

    @pytest.mark.parametrize("content", [b"", b"no means", b"PK\x03\x04 broken"])
    def test_damaged_means_are_named(self, edits, content):
        write_paths(edits.ja)
        edits("--ablation", "mean")
        file = edits.out / "imgnet_all.means.npz"
        file.write_bytes(content)
        (edits.out / "imgnet_all-1.rlt.jsonl").unlink()
        message = edits("--ablation", "mean", code=2)
        assert str(file) in message
        assert "remove it" in message

    def test_pickled_means_are_not_run(self, edits):
        write_paths(edits.ja)
        edits("--ablation", "mean")
        file = edits.out / "imgnet_all.means.npz"
        with np.load(file) as found:
            np.savez(file, means=np.array([{}], dtype=object), made_of=found["made_of"])
        (edits.out / "imgnet_all-1.rlt.jsonl").unlink()
        assert str(file) in edits("--ablation", "mean", code=2)

    @pytest.mark.parametrize("means", [np.zeros((2, 3)), np.full((6, 28), np.nan)])
    def test_means_that_do_not_fit_are_named(self, edits, means):
        write_paths(edits.ja)
        edits("--ablation", "mean")
        file = edits.out / "imgnet_all.means.npz"
        with np.load(file) as found:
            np.savez(file, means=means, made_of=found["made_of"])
        (edits.out / "imgnet_all-1.rlt.jsonl").unlink()
        assert str(file) in edits("--ablation", "mean", code=2)


class TestFaults:
    @pytest.mark.parametrize("ablation", ["mean", "resample"])
    def test_unreadable_images(self, edits, ablation):
        write_paths(edits.ja)
        (edits.images / "class3/02.png").write_text("no image")
        message = edits("--ablation", ablation, code=2)
        assert "class3/02.png" in message
        assert "--on_bad_image skip" in message
        edits("--ablation", ablation, "--on_bad_image", "skip", code=3)
        found = records(edits.out)
        assert list(found) == [image for image in IMAGES if image != "class3/02.png"]
        model, images = edits.loaded()
        if ablation == "mean":
            np.testing.assert_allclose(means_of(edits.out), oracle.means(model, images.values()), rtol=1e-4, atol=1e-5)
        else:
            counts = Counter(other for others in draws_of(found).values() for other in others)
            assert "class3/02.png" not in counts
            assert sum(counts.values()) == 50

    def test_a_bad_image_elsewhere_changes_only_what_drew_it(self, edits, tmp_path):
        write_paths(edits.ja)
        edits("--ablation", "resample", out=tmp_path / "whole")
        (edits.images / "class3/02.png").write_text("no image")
        edits("--ablation", "resample", "--on_bad_image", "skip", "--batch_size", 3, code=3)
        before, after = draws_of(records(tmp_path / "whole")), draws_of(records(edits.out))
        pairs = [(a, b) for image in after for a, b in zip(before[image], after[image], strict=True)]
        assert all((a == b) == (a != "class3/02.png") for a, b in pairs)
        assert any(a != b for a, b in pairs)

    def test_one_class_alone_has_no_other_images(self, edits):
        write_paths(edits.ja)
        message = edits.refused("--ablation", "resample", "--labels", 3)
        assert "class 3" in message
        edits("--ablation", "mean", "--labels", 3)

    def test_short_memory_halves_the_rows_of_the_means(self, edits, monkeypatch, tmp_path):
        write_paths(edits.ja)
        edits("--ablation", "mean", out=tmp_path / "whole")
        rows = []

        def short(model, images, at_once, units):
            rows.append(at_once)
            if at_once > 3:
                raise torch.OutOfMemoryError("out of memory")
            return summed_activations(model, images, at_once, units)

        monkeypatch.setattr("neuronpath.runs.ablation.summed_activations", short)
        edits("--ablation", "mean", "--internal_batch_size", 12)
        assert rows[:3] == [12, 6, 3]
        assert_same_edits(records(edits.out), records(tmp_path / "whole"))

    def test_means_that_are_not_finite(self, edits, tmp_path):
        write_paths(edits.ja)
        model = random_model(tiny_config(), dtype=torch.float32)
        model.blocks[2].mlp.fc1.bias[:] = 3e38
        save(model, tmp_path / "large.npz")
        message = edits("--ablation", "mean", checkpoint=tmp_path / "large.npz", code=2)
        assert "finite" in message
        assert not list(edits.out.glob("*.npz"))

    def test_bad_option(self, edits):
        write_paths(edits.ja)
        assert "nonsense" in edits.refused("--ablation", "nonsense")
        assert "--topK" in edits.refused("--topK", 0)
