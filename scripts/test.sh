#!/usr/bin/env bash
# Lint and tests. Usage: bash scripts/test.sh [--all] [pytest arguments]
#   under 10 minutes on two cores; --all adds the long tests (large shapes, long runs)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" test

marks="not long"
if [ "${1:-}" = --all ]; then
    marks=""
    shift
fi
ruff check .
ruff format --check .
python -m pytest -m "$marks" "$@"
