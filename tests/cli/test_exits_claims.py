"""How a command ends: exit code, stdout and stderr, by what it returns, warns of or raises."""

import errno
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest

from neuronpath.cli import exits
from neuronpath.cli.exits import Report, command
from neuronpath.errors import UserError

RESUME = "the same command resumes"
MEMORY = f"out of memory; lower --internal_batch_size or --batch_size, {RESUME}"
WORKER = "a process that loads images was killed, maybe for want of (shared) memory; try --num_workers 0, " + RESUME


@pytest.fixture(autouse=True)
def name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/folder/job.py", "--option"])


def ended(main, capsys) -> tuple[int, str, str]:
    code = command(main)
    return code, *capsys.readouterr()


def test_codes_are_those_of_the_documentation():
    codes = (exits.DONE, exits.BAD_INPUT, exits.SKIPPED, exits.SHORTAGE, exits.INTERRUPTED, exits.CLOSED)
    assert codes == (0, 2, 3, 4, 130, 141)


@pytest.mark.parametrize(
    ("found", "code", "printed"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (2, 2, ""),
        (Report("text"), 0, "text\n"),
        (Report("a\nb", 3), 3, "a\nb\n"),
        (Report(""), 0, ""),
    ],
)
def test_what_it_returns(found, code, printed, capsys):
    assert ended(lambda: found, capsys) == (code, printed, "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("a\nb"), 2, "a\\nb"),
        (KeyboardInterrupt(), 130, f"interrupted; {RESUME}"),
        (MemoryError(), 4, MEMORY),
        (RuntimeError("CUDA out of memory"), 4, MEMORY),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 4, WORKER),
        (OSError(errno.ENOSPC, "No space left"), 4, f"the disk is full (No space left); make room, {RESUME}"),
        (OSError(errno.EDQUOT, "Quota", "a/b"), 4, f"the disk is full (a/b); make room, {RESUME}"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a\nb"), 2, "a\\nb: File name too long; check the path"),
        (PermissionError(errno.EACCES, "Denied", b"a"), 2, "a: Denied; check the path"),
    ],
)
def test_what_it_raises(error, code, said, capsys):
    def main():
        raise error

    assert ended(main, capsys) == (code, "", f"job.py: {said}\n")


@pytest.mark.parametrize(
    "error", [RuntimeError("a fault"), OSError("none of a file"), ValueError("x"), AssertionError()]
)
def test_faults_of_the_program_are_not_hidden(error, capsys):
    def main():
        raise error

    with pytest.raises(type(error)):
        command(main)
    assert capsys.readouterr() == ("", "")


def test_warnings_are_lines_and_earlier_ways_of_showing_them_come_back(capsys):
    def main():
        warnings.warn("look out", stacklevel=1)
        warnings.warn("again", DeprecationWarning, stacklevel=1)
        return Report("done")

    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert ended(main, capsys) == (0, "done\n", "job.py: warning: look out\njob.py: warning: again\n")
    assert warnings.showwarning is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt_it(number, capsys):
    def main():
        signal.raise_signal(number)
        return Report("it goes on")

    before = signal.signal(number, lambda *_: pytest.fail("nobody answers the signal"))
    try:
        assert ended(main, capsys) == (130, "", f"job.py: interrupted; {RESUME}\n")
    finally:
        signal.signal(number, before)


def test_a_reader_that_has_gone_is_no_error(tmp_path, monkeypatch, capsys):
    class Closed:
        def __init__(self, file):
            self.write, self.fileno = file.write, file.fileno

        def flush(self):
            raise BrokenPipeError

    with (tmp_path / "a").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Closed(file))
        assert command(lambda: Report("text")) == 141
        assert os.fstat(file.fileno()).st_rdev == Path(os.devnull).stat().st_rdev, "what follows goes nowhere"
    assert capsys.readouterr().err == ""
