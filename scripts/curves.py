"""What is left when the best K units per layer are removed, or retained alone: a table, pictures and JSON.

    python scripts/curves.py --results results --output results/curves

Seconds for the digits; expect a row for every method and --ablation of the runs of edit.py --topK found below RESULTS,
whatever their folders are called, and per model PATH-<model>.{png,pdf}.
"""

import json
import sys
from pathlib import Path

from neuronpath.analysis.curves import markdown, read_curves, table
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_input_prefix
from neuronpath.cli.parsing import Parser
from neuronpath.figures.common import save
from neuronpath.figures.curves import plot_curves
from neuronpath.files import ROOT, replace_file, writing


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "results", help="the runs are below it (default: results)"
    )
    add_input_prefix(parser)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "results/curves", metavar="PATH", help="files, without ending"
    )
    options = parser.parse_args()
    rows, out = table(read_curves(options.results, options.input_prefix)), options.output
    print(markdown(rows))
    for model in dict.fromkeys(row["model"] for row in rows):
        files = save(plot_curves(rows, model), out.with_name(f"{out.name}-{model}"))
        print(f"picture     {files[0].resolve()}")
    file = out.with_name(f"{out.name}.json")
    with writing(file, advice=""):
        replace_file(file, json.dumps(rows, indent=2, allow_nan=False) + "\n")
    print(f"numbers     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
