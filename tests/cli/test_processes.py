"""Several processes on one set of images: who computes what, and that the records are those of one process."""

import shutil
import sys

import pytest
from helpers import NUM_CLASSES, ROOT, Result, assert_same_search, hold, read_lines, records, run_process, run_script

from neuronpath.cli.processes import Share, share
from neuronpath.errors import UserError

SCRIPT = "path/joint_attr.py"


class TestShare:
    @pytest.mark.parametrize("count", range(1, 8))
    @pytest.mark.parametrize("labels", [[], [3], [0, 1, 2], list(range(10)), [5, 17, 900]])
    def test_every_label_has_one_process(self, labels, count):
        shares = [Share(i, count).of(labels) for i in range(count)]
        assert sorted(label for part in shares for label in part) == labels
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    @pytest.mark.parametrize(
        ("environment", "shard", "expected"),
        [
            ({}, (0, 1), Share()),
            ({}, (2, 5), Share(2, 5)),
            ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (0, 1), Share(1, 4, 1, "torchrun")),
            ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (1, 2), Share(13, 16, 1, "torchrun")),
            ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, (0, 1), Share()),
            (
                {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"},
                (0, 1),
                Share(3, 4, 1, "srun"),
            ),
            ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, (0, 1), Share()),  # not by srun
            ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, (3, 8), Share(3, 8)),  # an array
        ],
    )
    def test_the_environment_decides(self, environment, shard, expected):
        assert share(shard, environment) == expected

    @pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
    @pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
    def test_of_those_that_a_launcher_starts_the_first_speaks(self, shard, rank, speaks):
        assert share(shard, {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank}).speaks == speaks
        assert share(shard, {}).speaks

    @pytest.mark.parametrize("rank", ["4", "-1", "x", ""])
    def test_an_environment_that_contradicts_itself(self, rank):
        with pytest.raises(UserError, match="RANK="):
            share((0, 1), {"RANK": rank, "WORLD_SIZE": "4"})

    @pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", "/"])
    def test_bad_shards(self, text, run):
        run.refused("--shard", text)


def torchrun(count: int, *words) -> Result:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count)
    return run_process(sys.executable, *launcher, ROOT / SCRIPT, *words).expect()


class TestTorchrun:
    @pytest.mark.parametrize("count", [*(pytest.param(n, marks=pytest.mark.long) for n in (1, 2)), 3])
    def test_results_equal_those_of_one_process(self, count, large, expected, tmp_path):
        result = torchrun(count, *large.words(out=tmp_path))
        assert_same_search(records(tmp_path), expected)
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            *(f"imgnet_all-{label}.rlt.jsonl" for label in range(NUM_CLASSES)),
            "imgnet_all.args.json",
        ]
        assert result.stdout.count("mean JAS") == 1, "one process speaks"
        bars = {line.split(":")[0] for line in result.stderr.split("\r") if "%|" in line}
        assert len(bars) == 1, "one progress bar"

    def test_more_processes_than_labels_and_a_bad_image(self, large, expected, tmp_path):
        images = shutil.copytree(large.images, tmp_path / "images")
        (images / "class2/3.png").write_text("no image")
        more = ("--labels", "1,2", "--on_bad_image", "skip")
        torchrun(3, *large.words(*more, images=images, out=tmp_path / "out"))  # 3 would stop the other processes
        wanted = {i: r for i, r in expected.items() if r["label"] in (1, 2) and i != "class2/3.png"}
        assert_same_search(records(tmp_path / "out"), wanted)
        (entry,) = read_lines(tmp_path / "out/imgnet_all.skipped.jsonl")
        assert entry["image"] == "class2/3.png"


def test_a_run_is_resumed_by_another_number_of_processes(large, expected, tmp_path):
    for shard in ("1/3", "0/2"):
        large("--shard", shard, out=tmp_path)
    assert "(8 new, 24 from earlier runs)" in large(out=tmp_path)
    assert_same_search(records(tmp_path), expected)


def test_an_overlapping_run_exits_2_and_another_goes_on(large, expected, tmp_path):
    other = hold(tmp_path, 1)
    result = run_script(SCRIPT, *large.words("--labels", "0-2", out=tmp_path)).expect(2)
    assert f"process {other.pid}" in result.stderr.splitlines()[-1]
    large("--labels", "0,2-3", out=tmp_path)
    other.kill()
    other.wait()
    large(out=tmp_path)
    assert_same_search(records(tmp_path), expected)
