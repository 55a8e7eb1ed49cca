"""Paths of attention's heads, of heads and neurons in turn, or of neurons, with their scores (either head).

    python path/joint_attr_heads.py --dataset digits --dataset_path dataset/digits/val \\
        --pretrain_weight ckpt/ViT-digits.npz --quadrature gauss-legendre --ig_total_step 4

About 20 s on two cores after scripts/train_digits.py; expect a mean JAS of the head paths several times that of the
largest heads' paths. --units both and neurons take some minutes. Writes one file per class; run again, it resumes.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.extraction import HeadAttribution
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(HeadAttribution(), __doc__)))
