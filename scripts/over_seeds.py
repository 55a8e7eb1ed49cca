"""Print on what several trainings agree: each claim's mean, spread, and in how many of them it holds, as Markdown.

    python scripts/over_seeds.py results/seed0 results/seed1 results/seed2 --json results/over_seeds.json

Seconds for the digits, as often as there are folders what scripts/table.py takes; expect a column for each model. Every
folder holds the records of one training, <job>/<model>, as for scripts/table.py; a model has the same name in all.
"""

import sys
from pathlib import Path

from neuronpath.analysis.seeds import over_seeds, tables_of, text_of
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_input_prefix
from neuronpath.cli.parsing import Parser
from neuronpath.files import write_json


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="results of one training each")
    add_input_prefix(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="columns (default: all models with records)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it there, with all entries (default: nowhere)")
    options = parser.parse_args()
    found = over_seeds(tables_of(options.folders, options.input_prefix, options.models))
    print(text_of(found))
    if options.json:
        print(f"\n{write_json(options.json, found)}")


if __name__ == "__main__":
    sys.exit(command(main))
