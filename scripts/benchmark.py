"""Time the engine against the plain search, both with path and activation scores.

    python scripts/benchmark.py
    python scripts/benchmark.py --tables sizes                            # default --internal_batch_size against others
    python scripts/benchmark.py --tables adapted                          # the same model of timm, adapted
    python scripts/benchmark.py --tables heads                            # exact search of heads beside that of neurons
    python scripts/benchmark.py --tables rules --model_types ViT-B_16 ViT-B_32 ViT-L_32 MAE-B_16 --device cuda

Random weights, fp32, 4 images. The first takes about 50 minutes on two cores, 10 with --repeats 1: expect the engine
at the same nodes about 2.3 times, with Gauss-Legendre 4 about 11 times and an exact shortlist of 4 with Gauss-Radau 2
about 9 times as fast as the plain search; the Influence Pattern in one pass about 8 times as fast as layer by layer.
The second: the default within 10 % of the best.
"""

import sys
from functools import partial

from neuronpath import attribution, models, studies
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_device, add_precision
from neuronpath.cli.parsing import Parser, whole
from neuronpath.cli.threads import settle_threads
from neuronpath.models.configs import CONFIGS


def main() -> None:
    parser = Parser(__doc__)
    tables = ("searches", "influences", "sizes", "rules", "adapted", "heads")
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables[:2], help=f"of {', '.join(tables)}")
    parser.add_argument("--model_types", nargs="+", choices=CONFIGS, default=["ViT-B_32"], help="(default: ViT-B_32)")
    parser.add_argument("--batch_size", type=whole(1), default=4, help="images at once (default: %(default)s)")
    parser.add_argument("--internal_batch_size", type=whole(1), help="rows at once (default: as in the scripts)")
    parser.add_argument("--ig_total_step", type=whole(1), default=20, help="nodes of the right rule (default: 20)")
    parser.add_argument("--repeats", type=whole(1), default=5, help="interleaved repetitions (default: %(default)s)")
    add_device(parser)
    add_precision(parser)
    o = parser.parse_args()
    settle_threads()
    import torch  # once the options are right

    o.device = models.device("cpu" if o.no_cuda else o.device)
    dtype = models.set_precision(o.precision, o.device)
    for name in o.model_types:
        config = CONFIGS[name]
        torch.manual_seed(0)
        model = models.VisionTransformer(config).requires_grad_(False).set_dtype(dtype).to(o.device)
        x = torch.randn(o.batch_size, 3, config.img_size, config.img_size).to(o.device, model.dtype)
        labels = torch.arange(o.batch_size, device=o.device) % config.num_classes
        rows = o.internal_batch_size or attribution.default_rows(model, o.device)
        print(f"{name} sizes, {o.precision}, {o.device}, {o.batch_size} images, torch {torch.__version__}\n")
        runs = {
            "searches": partial(studies.searches_table, model, x, labels, o.ig_total_step, rows),
            "influences": partial(studies.influences_table, model, x, labels, 4, rows),
            "sizes": partial(
                studies.sizes_table, model, x, labels, attribution.Quadrature("right", o.ig_total_step), rows
            ),
            "rules": partial(studies.rules_table, model, x, labels, rows),
            "heads": partial(studies.heads_table, model, x, labels, attribution.Quadrature("gauss-legendre", 4), rows),
            "adapted": partial(studies.adapted_table, model, x, labels, attribution.Quadrature("gauss-radau", 4), rows),
        }
        for table in o.tables:
            if table not in ("searches", "heads") or config.pool == "cls":
                print(studies.compare(runs[table](), model, len(x), o.repeats))


if __name__ == "__main__":
    sys.exit(command(main))
