"""Maps of units over the patches of their top images, for the atlas: after scripts/top_images.py and the searches.

    python scripts/unit_maps.py --dataset digits --dataset_path dataset/digits/val --pretrain_weight ckpt/ViT-digits.npz

Model and data as for top_images.py. For a head that reads several tokens each patch's activation, one forward per
image; for one that reads a single token gradient × input, on average half a forward and backward for every unit and
image: seconds for the digits, work for a GPU with a ViT-B. Expect maps-<layer>.npz beside top_images.npz; run again, it
makes only the layers that lack them. Several processes (--shard, torchrun) share the layers.
"""

import sys
from argparse import Namespace
from pathlib import Path

from neuronpath.cli import options as opt
from neuronpath.cli.exits import Report, command
from neuronpath.cli.parsing import Parser, labels
from neuronpath.files import ROOT


def parse() -> Namespace:
    parser = Parser(__doc__)
    opt.add_data(parser)
    opt.add_model(parser)
    group = parser.add_argument_group("maps")
    group.add_argument(
        "--results", type=Path, default=ROOT / "results", metavar="DIR", help="holds <job>/<model> (default: results)"
    )
    opt.add_input_prefix(group)
    group.add_argument(
        "--top_images",
        type=Path,
        metavar="FILE",
        help="what top_images.py wrote; maps go beside it (default: top_images/<model>/top_images.npz in --results)",
    )
    group.add_argument(
        "--units",
        choices=("paths", "all"),
        default="paths",
        help="of which units: those of the paths in the model's records, or all (default: %(default)s)",
    )
    group.add_argument("--layers", type=labels, metavar="LIST", help="layers, such as 0,5-7 (default: all)")
    group.add_argument("--overwrite", action="store_true", help="make also those that are there")
    opt.add_running(parser)
    return opt.settle(parser.parse_args())


def main() -> Report:
    options = parse()
    from neuronpath.runs.unit_maps import write_maps

    return write_maps(options)


if __name__ == "__main__":
    sys.exit(command(main))
