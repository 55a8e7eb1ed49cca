"""Make the embedded default: dataset/digits as an image folder, and two small models trained on it.

    python scripts/train_digits.py

About 60 s on two quiet cores; expect 83 to 87 % top-1 on the held-out digits from the ViT and 79 to 84 % from the MAE.
Writes dataset/digits/{train,val}, ckpt/ViT-digits.npz (public Flax layout) and ckpt/MAE-digits.pth (the layout of
fine-tuned MAE, mean-pooled; trained in the same way, without masking). What is there already is kept, unless
--overwrite, or it was made by an earlier version or with other noise: then it is made anew, and a line says why.
"""

import sys
import time
from pathlib import Path

from neuronpath import data, models
from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser, proportion, whole
from neuronpath.cli.threads import settle_threads
from neuronpath.files import DIGITS, ROOT
from neuronpath.models.configs import CONFIGS
from neuronpath.models.digits import CHECKPOINTS, EPOCHS, outdated, sign


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=CHECKPOINTS, default=list(CHECKPOINTS), help="(default: both)")
    parser.add_argument(
        "--noise",
        type=proportion,
        default=data.NOISE,
        help="standard deviation of the Gaussian noise in the digits, of full scale; 0: plain (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs", type=whole(1), default=EPOCHS, help="passes over the training digits (default: %(default)s)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of weights and order (default: 0)")
    parser.add_argument(
        "--output_dir", type=Path, default=ROOT / "ckpt", metavar="DIR", help="for the checkpoints (default: ckpt)"
    )
    parser.add_argument("--overwrite", action="store_true", help="train anew where there is a checkpoint")
    options = parser.parse_args()
    digits = ROOT / DIGITS
    if why := data.write_images(digits, options.noise):
        print(f"{digits}: {why}; made anew with noise {options.noise:g}")
    for name in options.models:
        checkpoint = options.output_dir / Path(CHECKPOINTS[name]).name
        if checkpoint.exists() and not options.overwrite:
            if not (why := outdated(checkpoint, digits)):
                print(f"{checkpoint} is there; --overwrite trains anew")
                continue
            print(f"{checkpoint}: {why}; trained anew")
        settle_threads()
        started = time.perf_counter()
        images, labels = data.load_images(digits / "train", models.VisionTransformer(CONFIGS[name]))
        model = models.train(CONFIGS[name], images, labels, options.epochs, options.seed)
        models.save(model, checkpoint)
        sign(checkpoint, digits, epochs=options.epochs, seed=options.seed)
        held_out = 100 * models.accuracy(model, *data.load_images(digits / "val", model))
        print(f"{checkpoint}: {held_out:.2f} % top-1 on held-out digits, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(command(main))
