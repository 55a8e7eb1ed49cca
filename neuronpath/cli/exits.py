"""How every command ends: its text on stdout, or one line on stderr, and an exit code; never a traceback."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, disk_full, out_of_memory, printable
from ..interrupts import as_keyboard_interrupt

RESUME = "the same command resumes"
DONE, BAD_INPUT, SKIPPED, SHORTAGE, INTERRUPTED = 0, 2, 3, 4, 128 + signal.SIGINT
CLOSED = 128 + signal.SIGPIPE  # nobody reads the output any more


@dataclass(frozen=True)
class Report:
    """What a command has to say when it is done."""

    text: str
    code: int = DONE


def command(main: Callable[[], Report | int | None]) -> int:
    """Run `main`, print its report, and return the exit code of the process (docs/options.md)."""
    name = Path(sys.argv[0]).name
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"{name}: warning: {message}", file=sys.stderr)
        try:
            with as_keyboard_interrupt():
                found = main()
            report = found if isinstance(found, Report) else Report("", found or DONE)
            if report.text:
                print(report.text)
            sys.stdout.flush()  # here, where a reader that has gone is noticed
            return report.code
        except BrokenPipeError:  # whoever read the output has gone; Python would complain once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED
        except KeyboardInterrupt:
            fault, code = f"interrupted; {RESUME}", INTERRUPTED
        except UserError as e:
            fault, code = str(e), BAD_INPUT
        except (OSError, MemoryError, RuntimeError) as e:
            fault, code = _shortage(e), SHORTAGE
            if not fault and isinstance(e, OSError) and e.filename is not None:
                fault, code = f"{printable(os.fsdecode(e.filename))}: {e.strerror}; check the path", BAD_INPUT
            if not fault:
                raise
        print(f"{name}: {fault}", file=sys.stderr)
        return code


def _shortage(error: BaseException) -> str:
    """What there is too little of, or "" for another error."""
    if isinstance(error, OSError) and disk_full(error):
        return f"the disk is full ({error.filename or error.strerror}); make room, {RESUME}"
    if out_of_memory(error):
        return f"out of memory; lower --internal_batch_size or --batch_size, {RESUME}"
    if "DataLoader worker" in str(error):
        return (
            f"a process that loads images was killed, maybe for want of (shared) memory; try --num_workers 0, {RESUME}"
        )
    return ""
