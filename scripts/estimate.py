"""How long scripts/reproduce.sh will take on this machine: one call of each job is timed and scaled.

    python scripts/estimate.py --models ViT-B_32 --dataset_path dataset/imagenet2012/val

Seconds to a minute; expect a line per model. A rough figure: it is timed with random weights, two images and one node.
"""

import sys
import time
from pathlib import Path

from neuronpath.cli import command
from neuronpath.configs import CONFIGS
from neuronpath.data import open_dataset
from neuronpath.estimate import duration, seconds_per_image
from neuronpath.model import VisionTransformer
from neuronpath.options import add_data, add_device
from neuronpath.parsing import Parser, whole


def main() -> None:
    start, stages = time.process_time(), {"cls": 15, "mean": 8}  # seconds to start a stage, and how many there are
    parser = Parser(__doc__)
    add_data(parser)
    parser.add_argument("--models", nargs="+", choices=CONFIGS, required=True, metavar="NAME", help="(required)")
    parser.add_argument("--ig_total_step", type=whole(1), default=20, metavar="M", help="nodes (default: 20)")
    add_device(parser)
    options, _ = parser.parse_known_args()  # the stages' other options have no say in this
    classes = CONFIGS[options.models[0]].num_classes
    source = open_dataset(options.dataset, options.dataset_path or Path("dataset/imagenet2012/val"), classes)
    images, total = len(source.select(options.labels, options.images_per_class)), 0.0
    for name in options.models:
        model = VisionTransformer(CONFIGS[name]).requires_grad_(False)
        each = seconds_per_image(model.to(options.device).eval(), options.ig_total_step)
        seconds = images * sum(each.values()) + stages[CONFIGS[name].pool] * start
        shares = ", ".join(f"{job} {duration(images * s)}" for job, s in each.items())
        print(f"estimate    {name}: {images} images, about {duration(seconds)} on {options.device} ({shares})")
        total += seconds
    print(f"estimate    in all about {duration(total)}, if nothing of it is there yet")


if __name__ == "__main__":
    sys.exit(command(main))
