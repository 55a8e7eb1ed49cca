"""What can go wrong by the user's hand or the machine's, each with the exit code of the commands."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class UserError(Exception):
    """Bad input or settings. The message is one line: what is wrong, where, and what to do about it."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """`text` with line breaks, control characters and undecodable bytes as escapes: names come from outside."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(error: BaseException, limit: int = 200) -> str:
    """The message of `error` on one line, shortened; its type where it has no message."""
    return shortened(str(error), limit) or type(error).__name__


def shortened(text: str, limit: int = 200) -> str:
    """`text` on one line of at most `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory, a GPU's or the machine's, is short."""
    signs = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


def disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(place: Path, advice: str = "; choose another --output_dir") -> Iterator[None]:
    """What fails inside, in writing to `place`, is a UserError; a full disk stays what it is."""
    try:
        yield
    except OSError as e:
        if disk_full(e):
            raise
        raise UserError(f"{place}: cannot be written ({one_line(e)}){advice}") from e
