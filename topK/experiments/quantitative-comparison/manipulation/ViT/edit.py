"""Edit top-K paths: prune all but the units that a class's paths use most, or remove or enhance the paths (ViT).

    python topK/experiments/quantitative-comparison/manipulation/ViT/edit.py --edit_operation prune --topK 5 \\
        --dataset digits --pretrain_weight ckpt/ViT-digits.npz

A few seconds after topK/path/joint_attr.py; expect the units retained by paths to keep more of the label's probability
than random ones. A class's first 80 % of images select its units, the others are evaluated and recorded.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.job import main
from neuronpath.runs.pruning import TopKEdit

if __name__ == "__main__":
    sys.exit(command(lambda: main(TopKEdit("cls"), __doc__)))
