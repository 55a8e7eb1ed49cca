"""Signals, kills, a full disk, short memory: exit codes, whole records, and runs that go on."""

import errno
import random
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, assert_same_search, records, run_process, start

from neuronpath.runs.extraction_plan import ExtractionPlan

#: The search command, every record of which takes some seconds.
SLOW = """
import sys, time
from neuronpath.cli.exits import command
from neuronpath.records.store import Store
from neuronpath.runs import job
from neuronpath.runs.extraction import JointAttribution

write = Store.write

def slow(self, item, record):
    time.sleep(float(sys.argv[1]))
    write(self, item, record)

Store.write = slow
sys.exit(command(lambda: job.main(JointAttribution("cls"), "", sys.argv[2:])))
"""


def count_lines(out: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in out.glob("*.rlt.jsonl"))


def stop(words: list[str], out: Path, after: int, number: int, seconds: float = 0.02) -> tuple[int, str]:
    """Send signal `number` once `after` records are there; exit code and stderr."""
    process = start("-c", SLOW, seconds, *words)
    while count_lines(out) < after and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1]
    return process.returncode, stderr


class TestFullDisk:
    """A limit on the size of files stands for it: the system cuts the write in the middle of a record."""

    def test_exits_4_with_whole_records_and_resumes(self, large, expected, tmp_path):
        limit = 2500
        result = run_process(
            *(sys.executable, ROOT / "path/joint_attr.py"),
            *large.words(out=tmp_path),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        ).expect(4)
        assert "disk is full" in result.stderr.splitlines()[-1]
        (file,) = tmp_path.glob("*.rlt.jsonl")
        assert file.read_bytes().endswith(b"}\n")
        assert 0 < count_lines(tmp_path) < 8
        assert limit - file.stat().st_size < len(file.read_bytes().splitlines()[0]) + 100, "cut where the limit is"
        large(out=tmp_path)
        assert_same_search(records(tmp_path), expected)

    def test_exits_4_in_this_process(self, run, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "x")

        monkeypatch.setattr("neuronpath.records.store.Store.write", full)
        assert "disk is full" in run(code=4)


class TestInterruption:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_run_in_good_order(self, number, large, expected, tmp_path):
        words = large.words("--batch_size", 4, out=tmp_path)
        code, stderr = stop(words, tmp_path, 9, number)
        assert code == 130
        assert "interrupted; the same command resumes" in stderr
        assert "Traceback" not in stderr
        done = count_lines(tmp_path)
        assert 9 <= done < 32
        assert all(file.read_bytes().endswith(b"\n") for file in tmp_path.glob("*.rlt.jsonl"))
        assert not list(tmp_path.glob(".*"))
        assert f"({32 - done} new, {done} from earlier runs)" in large("--batch_size", 4, out=tmp_path)
        assert_same_search(records(tmp_path), expected)

    @pytest.mark.parametrize("number", [signal.SIGTERM])
    def test_with_processes_that_load_images(self, number, large, tmp_path):
        words = large.words("--batch_size", 2, "--num_workers", 2, out=tmp_path)
        code, stderr = stop(words, tmp_path, 5, number)
        assert code == 130
        assert "Traceback" not in stderr

    def test_two_kills_and_their_resumes(self, large, expected, tmp_path):
        self.kill(large, expected, tmp_path, [1, 17])

    @pytest.mark.long
    def test_twenty_kills_at_random_moments(self, large, expected, tmp_path):
        generator = random.Random(5)
        for i in range(7):
            moments = sorted(generator.randint(0, 31) for _ in range(3))
            self.kill(large, expected, tmp_path / str(i), moments, generator.random() * 0.02)

    def kill(self, large, expected, out: Path, moments: list[int], seconds: float = 0.005) -> None:
        for after in moments:
            code, _ = stop(large.words("--batch_size", 3, out=out), out, after, signal.SIGKILL, seconds)
            assert code in (-signal.SIGKILL, 0)
        large("--batch_size", 3, out=out)
        assert_same_search(records(out), expected)
        assert not list(out.glob("*.tmp"))
        assert not list(out.glob(".*"))


def test_no_memory_for_a_single_row_exits_4(run, monkeypatch):
    def short(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(ExtractionPlan, "records", short)
    assert "out of memory" in run(code=4)


def test_a_reader_that_goes_away_ends_a_command_quietly():
    """As with `| head -1`."""
    program = "import sys; from neuronpath.cli.exits import Report, command; "
    program += "sys.exit(command(lambda: Report('line\\n' * 10**6)))"
    process = start("-c", program)
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""
