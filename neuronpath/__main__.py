"""The scripts' jobs where the package is installed without a checkout: python -m neuronpath JOB [options].

Jobs: {jobs}. Each lists its options with --help. Default paths are relative to the working directory.
"""

import sys
from collections.abc import Callable, Sequence

from .cli.exits import Report, command
from .errors import UserError
from .runs.editing import Edit
from .runs.extraction import Baseline, HeadAttribution, InfluencePattern, JointAttribution, TopKAttribution
from .runs.job import Job, main
from .runs.pruning import TopKEdit
from .runs.top_images import TopImages

JOBS: dict[str, Callable[[], Job]] = {
    "joint-attr": lambda: JointAttribution("cls"),
    "joint-attr-mae": lambda: JointAttribution("mean"),
    "influence-pattern": lambda: InfluencePattern("cls"),
    "influence-pattern-mae": lambda: InfluencePattern("mean"),
    "baseline": lambda: Baseline(),
    "joint-attr-heads": lambda: HeadAttribution(),
    "edit": lambda: Edit("cls"),
    "edit-mae": lambda: Edit("mean"),
    "topk-joint-attr": lambda: TopKAttribution("cls"),
    "topk-edit": lambda: TopKEdit("cls"),
    "top-images": lambda: TopImages(),
}


def run(arguments: Sequence[str]) -> Report:
    """UserError where the first of `arguments` is no job."""
    name, *options = arguments or ["--help"]
    if name in ("-h", "--help"):
        return Report(str(__doc__).format(jobs=", ".join(JOBS)).strip())
    if name not in JOBS:
        raise UserError(f"{name!r} is no job; choose from {', '.join(JOBS)}")
    job = JOBS[name]()
    sys.argv[0] = f"neuronpath {name}"
    return main(job, type(job).__doc__, options)


if __name__ == "__main__":
    sys.argv[0] = "neuronpath"
    sys.exit(command(lambda: run(sys.argv[1:])))
