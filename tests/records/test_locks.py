"""Locks: a label has one writer."""

import fcntl
import os

import pytest
from helpers import HOLD, hold, start

from neuronpath.errors import UserError
from neuronpath.records.locks import Locks


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
        _, stderr = start("-c", HOLD, tmp_path, "imgnet_all", 1).communicate("", timeout=60)
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
