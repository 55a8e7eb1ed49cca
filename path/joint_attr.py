"""Neuron path and activation path of every image, with their Joint Attribution Scores (ViT, CLS head).

    python path/joint_attr.py --dataset digits --dataset_path dataset/digits/val \\
        --pretrain_weight ckpt/ViT-digits.npz --output_dir results/digits

About 20 s on two cores after scripts/train_digits.py; expect a mean JAS of the neuron paths many times that of the
activation paths. Writes one file per class; run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.extraction import JointAttribution
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(JointAttribution("cls"), __doc__)))
