#!/usr/bin/env bash
# edit.py with every method, then the table. Called by ViT/scripts/*.sh and MAE/scripts/edit.sh, which say what it takes.
# Usage: edit_all.sh KIND "MEASURE …" [options of edit.py]    KIND: ViT or MAE; MEASURE: of scripts/table.py
set -euo pipefail
kind=$1 measures=$2
shift 2
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
source "$ROOT/scripts/setup.sh" --enter
source "$ROOT/experiments/quantitative-comparison/manipulation/edit_defaults.sh"

row=()
for method in base influence_pattern ja random; do
    row+=("$ROOT/experiments/quantitative-comparison/manipulation/$kind/edit.py" --method "$method"
        "${given[@]}" --ja_path "${JA_PATH:-$RESULTS/ja/$model}"
        --output_dir "$RESULTS/edit/remove_enhance/$method/$model" "$@" --)
done
# shellcheck disable=SC2086
python "$ROOT/scripts/stages.py" "${row[@]}" \
    "$ROOT/scripts/table.py" --results "$RESULTS" --models "$model" --measures $measures
