#!/usr/bin/env bash
# Prunes with every method over K, share of zeroed units, tokens and depth, then prints the table and draws it (ViT).
# Usage: bash topK/experiments/quantitative-comparison/manipulation/ViT/scripts/edit_logits.sh [options of edit.py]
# Environment, with defaults that work once scripts/demo.sh has run:
#   TOPKS, PROPORTIONS, TOKENS, DEPTHS   what to sweep over ("1 5", "0.5 1", "cls all", all layers: "")
#   METHODS                              what retains units ("ja base random")
#   PRETRAIN_WEIGHT, MODEL_TYPE          checkpoint (ckpt/ViT-digits.npz) and its type (auto)
#   DATASET, DATASET_PATH                data set (digits, 10 images per class, or IMAGES_PER_CLASS) and its folder
#   JA_PATH, INFLUENCE_PATTERN_PATH      records of the searches (RESULTS/ja_top5/<model>, RESULTS/influence_pattern/<model>)
#   RESULTS                              folder; records go to RESULTS/pruning/<method>/<settings>/<model> (results/demo)
# A second per run on the digits: 24 runs by default, in one process.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../../../.." && pwd)
source "$ROOT/scripts/setup.sh" --enter
manipulation=$ROOT/topK/experiments/quantitative-comparison/manipulation
kind=ViT
source "$ROOT/experiments/quantitative-comparison/manipulation/edit_defaults.sh"

row=()
for depth in ${DEPTHS:-all}; do
    for tokens in ${TOKENS:-cls all}; do
        for k in ${TOPKS:-1 5}; do
            for p in ${PROPORTIONS:-0.5 1}; do
                for method in ${METHODS:-ja base random}; do
                    layers=()
                    [ "$depth" = all ] || layers=(--depth_prune "$depth")
                    out=$RESULTS/pruning/$method/k$k-p$p-$depth-$tokens/$model again=()
                    [ ! "$PRETRAIN_WEIGHT" -nt "$out/imgnet_all.args.json" ] || again=(--overwrite)
                    row+=("$manipulation/ViT/edit.py" ${again[@]+"${again[@]}"} --edit_operation prune --method "$method"
                        --topK "$k" --mask_proportion "$p" --prune_tokens "$tokens" ${layers[@]+"${layers[@]}"}
                        "${given[@]}" --ja_path "${JA_PATH:-$RESULTS/ja_top5/$model}"
                        --output_dir "$out" "$@" --)
                done
            done
        done
    done
done
python "$ROOT/scripts/stages.py" "${row[@]}" "$manipulation/analysis/plot_probability_deviation.py" --results "$RESULTS/pruning"
