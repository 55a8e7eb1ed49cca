"""Several processes on one set of images, locks, and runs that are stopped: in processes of their own."""

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, ROOT
from PIL import Image
from test_cli import assert_same, records

from neuronpath.cli import exits as cli
from neuronpath.cli.processes import Share, share
from neuronpath.errors import UserError
from neuronpath.models.devices import device
from neuronpath.records.locks import Locks
from neuronpath.runs import job
from neuronpath.runs.extraction import JointAttribution

SCRIPT = ROOT / "path/joint_attr.py"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1"}


def words(checkpoint, images, out, *more) -> list[str]:
    given = {"--dataset": "imagefolder", "--dataset_path": images, "--pretrain_weight": checkpoint, "--output_dir": out}
    given |= {"--ig_total_step": 3, "--num_workers": 0}
    return [str(word) for pair in given.items() for word in pair] + [str(word) for word in more]


def start(*command, **options) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], env=ENVIRONMENT, **pipes, **options)


def run(*command, code: int = 0) -> tuple[str, str]:
    process = start(*command)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == code, stderr
    return stdout, stderr


@pytest.fixture(scope="module")
def expected(checkpoint, tmp_path_factory) -> tuple[Path, dict]:
    """A folder of 4 × 8 images, and the records of an undisturbed run."""
    root, rng = tmp_path_factory.mktemp("processes"), np.random.default_rng(3)
    for label in range(NUM_CLASSES):
        (root / f"images/class{label}").mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/class{label}/{i}.png")
    run(SCRIPT, *words(checkpoint, root / "images", root / "out"))
    return root / "images", records(root / "out")


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

    @pytest.mark.parametrize("rank", ["4", "-1", "x", ""])
    def test_an_environment_that_contradicts_itself(self, rank):
        with pytest.raises(UserError, match="RANK="):
            share((0, 1), {"RANK": rank, "WORLD_SIZE": "4"})

    def test_a_gpu_of_its_own(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert [device("cuda", local).index for local in range(3)] == [0, 1, 0]
        assert device("cuda:0", 1).index == 0
        assert device("cpu", 1) == torch.device("cpu")

    @pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", "/"])
    def test_bad_shards(self, text, checkpoint, expected, tmp_path):
        given = words(checkpoint, expected[0], tmp_path / "out", "--shard", text)
        assert cli.command(lambda: job.main(JointAttribution("cls"), "", given)) == 2
        assert not (tmp_path / "out").exists()


class TestTorchrun:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_results_equal_those_of_one_process(self, count, checkpoint, expected, tmp_path):
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count)
        stdout, stderr = run(*launcher, SCRIPT, *words(checkpoint, expected[0], tmp_path))
        assert_same(records(tmp_path), expected[1])
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            *(f"imgnet_all-{label}.rlt.jsonl" for label in range(NUM_CLASSES)),
            "imgnet_all.args.json",
        ]
        assert stdout.count("mean JAS") == 1, "one process speaks"
        assert len({line.split(":")[0] for line in stderr.split("\r") if "%|" in line}) == 1, "one progress bar"

    def test_more_processes_than_labels_and_a_bad_image(self, checkpoint, expected, tmp_path):
        shutil.copytree(expected[0], tmp_path / "images")
        (tmp_path / "images/class2/3.png").write_text("no image")
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 3)
        given = words(checkpoint, tmp_path / "images", tmp_path / "out", "--labels", "1,2", "--on_bad_image", "skip")
        run(*launcher, SCRIPT, *given)  # 3 would stop the other processes
        wanted = {i: r for i, r in expected[1].items() if r["label"] in (1, 2) and i != "class2/3.png"}
        assert_same(records(tmp_path / "out"), wanted)
        (line,) = (tmp_path / "out/imgnet_all.skipped.jsonl").read_text().splitlines()
        assert json.loads(line)["image"] == "class2/3.png"

    def test_resumed_by_another_number_of_processes(self, checkpoint, expected, tmp_path):
        for shard in ("1/3", "0/2"):
            run(SCRIPT, *words(checkpoint, expected[0], tmp_path, "--shard", shard))
        stdout, _ = run(SCRIPT, *words(checkpoint, expected[0], tmp_path))
        assert "(8 new, 24 from earlier runs)" in stdout
        assert_same(records(tmp_path), expected[1])


HOLD = """
import sys
from pathlib import Path
from neuronpath.records.locks import Locks
locks = Locks(Path(sys.argv[1]), "imgnet_all", [int(x) for x in sys.argv[2:]])
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path, *labels: int) -> subprocess.Popen:
    """A process that holds the locks of `labels`."""
    folder.mkdir(exist_ok=True)
    process = start("-c", HOLD, folder, *labels, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "held\n", process.communicate()
    return process


class TestLocks:
    def test_a_file_that_its_last_user_removes_meanwhile_is_not_locked(self, tmp_path, monkeypatch):
        """It is opened, then removed, then locked: whoever comes later would lock another of that name."""
        lockf = fcntl.lockf

        def first(*arguments):
            monkeypatch.setattr("fcntl.lockf", lockf)
            (tmp_path / ".imgnet_all.lock").unlink()
            return lockf(*arguments)

        monkeypatch.setattr("fcntl.lockf", first)
        locks = Locks(tmp_path, "imgnet_all", [1])
        _, stderr = start("-c", HOLD, tmp_path, 1).communicate("", timeout=60)
        assert "label 1 of imgnet_all is being written by process" in stderr
        locks.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_label_has_one_writer_and_its_owner_is_named(self, tmp_path):
        other = hold(tmp_path, 1, 3)
        with pytest.raises(UserError, match=rf"label 3 of imgnet_all .* process {other.pid} on {os.uname().nodename}"):
            Locks(tmp_path, "imgnet_all", [2, 3])
        for prefix, labels in (("imgnet_all", [0, 2]), ("other", [1, 3])):
            Locks(tmp_path, prefix, labels).close()
        other.kill()  # the system releases its locks
        other.wait()
        Locks(tmp_path, "imgnet_all", [1, 2, 3]).close()
        assert list(tmp_path.iterdir()) == []

    def test_the_file_stays_until_its_last_user_goes(self, tmp_path):
        other = hold(tmp_path, 1)
        Locks(tmp_path, "imgnet_all", [2]).close()
        assert [file.name for file in tmp_path.iterdir()] == [".imgnet_all.lock"]
        other.kill()
        other.wait()

    def test_without_locks_there_is_a_warning(self, tmp_path, monkeypatch):
        def lockf(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("fcntl.lockf", lockf)
        with pytest.warns(UserWarning, match="no locks"):
            locks = Locks(tmp_path, "imgnet_all", [1, 2])
        with locks.settings():
            pass
        locks.close()

    def test_an_overlapping_run_exits_2_and_another_goes_on(self, checkpoint, expected, tmp_path):
        other = hold(tmp_path, 1)
        _, stderr = run(SCRIPT, *words(checkpoint, expected[0], tmp_path, "--labels", "0-2"), code=2)
        assert f"process {other.pid}" in stderr.splitlines()[-1]
        assert "Traceback" not in stderr
        run(SCRIPT, *words(checkpoint, expected[0], tmp_path, "--labels", "0,2-3"))
        other.kill()
        other.wait()
        run(SCRIPT, *words(checkpoint, expected[0], tmp_path))
        assert_same(records(tmp_path), expected[1])


SLOW = """
import sys, time
from neuronpath.cli import exits as cli
from neuronpath.runs import job
from neuronpath.runs.extraction import JointAttribution

class Slow(JointAttribution):
    def records(self, model, items, images):
        for record in super().records(model, items, images):
            time.sleep(float(sys.argv[1]))
            yield record

sys.exit(cli.command(lambda: job.main(Slow("cls"), "", sys.argv[2:])))
"""


def lines(out: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in out.glob("*.rlt.jsonl"))


def stop(given: list[str], out: Path, after: int, number: int, seconds: float = 0.02) -> tuple[int, str]:
    """Send signal `number` once `after` records are there; exit code and stderr."""
    process = start("-c", SLOW, seconds, *given)
    while lines(out) < after and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1]
    return process.returncode, stderr


class TestFullDisk:
    """A limit on the size of files stands for it: the system cuts the write in the middle of a record."""

    def test_exits_4_with_whole_records_and_resumes(self, checkpoint, expected, tmp_path):
        given, out = words(checkpoint, expected[0], tmp_path / "out"), tmp_path / "out"
        limit = 2500
        full = subprocess.run(
            [sys.executable, str(SCRIPT), *given],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert full.returncode == 4, full.stderr
        assert "disk is full" in full.stderr.splitlines()[-1]
        assert "Traceback" not in full.stderr
        (file,) = out.glob("*.rlt.jsonl")
        assert file.read_bytes().endswith(b"}\n")
        assert 0 < lines(out) < 8
        assert limit - file.stat().st_size < len(file.read_bytes().splitlines()[0]) + 100, "cut where the limit is"
        run(SCRIPT, *given)
        assert_same(records(out), expected[1])


class TestInterruption:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_run_in_good_order(self, number, checkpoint, expected, tmp_path):
        given = words(checkpoint, expected[0], tmp_path, "--batch_size", 4)
        code, stderr = stop(given, tmp_path, 9, number)
        assert code == 130
        assert "interrupted; the same command resumes" in stderr
        assert "Traceback" not in stderr
        done = lines(tmp_path)
        assert 9 <= done < 32
        assert all(file.read_bytes().endswith(b"\n") for file in tmp_path.glob("*.rlt.jsonl"))
        assert not list(tmp_path.glob(".*"))
        stdout, _ = run(SCRIPT, *given)
        assert f"({32 - done} new, {done} from earlier runs)" in stdout
        assert_same(records(tmp_path), expected[1])

    @pytest.mark.parametrize("number", [signal.SIGTERM])
    def test_with_processes_that_load_images(self, number, checkpoint, expected, tmp_path):
        given = words(checkpoint, expected[0], tmp_path, "--batch_size", 2, "--num_workers", 2)
        code, stderr = stop(given, tmp_path, 5, number)
        assert code == 130
        assert "Traceback" not in stderr

    def test_four_kills_and_their_resumes(self, checkpoint, expected, tmp_path):
        self.kill(checkpoint, expected, tmp_path, [1, 10, 17, 31])

    @pytest.mark.long
    def test_twenty_kills_at_random_moments(self, checkpoint, expected, tmp_path):
        generator = random.Random(5)
        for i in range(7):
            moments = sorted(generator.randint(0, 31) for _ in range(3))
            self.kill(checkpoint, expected, tmp_path / str(i), moments, generator.random() * 0.02)

    def kill(self, checkpoint, expected, out: Path, moments: list[int], seconds: float = 0.005) -> None:
        given = words(checkpoint, expected[0], out, "--batch_size", 3)
        for after in moments:
            code, _ = stop(given, out, after, signal.SIGKILL, seconds)
            assert code in (-signal.SIGKILL, 0)
        run(SCRIPT, *given)
        assert_same(records(out), expected[1])
        assert not list(out.glob("*.tmp"))
        assert not list(out.glob(".*"))
