"""A baseline's path of every image, with its Joint Attribution Score: five other ways to choose neurons (either head).

    python path/baseline.py --method gradient_activation --dataset digits --dataset_path dataset/digits/val \\
        --pretrain_weight ckpt/ViT-digits.npz --output_dir results/digits_gradient

About 30 s on two cores after scripts/train_digits.py, minutes for layer_ig and ablation; expect a mean JAS near that of
path/joint_attr.py (conductance and random: near 0). Writes one file per class; run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.extraction import Baseline
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(Baseline(), __doc__)))
