"""Which units the images of every class choose, layer by layer: Figure 4 for all classes (docs/method.md §6).

    python experiments/similarity/freq-figure-all.py

About a second per class; writes freq-figure-all.pdf, a page per class, and freq-figure-all/<label>.png to OUTPUT_DIR.
Expect 10 pages for the digits. Classes without records are left out and named.
"""

import sys

from neuronpath import analysis, figures
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_records
from neuronpath.cli.parsing import Parser
from neuronpath.records.schema import METHODS, MOST_UNITS


def main() -> None:
    parser = Parser(__doc__)
    add_records(parser, tuple(METHODS), MOST_UNITS)
    options = parser.parse_args()
    for written in figures.save_pages(analysis.open_classes(options, analysis.resolve(options)), options.output_dir):
        print(f"pictures    {written.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
