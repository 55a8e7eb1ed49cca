"""Print the paper's table from result folders, ours beside the paper's figures, as Markdown.

    python scripts/table.py --results results --json results/table.json

Seconds for the digits, some minutes for four models on ImageNet (the intervals); expect a column for each model with
records in RESULTS/<job>/<model>, <job> being ja, influence_pattern or edit/remove_enhance/<method>.
"""

import sys
from pathlib import Path

from neuronpath.analysis.results import Results
from neuronpath.analysis.table import GROUPS, markdown, table
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_input_prefix
from neuronpath.cli.parsing import Parser
from neuronpath.files import ROOT, write_json


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="holds <job>/<model> (default: results)")
    add_input_prefix(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="columns (default: all models with records)")
    parser.add_argument(
        "--measures", nargs="+", choices=GROUPS, default=GROUPS, help=f"{', '.join(GROUPS)} (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too (default: nowhere)")
    options = parser.parse_args()
    results = Results(options.results, options.input_prefix)
    found = table(results, options.models or results.models(), options.measures)
    print(markdown(found))
    if options.json:
        print(f"\n{write_json(options.json, found)}")


if __name__ == "__main__":
    sys.exit(command(main))
