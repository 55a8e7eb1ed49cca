"""SIGINT and SIGTERM end a command in good order: as KeyboardInterrupt, but not in the middle of a record."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_held = 0  # how many `held` blocks are open
_came = False  # whether a signal came in one of them


def _answer(*_: object) -> None:
    global _came
    if _held:
        _came = True
    else:
        raise KeyboardInterrupt


@contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """Inside, both signals raise KeyboardInterrupt in the main thread."""
    earlier = {number: signal.signal(number, _answer) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """What is inside is finished first; a signal that came meanwhile raises KeyboardInterrupt at the end."""
    global _held, _came
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _came and not _held:
            _came = False
            raise KeyboardInterrupt


def forget_in_worker() -> None:
    """In a process that loads images: Ctrl-C is the main process's to answer, and SIGTERM ends it at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
