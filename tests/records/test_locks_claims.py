"""Locks as another process finds them."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from neuronpath.errors import UserError
from neuronpath.records.locks import RANGE, Locks

PROBE = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
for place in sys.argv[2:]:
    start, length = map(int, place.split("+"))
    found = ""
    for kind, letter in ((fcntl.LOCK_SH, "r"), (fcntl.LOCK_EX, "w")):
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB, length, start)
            fcntl.lockf(file, fcntl.LOCK_UN, length, start)
            found += letter
        except BlockingIOError:
            found += "-"
    print(found)
"""


def probe(file, *places: tuple[int, int]) -> list[str]:
    """Of bytes (start, length) of the file, whether another process may share them (r) or have them alone (w)."""
    words = [f"{start}+{length}" for start, length in places]
    command = [sys.executable, "-S", "-c", PROBE, str(file), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


class TestRanges:
    def test_every_label_has_its_own_and_the_settings_theirs(self, tmp_path):
        locks, file = Locks(tmp_path, "all", [0, 2]), tmp_path / ".all.lock"
        settings, *labels = [(1, RANGE - 1), *((RANGE * (1 + label), RANGE) for label in range(4))]
        assert probe(file, (0, 1), settings, *labels) == ["r-", "rw", "--", "rw", "--", "rw"]
        with locks.settings():
            assert probe(file, (0, 1), settings, *labels) == ["r-", "--", "--", "rw", "--", "rw"]
        with pytest.raises(KeyError), locks.settings():
            raise KeyError
        assert probe(file, (0, 1), settings, *labels) == ["r-", "rw", "--", "rw", "--", "rw"]
        assert file.read_bytes()[RANGE : 2 * RANGE].decode().split() == [str(os.getpid()), os.uname().nodename]
        locks.close()
        assert not file.exists()

    def test_it_waits_for_its_turn_with_the_settings(self, tmp_path, monkeypatch):
        locks, asked, lockf = Locks(tmp_path, "all", []), [], fcntl.lockf
        monkeypatch.setattr("fcntl.lockf", lambda *given: asked.append(given[1:]) or lockf(*given))
        with locks.settings():
            assert asked == [(fcntl.LOCK_EX, RANGE - 1, 1)]
        locks.close()

    def test_closing_twice_closes_no_file_of_another(self, tmp_path):
        locks = Locks(tmp_path, "all", [1])
        locks.close()
        with (tmp_path / "other").open("w") as other:  # it may get the number that the lock's file had
            locks.close()
            other.write("text")
        assert (tmp_path / "other").read_text() == "text"


def failing(number: int, from_call: int, lockf=fcntl.lockf):
    calls = []

    def fails(*given):
        calls.append(given)
        if len(calls) >= from_call:
            raise OSError(number, os.strerror(number))
        return lockf(*given)

    return fails


class TestFaults:
    @pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
    def test_a_taken_label_says_what_to_do(self, tmp_path, monkeypatch, number):
        monkeypatch.setattr("fcntl.lockf", failing(number, 2))
        with pytest.raises(UserError) as caught:
            Locks(tmp_path, "all", [7])
        assert str(caught.value) == (
            f"{tmp_path}: label 7 of all is being written by another process; wait for it, or give other --labels or "
            "another --output_dir"
        )

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
    @pytest.mark.parametrize("from_call", [1, 2, 3])
    def test_a_file_system_without_locks_is_written_all_the_same(
        self, tmp_path, monkeypatch, number, from_call, recwarn
    ):
        monkeypatch.setattr("fcntl.lockf", failing(number, from_call))
        locks = Locks(tmp_path, "all", [1])
        with locks.settings():
            pass
        locks.close()
        said = f"{tmp_path}: this file system has no locks; make sure that no other run writes there"
        assert [str(w.message) for w in recwarn] == [said] * (from_call == 1)

    @pytest.mark.parametrize("from_call", [1, 2, 3])
    def test_other_errors_are_not_passed_over(self, tmp_path, monkeypatch, from_call):
        monkeypatch.setattr("fcntl.lockf", failing(errno.EIO, from_call))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            with Locks(tmp_path, "all", [1]).settings():
                pass
