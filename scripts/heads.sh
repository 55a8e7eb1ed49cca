#!/usr/bin/env bash
# What paths of heads, of neurons and of both are worth on the handwritten digits: the records behind docs/heads.md.
#
#   bash scripts/heads.sh            # in results/heads; a run that was stopped goes on with the same command
#
# Under 20 minutes of one core after scripts/train_digits.py. More options, such as --images_per_class 5, are passed on
# to every command. Then: python scripts/heads.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python}
RESULTS=${RESULTS:-results/heads}
METHODS=${METHODS:-heads neurons mixed heads_random neurons_random mixed_random heads_norm heads_gate}
ABLATIONS=${ABLATIONS:-zero mean resample}
EDIT=experiments/quantitative-comparison/manipulation
DATA=(--dataset digits --dataset_path dataset/digits/val --batch_size 50)
RULE=(--quadrature gauss-legendre --ig_total_step 4)

for weights in ckpt/ViT-digits.npz ckpt/MAE-digits.pth; do
  model=$(basename "${weights%.*}")
  for units in heads neurons both; do
    search=$([ "$units" = heads ] || echo "--search layer")
    $PYTHON path/joint_attr_heads.py "${DATA[@]}" "${RULE[@]}" --units "$units" $search --pretrain_weight "$weights" \
      --output_dir "$RESULTS/heads/$units/$model" "$@"
  done
  for ablation in $ABLATIONS; do
    for method in $METHODS; do
      units=${method%%_*}
      $PYTHON "$EDIT/${model%%-*}/edit.py" "${DATA[@]}" --method "$method" --ablation "$ablation" \
        --heads_path "$RESULTS/heads/${units/mixed/both}/$model" --pretrain_weight "$weights" \
        --output_dir "$RESULTS/edit/$ablation/$method/$model" "$@"
    done
  done
done
