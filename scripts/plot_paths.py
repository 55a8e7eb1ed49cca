"""Draw the paths of a few images: image, path through the layers, path JAS against activation JAS.

    python scripts/plot_paths.py --results results/demo/ja/ViT-digits --dataset_path dataset/digits/val \\
        --output results/demo/paths

A few seconds; writes PATH.png and PATH.pdf. Expect the neuron paths' bars far longer than the activation paths'.
"""

import sys
from pathlib import Path

from neuronpath import data, figures
from neuronpath.analysis.results import objective_found
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_input_prefix, add_label_sources, check_dataset
from neuronpath.cli.parsing import Parser, whole
from neuronpath.errors import UserError
from neuronpath.files import ROOT, default_dataset_path
from neuronpath.records.args import Args, args_file, describe_rule
from neuronpath.records.reading import read_results


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "results/demo/ja/ViT-digits", help="folder of joint_attr records"
    )
    add_input_prefix(parser)
    parser.add_argument(
        "--dataset_path", type=Path, help="root of the images (default: of the records' kind of data set)"
    )
    add_label_sources(parser)
    parser.add_argument("--count", type=whole(1), default=5, help="images, the first of so many classes (default: 5)")
    parser.add_argument("--output", type=Path, default=ROOT / "results/demo/paths", help="pictures, without ending")
    options = parser.parse_args()
    records = [found[0] for found in read_results(options.results, options.input_prefix).values() if found]
    args = Args.read(args_file(options.results, options.input_prefix))
    if not records or not args.job.startswith("joint_attr"):
        raise UserError(f"{options.results}: {len(records)} records of {args.job}; give those of a joint_attr script")
    options.dataset, classes, H = args.require("dataset", "model_num_classes", "model_mlp_dim")
    options.dataset_path = options.dataset_path or default_dataset_path(options.dataset)
    check_dataset(options)
    source = data.open_chosen(options, classes)
    unit = objective_found(args.settings, options.results).unit
    figure = figures.plot_paths(records[: options.count], source, H, describe_rule(args.settings), unit)
    for file in figures.save(figure, options.output):
        print(f"picture     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
