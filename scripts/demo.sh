#!/usr/bin/env bash
# From nothing to neuron paths in a few minutes, on a laptop. Usage: bash scripts/demo.sh
#   Sets up .venv, makes the digits and two small models trained on them (a ViT and a mean-pooled one), finds the
#   paths of 100 held-out digits by all methods and draws some. Under 6 minutes after installation on two cores; a
#   second run reuses what is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""

results=results/demo
extract() { # SCRIPT CHECKPOINT JOB MODEL
    local again=()
    [ ! "ckpt/$2" -nt "$results/$3/$4/imgnet_all.args.json" ] || again=(--overwrite) # a model trained anew
    python "path/$1.py" ${again[@]+"${again[@]}"} --dataset digits --dataset_path dataset/digits/val --images_per_class 10 \
        --pretrain_weight "ckpt/$2" --output_dir "$results/$3/$4"
}
echo "== 1/3 the digits, and two small models trained on them"
python scripts/train_digits.py
echo "== 2/3 neuron paths, activation paths and influence patterns of 100 held-out digits"
extract joint_attr ViT-digits.npz ja ViT-digits
extract influence_pattern ViT-digits.npz influence_pattern ViT-digits
extract joint_attr_mae MAE-digits.pth ja MAE-digits
extract influence_pattern_mae MAE-digits.pth influence_pattern MAE-digits
echo "== 3/3 what was found"
python scripts/plot_paths.py --results $results/ja/ViT-digits --dataset_path dataset/digits/val --output $results/paths
python scripts/table.py --results $results
echo
echo "The score of a path says how much of the probability of the right digit is attributed to its 12 neurons, one"
echo "per layer: the neuron path's should be the highest by far. Look at $results/paths.png; the records are"
echo "in $results/<job>/<model>, one line per image."
