"""Check weights, data and machine before a long run: what is wrong, where, and what to do about it.

    python scripts/check.py --pretrain_weight ckpt/ViT-B_32.npz --dataset_path dataset/imagenet2012/val --batch_size 10
    python scripts/check.py --checks weights --pretrain_weight ckpt/*.npz ckpt/*.pth
    python scripts/check.py --checks data cost --pretrain_weight ckpt/ViT-digits.npz --dataset digits

Takes the options of path/joint_attr.py, for either kind of head, and several checkpoints. Reads every image, classifies
500 and times one evaluation: seconds for the digits, an estimated 10 minutes for ImageNet on two cores. Expect a line
for each of output, weights, data, names (imagenet1k), images, accuracy, memory and time; exit code 2 where a fault was
found, each on a line of its own on stderr.
"""

import sys
from collections.abc import Sequence

from neuronpath.cli.exits import command
from neuronpath.runs.check import FAULT, findings


def main(arguments: Sequence[str] | None = None) -> int:
    faults = 0
    for finding in findings(__doc__, arguments):
        if finding.level == FAULT:
            faults += 1
            print(f"check.py: {finding}", file=sys.stderr)
        else:
            print(finding, flush=True)
    return 2 if faults else 0


if __name__ == "__main__":
    sys.exit(command(main))
