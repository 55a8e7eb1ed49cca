"""Time the engine against the plain search, both with path and activation scores.

    python scripts/benchmark.py

ViT-B_32 sizes, random weights, fp32, 4 images: about 50 minutes on two cores, 10 with --batch_size 1 --repeats 3.
Expect the engine at the same nodes about 2.3 times, with Gauss-Legendre 4 about 11 times and an exact shortlist of 8
about twice as fast as the plain search; the Influence Pattern in one pass about 8 times as fast as layer by layer.
"""

import sys

import torch

from neuronpath.benchmark import compare, influences, searches
from neuronpath.cli import command
from neuronpath.configs import CONFIGS
from neuronpath.model import VisionTransformer
from neuronpath.options import PRECISIONS, Parser, device, whole
from neuronpath.prefix import default_rows


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--model_type", choices=CONFIGS, default="ViT-B_32", help="sizes (default: %(default)s)")
    parser.add_argument("--batch_size", type=whole(1), default=4, help="images at once (default: %(default)s)")
    parser.add_argument("--internal_batch_size", type=whole(1), help="rows at once (default: as in the scripts)")
    parser.add_argument(
        "--ig_total_step",
        type=whole(1),
        default=20,
        help="nodes of the searches' right rule (default: 20; 4 in the Influence Pattern's comparison)",
    )
    parser.add_argument("--repeats", type=whole(1), default=5, help="interleaved repetitions (default: %(default)s)")
    parser.add_argument("--device", type=device, default="auto", help="cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(default: %(default)s)")
    o = parser.parse_args()
    config = CONFIGS[o.model_type]
    torch.manual_seed(0)
    model = VisionTransformer(config).to(o.device, PRECISIONS[o.precision]).requires_grad_(False)
    images = torch.randn(o.batch_size, 3, config.img_size, config.img_size).to(o.device, PRECISIONS[o.precision])
    labels = torch.arange(o.batch_size, device=o.device) % config.num_classes
    print(f"{o.model_type} sizes, {o.precision}, {o.device}, {o.batch_size} images, torch {torch.__version__}\n")
    rows = o.internal_batch_size or default_rows(model, o.device)
    if config.pool == "cls":
        print(compare(searches(model, images, labels, o.ig_total_step, rows), config, images, o.repeats))
    print(compare(influences(model, images, labels, 4, rows), config, images, o.repeats))


if __name__ == "__main__":
    sys.exit(command(main))
