"""One writer per label file: locks of the operating system, which it releases when their process dies.

All labels' locks are byte ranges of one hidden file, so that 1000 labels take one open file. A range holds its owner's
host and pid. The file goes when its last user does.
"""

import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError

RANGE = 128  # bytes per label; the first so many have a byte that every user shares, and the lock of the settings
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Locks:
    """The locks of `labels` in `directory`, held until `close`. UserError, naming the owner, where one is taken."""

    def __init__(self, directory: Path, prefix: str, labels: Sequence[int]):
        self.file = directory / f".{prefix}.lock"
        self._descriptor = self._open()
        self._closed = False
        me = f"{os.getpid()} {socket.gethostname()}".encode()[:RANGE].ljust(RANGE)
        for label in labels:
            start = RANGE * (1 + label)
            try:
                if not self._lock(start, RANGE):
                    break
                os.pwrite(self._descriptor, me, start)
            except (BlockingIOError, PermissionError):
                pid, _, host = os.pread(self._descriptor, RANGE, start).decode(errors="replace").strip().partition(" ")
                self.close()
                owner = f"process {pid} on {host}" if pid else "another process"
                raise UserError(
                    f"{directory}: label {label} of {prefix} is being written by {owner}; wait for it, or give other "
                    "--labels or another --output_dir"
                ) from None

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Alone with what all processes share, args.json and the list of skipped images; waits for its turn."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, RANGE - 1, 1)
        except OSError as e:
            if e.errno not in UNSUPPORTED:
                raise
        try:
            yield
        finally:
            self._unlock(1, RANGE - 1)

    def close(self) -> None:
        """Release all; without another user left, remove the file."""
        if self._closed:
            return
        try:
            self._unlock(0, 0)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.file.unlink(missing_ok=True)
        except OSError:
            pass  # others use it, or there are no locks here
        os.close(self._descriptor)
        self._closed = True

    def _open(self) -> int:
        """Open the file, and be sure that it is still the one of this name: its last user may have removed it."""
        while True:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_SH, 1, 0)  # it is not removed while this is held
            except OSError as e:
                if e.errno not in UNSUPPORTED:
                    raise
                warnings.warn(
                    f"{self.file.parent}: this file system has no locks; make sure that no other run writes there",
                    stacklevel=4,
                )
                return descriptor
            try:
                if os.fstat(descriptor).st_ino == self.file.stat().st_ino:
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def _lock(self, start: int, length: int) -> bool:
        """Whether there are locks; BlockingIOError or PermissionError where this one is taken."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError as e:
            if e.errno in UNSUPPORTED:
                return False
            raise
        return True

    def _unlock(self, start: int, length: int) -> None:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, length, start)
        except OSError as e:
            if e.errno not in UNSUPPORTED:
                raise
