"""The job of top images: unreadable images, --overwrite, what is refused, and kills."""

import shutil
import sys

import numpy as np
import pytest
import torch
from helpers import (
    IMAGES,
    ROOT,
    TOP_FILES,
    Command,
    contents,
    hold,
    random_model,
    read_lines,
    run_process,
    settings,
    start,
    tiny_config,
    top_bytes,
)

from neuronpath.models.checkpoint import save
from neuronpath.records import read_top_images
from neuronpath.runs.extraction import JointAttribution

EXACT = ("--precision", "fp64")


class TestBadImages:
    @pytest.fixture
    def bad(self, top) -> Command:
        (top.images / "class0/01.png").write_text("no image")
        (top.images / "class3/04.png").write_text("no image")
        return top

    def test_fail(self, bad):
        assert "class0/01.png: cannot be read" in bad(code=2)
        assert not (bad.out / "top_images.npz").exists()

    def test_skipped_they_count_nowhere(self, bad):
        bad("--on_bad_image", "skip", *EXACT, code=3)
        assert sorted(contents(bad.out)) == [*TOP_FILES, "top_images.skipped.jsonl"]
        skipped = [IMAGES[1], IMAGES[-1]]
        assert [entry["image"] for entry in read_lines(bad.out / "top_images.skipped.jsonl")] == skipped
        found = read_top_images(bad.out / "top_images.npz")
        assert found.images == IMAGES
        assert found.count == 9
        assert [IMAGES[i] for i in np.flatnonzero(found.pred < 0)] == skipped
        assert not np.isin(found.image, [1, 10]).any()
        for image in skipped:
            (bad.images / image).unlink()
        bad(*EXACT, out=bad.out.parent / "without")
        without = read_top_images(bad.out.parent / "without/top_images.npz")
        assert [[found.images[i] for i in row] for row in found.image.reshape(-1, 9)] == [
            [without.images[i] for i in row] for row in without.image.reshape(-1, 9)
        ]
        np.testing.assert_allclose(found.mean, without.mean, rtol=1e-12)
        np.testing.assert_array_equal(found.share, without.share)

    def test_shards_and_resuming(self, bad, tmp_path, stops):
        more = ("--on_bad_image", "skip", "--batch_size", 2)
        bad(*more, code=3)
        expected, out = contents(bad.out), tmp_path / "shared"
        for part, code in ((1, 0), (0, 3), (2, 0)):
            bad(*more, "--shard", f"{part}/3", code=code, out=out)
        assert contents(out)["top_images.npz"] == expected["top_images.npz"]
        out = tmp_path / "resumed"
        stops(2)
        bad(*more, out=out, code=130)
        stops(0)
        bad(*more, out=out, code=3)
        assert contents(out)["top_images.npz"] == expected["top_images.npz"]

    def test_they_are_tried_again(self, bad, image_folder, tmp_path):
        """By one process or by several, of which none takes the others' work away."""
        more = ("--on_bad_image", "skip", *EXACT)
        good = tmp_path / "good.png"
        shutil.copy(bad.images / "class0/00.png", good)
        bad(*more, code=3)
        first = contents(bad.out)
        bad(*more, code=3)
        assert contents(bad.out) == first
        shared = shutil.copytree(bad.out, tmp_path / "shared")
        for image in (IMAGES[1], IMAGES[-1]):
            shutil.copy(good, bad.images / image)
        bad(*EXACT, out=tmp_path / "whole")
        assert "(2 new, 9 from earlier runs)" in bad(*EXACT)
        for part, said in ((0, "(1 new, 4 from"), (1, "(1 new, 5 from")):
            assert said in bad("--shard", f"{part}/2", *EXACT, out=shared)
            assert read_top_images(shared / "top_images.npz").count == (9 if part == 0 else 11)
        whole = read_top_images(tmp_path / "whole/top_images.npz")
        for out in (bad.out, shared):
            assert sorted(contents(out)) == TOP_FILES
            found = read_top_images(out / "top_images.npz")
            assert (found.image == whole.image).all()
            np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)

    def test_all_are_bad(self, top):
        for image in IMAGES:
            (top.images / image).write_text("no image")
        said = top("--on_bad_image", "skip", code=3)
        assert "is not written yet" in said
        assert "skipped     11 images" in said


class TestOverwrite:
    def test_it_computes_anew(self, top, tmp_path):
        top("--batch_size", 2)
        shutil.copytree(top.images, tmp_path / "before")
        shutil.copy(top.images / IMAGES[0], top.images / IMAGES[-1])
        assert "0 new, 11 from earlier" in top("--batch_size", 2)
        assert "11 new, 0 from earlier" in top("--batch_size", 2, "--overwrite")
        top("--batch_size", 2, out=tmp_path / "other")
        assert top_bytes(top.out) == top_bytes(tmp_path / "other")

    def test_the_old_file_stays_until_the_new_one_is_complete(self, top, tmp_path, stops):
        top("--batch_size", 2)
        before = top_bytes(top.out)
        shutil.copy(top.images / IMAGES[0], top.images / IMAGES[-1])
        stops(3)
        top("--batch_size", 2, "--overwrite", code=130)
        assert (top.out / "top_images.npz").read_bytes() == before
        stops(0)
        assert "8 new, 3 from earlier" in top("--batch_size", 2)
        top("--batch_size", 2, out=tmp_path / "other")
        assert top_bytes(top.out) == top_bytes(tmp_path / "other") != before

    def test_by_shards(self, top, tmp_path):
        top("--batch_size", 2)
        shutil.copy(top.images / IMAGES[0], top.images / IMAGES[-1])
        for part in (0, 1):
            top("--batch_size", 2, "--overwrite", "--shard", f"{part}/2")
        top("--batch_size", 2, out=tmp_path / "other")
        assert top_bytes(top.out) == top_bytes(tmp_path / "other")

    @pytest.mark.parametrize("killed", [False, True])
    def test_of_other_settings(self, top, tmp_path, stops, killed):
        top("--shard", "0/2")
        if killed:
            stops(2)
        top("--preprocess", "native", "--overwrite", code=130 if killed else 0)
        stops(0)
        top("--preprocess", "native")
        top("--preprocess", "native", out=tmp_path / "other")
        assert top_bytes(top.out) == top_bytes(tmp_path / "other")
        assert settings(top.out, "top_images")["preprocess"] == "native"


class TestRefused:
    @pytest.mark.parametrize("done", [True, False])
    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--precision", "fp64"), "precision fp32 → fp64"),
            (("--preprocess", "native"), "preprocess paper → native"),
            (("--labels", "0,1"), "images 11 images, "),
            (("--images_per_class", 2), "→ 7 images, "),
        ],
    )
    def test_other_settings(self, top, stops, done, more, said):
        if not done:
            stops(3)
        top("--batch_size", 2, code=0 if done else 130)
        stops(0)
        before = {file: file.read_bytes() for file in top.out.rglob("*") if file.is_file()}
        assert said in top(*more, code=2)
        assert {file: file.read_bytes() for file in top.out.rglob("*") if file.is_file()} == before

    def test_without_settings(self, top):
        top()
        (top.out / "top_images.args.json").unlink()
        assert "top_images.npz: it lacks top_images.args.json beside it" in top(code=2)

    def test_a_folder_of_another_job(self, top):
        top(kind=JointAttribution)
        assert "holds records of another job (joint_attr)" in top(code=2)
        assert not (top.out / "top_images.npz").exists()

    def test_a_label_that_is_being_written(self, top):
        other = hold(top.out, 1, prefix="top_images")
        try:
            assert f"label 1 of top_images is being written by process {other.pid}" in top(code=2)
            top("--shard", "0/2")
        finally:
            other.kill()
            other.wait()

    @pytest.mark.parametrize("content", [b"", b"no file", b"PK\x03\x04"])
    def test_a_file_that_is_none_of_ours(self, top, content):
        top()
        (top.out / "top_images.npz").write_bytes(content)
        assert "top_images.npz: not a file of top images" in top(code=2)

    def test_activations_that_are_not_finite(self, top, tmp_path):
        model = random_model(tiny_config(), dtype=torch.float32)
        model.blocks[2].mlp.fc1.bias.data[3] = 3e38
        model.blocks[2].mlp.fc1.weight.data[3] = 1e38
        save(model, tmp_path / "inf.npz")
        assert "class0/00.png: the activations are not finite" in top(code=2, checkpoint=tmp_path / "inf.npz")


SCRIPT = "scripts/top_images.py"


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2, 3])
def test_torchrun(top, tmp_path, count):
    top()
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count, ROOT / SCRIPT)
    result = run_process(sys.executable, *words, *top.words(out=tmp_path / "shared")).expect()
    assert result.stdout.count("top-1") == 1
    assert top_bytes(tmp_path / "shared") == top_bytes(top.out)


@pytest.mark.long
def test_sigkill(top, tmp_path):
    """At moments of its whole life; then it goes on."""
    top("--batch_size", 1)
    slow = (
        "import runpy, sys, time; from neuronpath.records import top_store;"
        "from neuronpath.runs.top_plan import TopPlan;"
        "top_store.INTERVAL = -1; compute = TopPlan.records;"
        "TopPlan.records = lambda *given: (print('batch', flush=True), time.sleep(0.05), compute(*given))[-1];"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    for n in (1, 4, 8):
        process = start("-c", slow, ROOT / SCRIPT, *top.words("--batch_size", 1, out=tmp_path / f"killed{n}"))
        for _ in range(n):
            assert process.stdout.readline() == "batch\n", process.communicate()
        process.kill()
        process.communicate()
        said = top("--batch_size", 1, out=tmp_path / f"killed{n}")
        assert int(said.split(" new, ")[1].split(" from")[0]) >= n - 1
        assert top_bytes(tmp_path / f"killed{n}") == top_bytes(top.out)
