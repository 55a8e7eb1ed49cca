"""Run several scripts one after another in one process, so that PyTorch is loaded once.

    python scripts/stages.py SCRIPT [OPTION …] -- SCRIPT [OPTION …] -- …

Each does what it does alone, with the same output and records, and is named before it starts. The first that fails
ends the row with its exit code; a script that only skipped unreadable images (exit code 3) does not. The shell scripts
use it. Starting a process takes 4 s on two cores; expect to save them for every script but the first.
"""

import itertools
import os
import runpy
import sys
from pathlib import Path

from neuronpath.cli.exits import SKIPPED, command
from neuronpath.errors import UserError


def main() -> int:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    stages = [list(stage) for last, stage in itertools.groupby(words, "--".__eq__) if not last]
    for script, *_ in stages:
        if not Path(script).is_file():
            raise UserError(f"{script}: no such script; stages.py SCRIPT [OPTION …] -- SCRIPT [OPTION …] -- …")
    for stage in stages:
        if os.environ.get("RANK", "0") == "0":
            print(f"== {title(stage)}", flush=True)
        if code := run(stage):
            return code
    return 0


def title(stage: list[str]) -> str:
    """The script, and the folder it writes to where that is given."""
    name = Path(stage[0]).stem
    return f"{name}: {stage[stage.index('--output_dir') + 1]}" if "--output_dir" in stage[:-1] else name


def run(stage: list[str]) -> int:
    """The exit code of a script as if it had been started alone; 0 where it only skipped images."""
    sys.argv = stage
    try:
        runpy.run_path(stage[0], run_name="__main__")
    except SystemExit as e:
        if isinstance(e.code, str):  # Python prints it and exits with 1
            print(e.code, file=sys.stderr)
            return 1
        return 0 if e.code in (None, SKIPPED) else int(e.code)
    return 0


if __name__ == "__main__":
    sys.exit(command(main))
