"""Of every unit the 9 images of highest activation, its mean activation and how often it is above 0 (either head).

    python scripts/top_images.py --dataset digits --dataset_path dataset/digits/val \\
        --pretrain_weight ckpt/ViT-digits.npz

About 5 s on two cores after scripts/train_digits.py, one forward per image; expect top_images.npz in
results/top_images/ViT-digits, whose arrays docs/records.md describes. Run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.job import main
from neuronpath.runs.top_images import TopImages

if __name__ == "__main__":
    sys.exit(command(lambda: main(TopImages(), __doc__)))
