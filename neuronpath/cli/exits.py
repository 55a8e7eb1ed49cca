"""What every command does with what goes wrong: one line on stderr and an exit code, never a traceback."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError, disk_full, out_of_memory, printable
from ..interrupts import as_keyboard_interrupt

RESUME = "the same command resumes"
SHORTAGE = 4  # exit code: out of memory or disk


def command(main: Callable[[], int | None]) -> int:
    """Run `main` and return the exit code of the process (README, "Exit codes")."""
    name = Path(sys.argv[0]).name
    warnings.showwarning = lambda message, *_, **__: print(f"{name}: warning: {message}", file=sys.stderr)
    try:
        with as_keyboard_interrupt():
            return main() or 0
    except KeyboardInterrupt:
        fault, code = f"interrupted; {RESUME}", 128 + signal.SIGINT
    except UserError as e:
        fault, code = str(e), e.exit_code
    except (OSError, MemoryError, RuntimeError) as e:
        fault, code = _shortage(e), SHORTAGE
        if not fault and isinstance(e, OSError) and e.filename is not None:
            fault, code = f"{printable(os.fsdecode(e.filename))}: {e.strerror}; check the path", UserError.exit_code
        if not fault:
            raise
    print(f"{name}: {fault}", file=sys.stderr)
    return code


def _shortage(error: BaseException) -> str:
    """What there is too little of, or "" for another error."""
    if disk_full(error):
        return f"the disk is full ({error.filename or error.strerror}); make room, {RESUME}"
    if out_of_memory(error):
        return f"out of memory; lower --internal_batch_size or --batch_size, {RESUME}"
    if "DataLoader worker" in str(error):
        return (
            f"a process that loads images was killed, maybe for want of (shared) memory; try --num_workers 0, {RESUME}"
        )
    return ""
