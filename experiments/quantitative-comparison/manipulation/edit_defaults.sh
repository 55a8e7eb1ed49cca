# Sourced by the shell scripts that run edit.py, with `kind` (ViT or MAE) and ROOT set: fills in what the environment
# leaves open with what scripts/demo.sh has made. Sets PRETRAIN_WEIGHT, RESULTS, `model` (the name of its folders) and
# `given`, the options of edit.py that follow.
# shellcheck shell=bash disable=SC2034
given=()
if [ -z "${DATASET:-}" ]; then
    DATASET=digits
    given=(--images_per_class "${IMAGES_PER_CLASS:-10}")
fi
ending=npz
[ "$kind" = ViT ] || ending=pth
PRETRAIN_WEIGHT=${PRETRAIN_WEIGHT:-$ROOT/ckpt/$kind-digits.$ending}
MODEL_TYPE=${MODEL_TYPE:-auto}
model=$MODEL_TYPE
[ "$model" != auto ] || model=$(basename "${PRETRAIN_WEIGHT%.*}")
RESULTS=${RESULTS:-$ROOT/results/demo}
given+=(--dataset "$DATASET" ${DATASET_PATH:+--dataset_path "$DATASET_PATH"}
    --pretrain_weight "$PRETRAIN_WEIGHT" --model_type "$MODEL_TYPE"
    --influence_pattern_path "${INFLUENCE_PATTERN_PATH:-$RESULTS/influence_pattern/$model}")
