"""Remove and enhance each image's path: probability and predicted class before and after (ViT).

    python experiments/quantitative-comparison/manipulation/ViT/edit.py --method ja --dataset digits \\
        --pretrain_weight ckpt/ViT-digits.npz --ja_path results/demo/ja/ViT-digits --images_per_class 10

A few seconds after scripts/demo.sh; expect removal to lower the label's probability and enhancement to raise it.
Writes one file per class; run again, it resumes. scripts/table.py makes deviations and intervals of the records.
"""

import sys

from neuronpath.cli.exits import command
from neuronpath.runs.editing import Edit
from neuronpath.runs.job import main

if __name__ == "__main__":
    sys.exit(command(lambda: main(Edit("cls"), __doc__)))
