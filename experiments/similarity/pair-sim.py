"""Which classes have similar paths, and whether a model confuses those more than others (docs/method.md §6).

    python experiments/similarity/pair-sim.py --pretrain_weight ckpt/ViT-digits.npz

5 s on the digits; expect a positive correlation. 1000 classes of 50 images take 25 s, with weights 25 s and a
forward of each image more. Writes similarity.{npy,png,pdf}, labels.json and pair_sim.json; with weights confusion.npy.
"""

import sys

from neuronpath import analysis, figures
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_records, add_weights
from neuronpath.cli.parsing import Parser, whole
from neuronpath.cli.threads import settle_threads
from neuronpath.records.schema import METHODS, MOST_UNITS


def main() -> None:
    parser = Parser(__doc__)
    add_records(parser, tuple(METHODS), MOST_UNITS)
    parser.add_argument("--top", type=whole(1), default=50, help="neighbours, at most half the classes (default: 50)")
    add_weights(parser)
    options = parser.parse_args()
    settings = analysis.resolve(options)
    classes = analysis.open_classes(options, settings, least=2)
    found = {"similarity": analysis.cosines(analysis.frequencies(classes))}
    if options.pretrain_weight:
        settle_threads()
        found["confusion"], n = analysis.check_confusion(options, classes, settings)
        r, p = analysis.mantel(*found.values())
        print(f"confusion   Spearman's r = {r:.3f} with similarity, p = {p:.4f} (Mantel test; n = {n} recorded images)")
    pairs = analysis.neighbours(found["similarity"], classes.labels, options.top)
    files = analysis.write(options.output_dir, classes.labels, pairs, **found)
    files += figures.save(figures.plot_similarity(found["similarity"], classes), options.output_dir / "similarity")
    print("\n".join(f"file        {file.resolve()}" for file in files))


if __name__ == "__main__":
    sys.exit(command(main))
