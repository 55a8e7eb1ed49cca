"""Neuron path and activation path of every image, with their Joint Attribution Scores (fine-tuned MAE).

    python path/joint_attr_mae.py --dataset digits --dataset_path dataset/digits/val \\
        --pretrain_weight ckpt/MAE-digits.pth --output_dir results/digits_mae

About 20 s on two cores after scripts/train_digits.py; expect a mean JAS of the neuron paths many times that of the
activation paths. Writes one file per class; run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.extraction import JointAttribution
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(JointAttribution("mean"), __doc__)))
