"""What every command does with what goes wrong: one line on stderr and an exit code, never a traceback."""

import errno
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from .errors import ResourceError, UserError

RESUME = "the same command resumes"


def command(main: Callable[[], int | None]) -> int:
    """Run `main` and return the exit code of the process: CONTRACT in README, "Exit codes"."""
    name = Path(sys.argv[0]).name
    warnings.showwarning = lambda message, *_, **__: print(f"{name}: warning: {message}", file=sys.stderr)
    try:
        return main() or 0
    except KeyboardInterrupt:
        fault, code = f"interrupted; {RESUME}", 128 + signal.SIGINT
    except UserError as e:
        fault, code = str(e), e.exit_code
    except (OSError, MemoryError, RuntimeError) as e:
        fault, code = _shortage(e), ResourceError.exit_code
        if not fault:
            raise
    print(f"{name}: {fault}", file=sys.stderr)
    return code


def _shortage(error: BaseException) -> str:
    """What there is too little of, or "" for another error."""
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"the disk is full ({error.filename or error.strerror}); make room, {RESUME}" if full else ""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory; lower --internal_batch_size or --batch_size, {RESUME}"
    return ""
