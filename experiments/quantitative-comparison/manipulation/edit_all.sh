#!/usr/bin/env bash
# edit.py with every method, then the table. Called by ViT/scripts/*.sh and MAE/scripts/edit.sh, which say what it takes.
# Usage: edit_all.sh KIND "MEASURE …" [options of edit.py]    KIND: ViT or MAE; MEASURE: of scripts/table.py
set -euo pipefail
kind=$1 measures=$2
shift 2
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
source "$ROOT/scripts/enter.sh"

images=()
if [ -z "${DATASET:-}" ]; then # the embedded default: what scripts/demo.sh has made
    DATASET=digits
    images=(--images_per_class "${IMAGES_PER_CLASS:-10}")
fi
ending=npz
[ "$kind" = ViT ] || ending=pth
PRETRAIN_WEIGHT=${PRETRAIN_WEIGHT:-$ROOT/ckpt/$kind-digits.$ending}
MODEL_TYPE=${MODEL_TYPE:-auto}
model=$MODEL_TYPE
[ "$model" != auto ] || model=$(basename "${PRETRAIN_WEIGHT%.*}")
RESULTS=${RESULTS:-$ROOT/results/demo}

for method in base influence_pattern ja random; do
    python "$ROOT/experiments/quantitative-comparison/manipulation/$kind/edit.py" --method "$method" \
        --dataset "$DATASET" ${DATASET_PATH:+--dataset_path "$DATASET_PATH"} ${images[@]+"${images[@]}"} \
        --pretrain_weight "$PRETRAIN_WEIGHT" --model_type "$MODEL_TYPE" \
        --ja_path "${JA_PATH:-$RESULTS/ja/$model}" \
        --influence_pattern_path "${INFLUENCE_PATTERN_PATH:-$RESULTS/influence_pattern/$model}" \
        --output_dir "$RESULTS/edit/remove_enhance/$method/$model" "$@"
done
# shellcheck disable=SC2086
python "$ROOT/scripts/table.py" --results "$RESULTS" --models "$model" --measures $measures
