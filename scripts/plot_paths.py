"""Draw the paths of a few images: image, path through the layers, path JAS against activation JAS.

    python scripts/plot_paths.py --results results/demo/ja/ViT-digits --dataset_path dataset/digits/val \\
        --output results/demo/paths

A few seconds; writes PATH.png and PATH.pdf. Expect the neuron paths' bars far longer than the activation paths'.
"""

import sys
from pathlib import Path

from neuronpath.cli import command
from neuronpath.errors import UserError
from neuronpath.options import ROOT
from neuronpath.parsing import Parser, whole
from neuronpath.plotting import plot_paths
from neuronpath.quadrature import describe
from neuronpath.records import read_results
from neuronpath.store import read_args


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "results/demo/ja/ViT-digits", help="folder of joint_attr records"
    )
    parser.add_argument("--input_prefix", default="imgnet_all", help="their file names begin with it")
    parser.add_argument("--dataset_path", type=Path, default=ROOT / "dataset/digits/val", help="root of the images")
    parser.add_argument("--count", type=whole(1), default=5, help="images, the first of so many classes (default: 5)")
    parser.add_argument("--output", type=Path, default=ROOT / "results/demo/paths", help="pictures, without ending")
    options = parser.parse_args()
    records = [found[0] for found in read_results(options.results, options.input_prefix).values() if found]
    job, settings, _ = read_args(options.results / f"{options.input_prefix}.args.json")
    if not records or not job.startswith("joint_attr"):
        raise UserError(f"{options.results}: {len(records)} records of {job}; give the records of a joint_attr script")
    rule = describe(settings["quadrature"], settings["ig_total_step"])
    H = settings["model_mlp_dim"]
    for file in plot_paths(records[: options.count], options.dataset_path, H, rule, options.output):
        print(f"picture     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
