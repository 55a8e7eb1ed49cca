"""Print the mean Joint Attribution Scores of all methods and models found in result folders, as Markdown.

    python scripts/table.py --results results

A second; expect one column for each model with records in RESULTS/ja/<model> or RESULTS/influence_pattern/<model>.
"""

import sys
from pathlib import Path

from neuronpath.cli import command
from neuronpath.options import ROOT, Parser
from neuronpath.table import markdown, mean_scores


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="holds <job>/<model> (default: results)")
    parser.add_argument(
        "--input_prefix", default="imgnet_all", help="record files begin with it (default: %(default)s)"
    )
    options = parser.parse_args()
    print(markdown(mean_scores(options.results, options.input_prefix)))


if __name__ == "__main__":
    sys.exit(command(main))
