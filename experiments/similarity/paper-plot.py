"""Which units the images of a few classes choose, layer by layer: the paper's Figure 4 (docs/method.md §6).

    python experiments/similarity/paper-plot.py --classes 3 5 8 9

A few seconds; writes paper-plot.png and paper-plot.pdf to OUTPUT_DIR. Expect a panel per class, and narrow violins
where its images agree on a unit. The default classes are the paper's, of ImageNet: albatross, Weimaraner, Border
collie and Eskimo dog.
"""

import sys

from neuronpath import analysis, figures
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_records
from neuronpath.cli.parsing import Parser, whole
from neuronpath.records.schema import METHODS, MOST_UNITS


def main() -> None:
    parser = Parser(__doc__)
    add_records(parser, tuple(METHODS), MOST_UNITS)
    parser.add_argument(
        "--classes",
        type=whole(0),
        nargs="+",
        default=[146, 178, 232, 248],
        metavar="LABEL",
        help="class indices, a panel each (default: 146 178 232 248, the paper's)",
    )
    options = parser.parse_args()
    classes = analysis.open_classes(options, analysis.resolve(options), options.classes)
    for file in figures.save(figures.plot_classes(classes, classes.labels), options.output_dir / "paper-plot"):
        print(f"picture     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
