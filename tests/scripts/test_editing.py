"""The scripts that edit paths and top-K paths: from any folder, with relative paths, and the right one named."""

import os
import shutil

import pytest
from helpers import IMAGES, ROOT, records, run_file, run_script
from made import write_paths

FOLDER = "experiments/quantitative-comparison/manipulation"
VIT, MAE = f"{FOLDER}/ViT/edit.py", f"{FOLDER}/MAE/edit.py"
PLOT = f"topK/{FOLDER}/analysis/plot_probability_deviation.py"


def test_vit_from_the_root(edits):
    paths = write_paths(edits.ja)
    result = run_script(VIT, *edits.words("--method", "random", "--num_workers", 1)).expect()
    assert result.messages == []
    assert str(edits.out) in result.stdout
    assert [record["path"] for record in records(edits.out).values()] == list(paths.values())


def test_mae_from_its_own_folder_with_relative_paths(wide):
    """For the other kind of checkpoint it names the other script."""
    write_paths(wide.ja, units=90)
    here = (ROOT / MAE).parent
    words = [os.path.relpath(word, here) if word.startswith("/") else word for word in wide.words()]
    result = run_file(MAE, *words, cwd=here)
    if wide.pool == "mean":
        result.expect()
        assert list(records(wide.out)) == IMAGES
    else:
        assert result.fault.startswith("edit.py: ")
        assert VIT in result.fault
        assert not wide.out.exists()


class TestTopK:
    def test_the_pictures_from_the_root_and_from_their_folder(self, pruned):
        for cwd in (ROOT, (ROOT / PLOT).parent):
            assert run_file(PLOT, "--results", pruned, cwd=cwd).expect().stdout.startswith("| model |")
            (pruned / "pruning.npz").unlink()
            for name in ("prob", "top1"):
                picture = pruned / f"pruning-tiny-{name}.png"
                assert picture.stat().st_size > 5000
                picture.unlink()

    def test_two_runs_of_the_same_settings_are_refused(self, pruned):
        shutil.copytree(pruned / "ja1/tiny", pruned / "copy/tiny")
        result = run_file(PLOT, "--results", pruned)
        assert (result.code, len(result.stderr.splitlines())) == (2, 1)
        assert "same settings" in result.stderr

    @pytest.mark.parametrize("cwd", [ROOT, ROOT / f"topK/{FOLDER}/ViT"], ids=["from the root", "from its folder"])
    def test_the_edits(self, cwd, topk, tmp_path):
        words = topk.words("--topK", 2, out=tmp_path / "out")
        run_file(f"topK/{FOLDER}/ViT/edit.py", *words, cwd=cwd).expect()
        assert len(records(tmp_path / "out")) == 6

    def test_the_search_from_its_folder_in_a_process_of_its_own(self, topk, tmp_path):
        given = ("--dataset", "imagefolder", "--dataset_path", topk.images, "--pretrain_weight", topk.checkpoint)
        options = ("--output_dir", tmp_path / "top", "--topK", 2)
        run_script("topK/path/joint_attr.py", *given, *options, cwd=ROOT / "topK/path").expect()
        assert len(records(tmp_path / "top")) == 6 + 1 + 2 + 11
