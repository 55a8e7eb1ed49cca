"""Top-K neuron paths: the K best neurons of every layer, with their Joint Attribution Scores (ViT, CLS head).

    python topK/path/joint_attr.py --topK 5 --dataset digits --pretrain_weight ckpt/ViT-digits.npz

About a minute on two cores after scripts/train_digits.py; expect higher scores than path/joint_attr.py's, whose paths
are the case K = 1. Writes one file per class to results/ja_top<K>/<model>; run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.extraction import TopKAttribution
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(TopKAttribution("cls"), __doc__)))
