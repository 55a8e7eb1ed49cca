#!/usr/bin/env bash
# What removing and enhancing paths does to top-1 accuracy, all three methods and the control (ViT).
# Usage: bash experiments/quantitative-comparison/manipulation/ViT/scripts/edit_accuracy.sh [options of edit.py, such as --device cuda:1 or --gain 0.5 3]
# Environment, with defaults that work once scripts/demo.sh has run:
#   PRETRAIN_WEIGHT, MODEL_TYPE          checkpoint (ckpt/ViT-digits.npz) and its type (auto)
#   DATASET, DATASET_PATH                data set (digits, 10 images per class, or IMAGES_PER_CLASS) and its folder
#   JA_PATH, INFLUENCE_PATTERN_PATH      records of the searches (RESULTS/ja/<model>, RESULTS/influence_pattern/<model>)
#   RESULTS                              folder for the records, RESULTS/edit/remove_enhance/<method>/<model> (results/demo)
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/../../edit_all.sh" ViT "accuracy" "$@"
