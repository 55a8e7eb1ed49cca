"""The images of classes, by name or label, to look at beside their similarity.

    python experiments/similarity/name2img.py --names 3 5 --count 10

A few seconds; copies the data set's images to OUTPUT_DIR/<label>_<name>/: expect 10 in each of two folders. Files are
copied as they are; images of CIFAR become PNG files. Classes without records are left out and named.
"""

import sys

from neuronpath import analysis
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_records
from neuronpath.cli.parsing import Parser, whole
from neuronpath.records.schema import METHODS, MOST_UNITS


def main() -> None:
    parser = Parser(__doc__)
    add_records(parser, tuple(METHODS), MOST_UNITS)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--names", nargs="+", metavar="NAME", help="class names, such as albatross 'Border collie'")
    group.add_argument("--classes", type=whole(0), nargs="+", metavar="LABEL", help="class indices, such as 146 232")
    parser.add_argument(
        "--count", type=whole(1), metavar="N", help="only the first N images of each class (default: all)"
    )
    options = parser.parse_args()
    classes = analysis.open_classes(options, analysis.resolve(options), options.names or options.classes)
    for folder, count in analysis.export_classes(options, classes):
        print(f"images      {count} in {folder.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
