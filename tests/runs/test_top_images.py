"""The job of top images, as users meet it: what the file holds, and that nothing else matters."""

import shutil
from pathlib import Path

import numpy as np
import oracle
import oracle_units
import pytest
import torch
from foreign import timm_folder
from helpers import (
    COUNTS,
    IMAGES,
    LABELS,
    TOP_FILES,
    contents,
    top_bytes,
)

from neuronpath.records import Args, read_top_images, top_store

EXACT = ("--precision", "fp64")
KEYS = ["image", "value", "mean", "share", "images", "labels", "pred", "count", "sum", "above", "made_of"]


def assert_equal(file: Path, model, images: dict[str, torch.Tensor], tolerance: float = 1e-9) -> None:
    """To the oracle."""
    with np.load(file) as arrays:
        several = model.num_neuron_tokens > 1
        assert list(arrays) == ([*KEYS[:2], "token", *KEYS[2:]] if several else KEYS)
        assert arrays["count"] == len(images)
    found, expected = read_top_images(file), oracle_units.top_images(model, images.values(), 9)
    L, H = model.config.depth, model.config.mlp_dim
    assert found.image.shape == found.value.shape == (L, H, 9)
    assert (found.images, found.count) == (list(images), len(images))
    for layer in range(L):
        for unit in range(H):
            best, mean, share = expected[layer][unit]
            n = len(best)
            assert found.image[layer, unit].tolist() == [i for _, i, _ in best] + [-1] * (9 - n)
            if several:
                assert found.token[layer, unit].tolist() == [t for *_, t in best] + [-1] * (9 - n)
            np.testing.assert_allclose(found.value[layer, unit, :n], [v for v, *_ in best], rtol=1e-6, atol=1e-30)
            assert np.isnan(found.value[layer, unit, n:]).all()
            assert found.mean[layer, unit] == pytest.approx(mean, rel=tolerance, abs=1e-12)
            assert found.share[layer, unit] == share
    assert found.pred.tolist() == [oracle.forward(model, x)[0].argmax().item() for x in images.values()]


class TestTheFile:
    def test_equals_the_oracle(self, either):
        either(*EXACT, "--batch_size", 2)
        model, images = either.loaded()
        file = either.out / "top_images.npz"
        assert_equal(file, model, images)
        found = read_top_images(file)
        assert found.images == IMAGES
        assert found.labels.tolist() == [LABELS[image] for image in IMAGES]
        assert (found.token is None) == (model.num_neuron_tokens == 1)
        assert 0 < found.share.mean() < 1
        one = either.out.parent / "some"
        either(*EXACT, "--labels", "0,3", "--images_per_class", 2, out=one)
        some = {image: images[image] for image in IMAGES if image[5] in "03" and image[-6:-4] in ("00", "01")}
        assert_equal(one / "top_images.npz", model, some)

    def test_ties_go_to_the_earlier_image(self, top):
        for image in ("class1/00.png", "class3/04.png", "class3/01.png"):
            shutil.copy(top.images / "class0/01.png", top.images / image)
        top(*EXACT, "--batch_size", 1)
        assert_equal(top.out / "top_images.npz", *top.loaded())
        top(*EXACT, "--batch_size", 10, out=top.out.parent / "other")
        one, other = (read_top_images(out / "top_images.npz") for out in (top.out, top.out.parent / "other"))
        assert (one.image == other.image).all()
        held = (one.image == 1).any(-1) & (one.image == 10).any(-1)
        assert held.any()

    def test_fp32_is_near(self, either):
        either()
        found, (model, images) = read_top_images(either.out / "top_images.npz"), either.loaded()
        expected = oracle_units.top_images(model, images.values(), 9)
        means = [[mean for _, mean, _ in layer] for layer in expected]
        np.testing.assert_allclose(found.mean, means, rtol=1e-4, atol=1e-5)

    def test_of_a_model_of_another_library(self, top, tmp_path):
        timm_folder(tmp_path / "folder", num_classes=4)
        top(*EXACT, checkpoint=tmp_path / "folder")
        made = Args.read(top.out / "top_images.args.json")
        found = read_top_images(top.out / "top_images.npz")
        shape = made.settings["model_depth"], made.settings["model_mlp_dim"]
        assert (found.count, found.mean.shape, made.job) == (11, shape, "top_images")

    def test_of_images_without_labels(self, top):
        files = [top.images / image for image in IMAGES]
        top.images = top.images.parent
        words = ("--dataset", "images", "--images", *files)
        assert "labels      none" in top(*words)
        found = read_top_images(top.out / "top_images.npz")
        assert sorted(found.images) == [f"images/{image}" for image in sorted(IMAGES)]
        assert (found.labels == found.pred).all()

    def test_what_the_summary_says(self, top, tmp_path, monkeypatch):
        monkeypatch.setattr("neuronpath.files.ROOT", tmp_path)
        words = ["--dataset", "imagefolder", "--num_workers", 0, "--pretrain_weight", top.checkpoint]
        monkeypatch.setattr(top, "words", lambda *more, **changes: [str(x) for x in (*words, *more)])
        out = tmp_path / "results/top_images/tiny"
        said = top("--dataset_path", top.images)
        assert said.startswith("top_images\nmodel       tiny: 6 layers of 28 neurons, 9 pixels\n")
        assert "images      11 (11 new, 0 from earlier runs)\ntop-1       " in said
        assert said.rstrip().endswith(f"file        {out}/top_images.npz")
        assert sorted(contents(out)) == TOP_FILES


class TestNothingElseMatters:
    """The same bytes."""

    @pytest.mark.parametrize("size", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 10))])
    def test_shards(self, either, tmp_path, size):
        more = ("--batch_size", size)
        either(*more)
        for parts in (2, 3):
            out = tmp_path / f"of{parts}"
            *first, last = range(1, parts + 1)
            for part in (*first, last):
                assert not (out / "top_images.npz").exists()
                said = either(*more, "--shard", f"{part % parts}/{parts}", out=out)
                assert ("top_images.npz is not written yet" in said) == (part != last)
            assert top_bytes(out) == top_bytes(either.out)

    def test_workers_and_another_run(self, top, tmp_path):
        top()
        top("--num_workers", 2, "--seed", 7, out=tmp_path / "other")
        assert top_bytes(tmp_path / "other") == top_bytes(top.out)

    def test_interrupted_anywhere(self, either, tmp_path, stops):
        either("--batch_size", 2)
        batches = sum(-(-count // 2) for count in COUNTS)
        out, runs = tmp_path / "other", 0
        while not (out / "top_images.npz").exists():
            stops(2)  # one batch more every time
            either("--batch_size", 2, out=out, code=130 if runs < batches - 1 else 0)
            runs += 1
        assert runs == batches
        assert top_bytes(out) == top_bytes(either.out)

    @pytest.mark.parametrize("more", [(), ("--overwrite",)])
    def test_killed_after_any_write(self, top, tmp_path, monkeypatch, more):
        """What is on the disk after each write is gone on with; nothing that a part holds is computed again."""
        top("--batch_size", 2)
        expected, snaps = top_bytes(top.out), list[Path]()

        def watched(write):
            def watch(file, *given):
                write(file, *given)
                snaps.append(tmp_path / f"snap{len(snaps)}")
                shutil.copytree(out, snaps[-1])

            return watch

        out = tmp_path / "other"
        if more:
            shutil.copytree(top.out, out)
        with monkeypatch.context() as patch:
            patch.setattr(top_store, "INTERVAL", -1)
            for name in ("write_part", "write_top_images"):
                patch.setattr(top_store, name, watched(getattr(top_store, name)))
            top("--batch_size", 2, *more, out=out)
        assert top_bytes(out) == expected
        assert len(snaps) == 1 + 7 + 1  # begun, after each of the groups, the file
        known = [11 - int(top("--batch_size", 2, out=snap).split("(")[1].split(" new")[0]) for snap in snaps]
        assert known == [0, 2, 3, 4, 6, 8, 10, 11, 11]
        assert all(top_bytes(snap) == expected for snap in snaps)

    def test_between_the_file_and_the_end(self, top, tmp_path, monkeypatch):
        """Killed when the folder of the parts has its other name."""
        top()
        expected = top_bytes(top.out)
        shutil.copytree(top.out, top.out / "top_images.parts.old")
        assert "0 new, 11 from earlier" in top()
        assert top_bytes(top.out) == expected

    def test_another_number_of_processes_goes_on(self, top, tmp_path, stops):
        top("--batch_size", 2)
        out = tmp_path / "other"
        top("--batch_size", 2, "--shard", "1/3", out=out)
        stops(3)
        top("--batch_size", 2, "--shard", "1/2", out=out, code=130)
        stops(0)
        top("--batch_size", 2, "--shard", "0/2", out=out)
        assert not (out / "top_images.npz").exists()
        assert "(1 new, 10 from earlier runs)" in top("--batch_size", 2, out=out)
        assert top_bytes(out) == top_bytes(top.out)

    def test_a_process_without_labels_and_one_without_images_left(self, top, tmp_path):
        top("--labels", "1,2")
        out = tmp_path / "other"
        for part in (0, 1):
            top("--labels", "1,2", "--shard", f"{part}/3", out=out)
        assert "no labels are left for it" in top("--labels", "1,2", "--shard", "2/3", out=out)
        assert top_bytes(out) == top_bytes(top.out)
