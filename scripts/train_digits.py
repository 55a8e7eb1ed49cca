"""Make the embedded default: dataset/digits as an image folder, and two small models trained on it.

    python scripts/train_digits.py

About two minutes on two cores; expect at least 97 % top-1 on the held-out digits from both models. Writes
dataset/digits/{train,val}, ckpt/ViT-digits.npz (public Flax layout) and ckpt/MAE-digits.pth (the layout of fine-tuned
MAE, mean-pooled; trained in the same way, without masking). What is there already is kept, unless --overwrite.
"""

import sys
import time

from neuronpath import data, models
from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser, whole
from neuronpath.cli.threads import settle_threads
from neuronpath.files import ROOT
from neuronpath.models.configs import CONFIGS

CHECKPOINTS = {"ViT-digits": "ckpt/ViT-digits.npz", "MAE-digits": "ckpt/MAE-digits.pth"}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=CHECKPOINTS, default=list(CHECKPOINTS), help="(default: both)")
    parser.add_argument("--epochs", type=whole(1), default=30, help="passes over the training digits (default: 30)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of weights and order (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="train anew where there is a checkpoint")
    options = parser.parse_args()
    data.write_images(ROOT / "dataset/digits")
    for name in options.models:
        checkpoint, config = ROOT / CHECKPOINTS[name], CONFIGS[name]
        if checkpoint.exists() and not options.overwrite:
            print(f"{checkpoint} is there; --overwrite trains anew")
            continue
        settle_threads()
        started = time.perf_counter()
        images, labels = data.load_images(ROOT / "dataset/digits/train", models.VisionTransformer(config))
        model = models.train(config, images, labels, options.epochs, options.seed)
        models.save(model, checkpoint)
        held_out = 100 * models.accuracy(model, *data.load_images(ROOT / "dataset/digits/val", model))
        print(f"{checkpoint}: {held_out:.2f} % top-1 on held-out digits, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(command(main))
