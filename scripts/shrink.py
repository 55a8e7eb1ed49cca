"""Make a smaller model of a checkpoint: the same share of the FFN units of every layer stays, the others are cut out.

    python path/joint_attr.py --dataset digits --dataset_path dataset/digits/train --images_per_class 20 \\
        --pretrain_weight ckpt/ViT-digits.npz --output_dir results/ja_train/ViT-digits
    python scripts/shrink.py --dataset digits --dataset_path dataset/digits/train --images_per_class 20 \\
        --pretrain_weight ckpt/ViT-digits.npz --paths results/ja_train/ViT-digits --keep 0.5 --output results/small.npz
    python scripts/check.py --checks accuracy --dataset digits --pretrain_weight results/small.npz

Seconds for the digits; a forward and a backward per image. Expect the number of units and weights left and the file's
path; all other scripts and timm read it. Choose by training images, measure on others. docs/shrink.md tells by what.
"""

import sys

from neuronpath.cli.exits import Report, command
from neuronpath.runs.shrinking import main as shrink


def main() -> Report:
    return shrink(__doc__)


if __name__ == "__main__":
    sys.exit(command(main))
