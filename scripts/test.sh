#!/usr/bin/env bash
# Lint and tests. Usage: bash scripts/test.sh [--all] [pytest arguments]
#   under 10 minutes on two cores; --all adds the long tests (large shapes, long runs)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" test

marks="not long" workers="-n auto --dist loadfile" # files side by side; the long tests share folders
if [ "${1:-}" = --all ]; then
    marks="" workers=""
    shift
fi
ruff check .
ruff format --check .
python scripts/train_digits.py # two minutes, the first time
# shellcheck disable=SC2086
python -m pytest -m "$marks" $workers "$@"
