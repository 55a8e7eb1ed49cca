#!/usr/bin/env bash
# Lint, types, the rules between wings, and tests. Usage: bash scripts/test.sh [--all] [--coverage] [pytest arguments]
#   README.md says how long it takes; --all adds the long tests (large shapes, long runs); --coverage says which lines of
#   neuronpath/ no test runs (docs/tested.md)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" test

marks="not long" workers="-n auto --dist loadfile --no-loadscope-reorder" coverage="" # files side by side; the long tests share folders
while [[ ${1:-} == --all || ${1:-} == --coverage ]]; do
    case $1 in
    --all) marks="" workers="" ;;
    --coverage) coverage="--cov=neuronpath --cov-report=term-missing:skip-covered" ;;
    esac
    shift
done
if ! command -v chromium chromium-browser google-chrome >/dev/null; then
    warning="test: NO BROWSER: the atlas's tests in one are skipped; install it: apt install chromium"
    echo "$warning" >&2
    trap 'echo "$warning" >&2' EXIT # and as the last line
fi
ruff check .
ruff format --check .
lint-imports --no-logo
mypy
python scripts/write_tables.py --check
python scripts/train_digits.py # the first time
# shellcheck disable=SC2086
python -m pytest -m "$marks" $workers $coverage "$@"
