"""The extraction scripts: exit codes, relative paths, hostile files, and the right script for a checkpoint."""

import os

import numpy as np
import pytest
import torch
from helpers import IMAGES, ROOT, Payload, random_model, records, run_file, run_script, tiny_config

from neuronpath.models.checkpoint import save

SCRIPT = "path/joint_attr.py"


class TestFromAnyFolder:
    def test_from_the_root_in_a_process_of_its_own(self, run):
        result = run_script(SCRIPT, *run.words("--num_workers", 2)).expect()
        assert result.messages == []
        assert str(run.out) in result.stdout
        assert list(records(run.out)) == IMAGES

    def test_from_its_own_folder_with_relative_paths(self, run):
        here = ROOT / "path"
        words = [os.path.relpath(word, here) if word.startswith("/") else word for word in run.words()]
        result = run_file(SCRIPT, *words, cwd=here).expect()
        assert result.messages == []
        assert str(run.out) in result.stdout
        assert list(records(run.out)) == IMAGES

    def test_hostile_checkpoint_runs_nothing(self, run, tmp_path):
        canary, hostile = tmp_path / "canary", tmp_path / "hostile.npz"
        np.savez(hostile, **{**np.load(run.checkpoint), "head/bias": np.array([Payload(canary)], dtype=object)})
        result = run_file(SCRIPT, *run.words(checkpoint=hostile))
        assert result.fault.startswith("joint_attr.py: ")
        assert "hostile.npz" in result.fault
        assert result.stdout == ""
        assert not canary.exists()
        assert not run.out.exists()

    def test_unreadable_image_in_mid_run(self, run):
        (run.images / "class3" / "02.png").write_text("no image")
        result = run_file(SCRIPT, *run.words("--batch_size", 2, "--num_workers", 1))
        assert str(run.images / "class3" / "02.png") in result.fault
        assert result.stdout == ""
        assert list(records(run.out)) == IMAGES[:8]


@pytest.mark.parametrize(
    ("pool", "script", "right"),
    [
        ("mean", "joint_attr", "joint_attr_mae"),
        ("mean", "influence_pattern", "influence_pattern_mae"),
        ("cls", "joint_attr_mae", "joint_attr"),
        ("cls", "influence_pattern_mae", "influence_pattern"),
    ],
)
def test_the_right_script_is_named(pool, script, right, image_folder, tmp_path):
    save(random_model(tiny_config(pool), dtype=torch.float32), tmp_path / "a.pth")
    words = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--output_dir", tmp_path / "out")
    words += ("--pretrain_weight", tmp_path / "a.pth", "--num_workers", 0)
    result = run_file(f"path/{script}.py", *words).expect(2)
    (line,) = result.stderr.splitlines()
    assert line.endswith(f"run path/{right}.py")
    assert not (tmp_path / "out").exists()
    if script == "joint_attr":
        run_file(f"path/{right}.py", *words, "--ig_total_step", 2).expect()


class Program:
    """Unpickled, it makes the folder `canary`."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def test_a_program_in_a_checkpoint_exits_2(image_folder, tmp_path):
    weights = random_model(tiny_config("mean"), dtype=torch.float32).state_dict()
    torch.save({"model": weights, "x": Program(tmp_path / "canary")}, tmp_path / "a.pth")
    words = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--pretrain_weight", tmp_path / "a.pth")
    result = run_file("path/joint_attr_mae.py", *words).expect(2)
    assert len(result.stderr.splitlines()) == 1
    assert "mkdir" in result.stderr
    assert not (tmp_path / "canary").exists()


def test_the_picture_and_the_table_read_records_of_auto(run, tmp_path):
    run.steps = None
    run("--quadrature", "auto", "--precision", "fp64", out=tmp_path / "ja/tiny")
    given = ("--results", tmp_path / "ja/tiny", "--dataset_path", run.images, "--output", tmp_path / "picture")
    run_file("scripts/plot_paths.py", *given).expect()
    table = run_file("scripts/table.py", "--results", tmp_path, "--measures", "score").expect()
    assert "quadrature auto, 9 pixels" in table.stdout
