#!/usr/bin/env bash
# From nothing to neuron paths in a few minutes, on a laptop. Usage: bash scripts/demo.sh
#   Sets up .venv, makes the digits and a small ViT trained on them, finds the paths of 100 held-out digits and draws
#   some. Under 4 minutes after installation on two cores; a second run reuses what is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

echo "== 1/3 digits and a small ViT trained on them"
python scripts/train_digits.py
echo "== 2/3 neuron paths of 100 held-out digits"
python path/joint_attr.py --dataset digits --dataset_path dataset/digits/val --pretrain_weight ckpt/ViT-digits.npz \
    --images_per_class 10 --output_dir results/demo
echo "== 3/3 a picture"
python scripts/plot_paths.py --results results/demo --dataset_path dataset/digits/val --output results/demo/paths
echo
echo "The mean JAS lines above say what was found: how much of the probability of the right class each kind of path"
echo "attributes to 12 neurons, one per layer. Records are in results/demo, one line per image; look at"
echo "results/demo/paths.png."
