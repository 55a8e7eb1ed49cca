#!/usr/bin/env bash
# The paper's experiments from end to end: neuron paths, activation paths and influence patterns of all images of all
# models, what removing and enhancing them does, pruning by top-5 paths (ViT), class similarity, smaller models, tables and
# the atlas.
# Usage: bash scripts/reproduce.sh [--smoke] [OPTION …]
#   --smoke   the same road on the digits models: 60 images, Gauss-Legendre 4, under 3 minutes on two cores
#   OPTION …  passed on to every run, such as --device cuda:1, --labels 0-99, --batch_size 50
# Needs, without --smoke: ImageNet's validation images in class folders (dataset/README.md) and the four checkpoints
# (scripts/download_weights.sh). Run again, it resumes: what is complete is found complete in seconds.
# Environment: DATASET_PATH, CKPT (folder of the checkpoints), RESULTS (folder, default results/paper), QUADRATURE and
# STEPS (default left 20, as released), IMAGES_PER_CLASS (default all), MODELS (default all four), PROPORTIONS (of units
# zeroed, default 0.25 0.5 0.75 1), TRAIN_PATH (training images, by which the units of smaller models are chosen; without
# that folder they are left out) and TRAIN_PER_CLASS (of them, default 5), LAUNCH (what starts a script, default python; for eight GPUs
# "torchrun --standalone --nproc_per_node 8").
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$ROOT/scripts/setup.sh" --enter

smoke=
if [ "${1:-}" = --smoke ]; then
    smoke=yes
    shift
    python "$ROOT/scripts/train_digits.py"
    : "${RESULTS=$ROOT/results/smoke}" "${QUADRATURE=gauss-legendre}" "${STEPS=4}" "${IMAGES_PER_CLASS=6}"
    : "${MODELS=ViT-digits MAE-digits}" "${DATASET_PATH=$ROOT/dataset/digits/val}" "${PROPORTIONS=1}"
    : "${TRAIN_PATH=$ROOT/dataset/digits/train}" "${TRAIN_PER_CLASS=1}"
    dataset=digits classes=(--classes 3 5 8 9) size=() smaller=(--importances path_1 taylor_all --shares 0.5)
else
    : "${RESULTS=$ROOT/results/paper}" "${QUADRATURE=left}" "${STEPS=20}" "${IMAGES_PER_CLASS=}"
    : "${MODELS=ViT-B_16 ViT-B_32 ViT-L_32 MAE-B_16}" "${DATASET_PATH=$ROOT/dataset/imagenet2012/val}"
    : "${PROPORTIONS=0.25 0.5 0.75 1}"
    : "${TRAIN_PATH=$ROOT/dataset/imagenet2012/train}" "${TRAIN_PER_CLASS=5}"
    dataset=imagenet1k classes=() size=(--img_size 224)
    smaller=(--importances path_1 activation taylor taylor_all magnitude random --shares 0.9 0.7 0.5 0.3)
    [ -n "$IMAGES_PER_CLASS" ] || smaller+=(--images_per_class 5) # all at once in memory
fi
CKPT=${CKPT:-$ROOT/ckpt}
manipulation=experiments/quantitative-comparison/manipulation

checkpoint() { # MODEL
    case $1 in
    ViT-B_16) echo "$CKPT/ViT-B_16-224.npz" ;;
    MAE-B_16) echo "$CKPT/mae_finetuned_vit_base.pth" ;;
    MAE-*) echo "$CKPT/$1.pth" ;;
    *) echo "$CKPT/$1.npz" ;;
    esac
}
for model in $MODELS; do
    if [ ! -f "$(checkpoint "$model")" ]; then
        echo "reproduce.sh: $(checkpoint "$model"): no such file; fetch it with scripts/download_weights.sh or give CKPT" >&2
        exit 2
    fi
done

# Commands gather in `row` and run in one process, which loads PyTorch once; with LAUNCH the jobs run in its processes.
row=()
add() { # SCRIPT [OPTION …]
    row+=(${row[@]+--} "$@")
}
flush() { # COMMAND: what starts it
    # shellcheck disable=SC2086
    [ ${#row[@]} = 0 ] || $1 "$ROOT/scripts/stages.py" "${row[@]}"
    row=()
}
common=(--dataset "$dataset" --dataset_path "$DATASET_PATH" ${IMAGES_PER_CLASS:+--images_per_class "$IMAGES_PER_CLASS"} "$@")
stage() { # MODEL JOB SCRIPT [OPTION …]: one script, its records in $RESULTS/JOB/MODEL
    local model=$1 job=$2 script=$3 again=() args
    shift 3
    args=("$RESULTS/$job/$model/"*.args.json)
    # The digits models may be trained anew; a model that is not is never overwritten.
    [ -z "$smoke" ] || [ ! "$(checkpoint "$model")" -nt "${args[0]}" ] || again=(--overwrite)
    add "$script" ${again[@]+"${again[@]}"} "${common[@]}" --model_type "$model" \
        --pretrain_weight "$(checkpoint "$model")" --output_dir "$RESULTS/$job/$model" "$@"
}

rule=(--quadrature "$QUADRATURE" --ig_total_step "$STEPS")
checkpoints=()
for model in $MODELS; do
    checkpoints+=("$(checkpoint "$model")")
done
add "$ROOT/scripts/check.py" --checks weights data cost --pretrain_weight "${checkpoints[@]}" \
    ${size[@]+"${size[@]}"} "${rule[@]}" "${common[@]}"
[ -z "${LAUNCH:-}" ] || flush python
for model in $MODELS; do
    kind=ViT suffix=
    [[ $model != MAE-* ]] || kind=MAE suffix=_mae
    stage "$model" ja "$ROOT/path/joint_attr$suffix.py" "${rule[@]}"
    stage "$model" influence_pattern "$ROOT/path/influence_pattern$suffix.py" "${rule[@]}"
    for method in base influence_pattern ja random; do
        stage "$model" "edit/remove_enhance/$method" "$ROOT/$manipulation/$kind/edit.py" --method "$method" \
            --ja_path "$RESULTS/ja/$model" --influence_pattern_path "$RESULTS/influence_pattern/$model"
    done
    if [ $kind = ViT ]; then
        stage "$model" ja_top5 "$ROOT/topK/path/joint_attr.py" --topK 5 "${rule[@]}"
        for method in ja base random; do
            for tokens in cls all; do
                for p in $PROPORTIONS; do
                    stage "$model" "pruning/$method/k5-p$p-all-$tokens" "$ROOT/topK/$manipulation/ViT/edit.py" \
                        --edit_operation prune --topK 5 --mask_proportion "$p" --prune_tokens "$tokens" \
                        --method "$method" --ja_path "$RESULTS/ja_top5/$model"
                done
            done
        done
    fi
    stage "$model" top_images "$ROOT/scripts/top_images.py"
    [ -z "${LAUNCH:-}" ] || flush "$LAUNCH"
    add "$ROOT/scripts/unit_maps.py" "${common[@]}" --model_type "$model" --pretrain_weight "$(checkpoint "$model")" \
        --results "$RESULTS"
    classes_of=(--results "$RESULTS/ja/$model" --dataset_path "$DATASET_PATH" --output_dir "$RESULTS/similarity/$model")
    add "$ROOT/experiments/similarity/pair-sim.py" "${classes_of[@]}" --model_type "$model" \
        --pretrain_weight "$(checkpoint "$model")"
    add "$ROOT/experiments/similarity/paper-plot.py" "${classes_of[@]}" ${classes[@]+"${classes[@]}"}
    [ -z "${LAUNCH:-}" ] || flush python
done
if [[ " $MODELS" == *" ViT"* ]]; then
    add "$ROOT/topK/$manipulation/analysis/plot_probability_deviation.py" --results "$RESULTS/pruning"
fi
if [ -d "$TRAIN_PATH" ]; then
    add "$ROOT/scripts/study_shrink.py" "${common[@]}" ${size[@]+"${size[@]}"} --pretrain_weight "${checkpoints[@]}" \
        --training_path "$TRAIN_PATH" --training_per_class "$TRAIN_PER_CLASS" "${smaller[@]}" \
        --kept "$RESULTS/shrink" --output "$RESULTS/shrink/study"
else
    echo "reproduce.sh: smaller models are left out: TRAIN_PATH=$TRAIN_PATH is no folder" >&2
fi
# shellcheck disable=SC2086
add "$ROOT/scripts/table.py" --results "$RESULTS" --models $MODELS --json "$RESULTS/table.json"
# shellcheck disable=SC2086
add "$ROOT/scripts/atlas.py" --results "$RESULTS" --models $MODELS --dataset "$dataset" --dataset_path "$DATASET_PATH" \
    --output "$RESULTS/atlas"
flush python
