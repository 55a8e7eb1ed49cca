"""The Influence Pattern path of every image, with its Joint Attribution Score (ViT, CLS head).

    python path/influence_pattern.py --dataset digits --dataset_path dataset/digits/val \\
        --pretrain_weight ckpt/ViT-digits.npz --output_dir results/digits_influence

About 15 s on two cores after scripts/train_digits.py; expect a mean JAS between those of the activation paths and of
the neuron paths. Writes one file per class; run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.extraction import InfluencePattern
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(InfluencePattern("cls"), __doc__)))
