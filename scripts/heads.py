"""Print what paths of heads, of neurons and of both are worth, from the records of scripts/heads.sh, as Markdown.

    python scripts/heads.py --results results/heads

Half a minute (the intervals); expect the tables of docs/heads.md: scores, what removal takes, and differences.
"""

import sys
from pathlib import Path

from neuronpath.analysis.heads import tables
from neuronpath.cli.exits import Report, command
from neuronpath.cli.options import add_input_prefix
from neuronpath.cli.parsing import Parser
from neuronpath.files import ROOT


def main() -> Report:
    parser = Parser(__doc__)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "results/heads", help="the records are below it (default: results/heads)"
    )
    add_input_prefix(parser)
    options = parser.parse_args()
    return Report(tables(options.results, options.input_prefix))


if __name__ == "__main__":
    sys.exit(command(main))
