#!/usr/bin/env bash
# The tests with Python 3.10 to 3.13, with the pinned packages and with the oldest that pyproject.toml allows.
# Usage: bash scripts/test_matrix.sh [PYTHON …] [-- pytest arguments]      PYTHON: such as 3.10; default: all four
#   About 6 GB per environment (below .venv-matrix, removed after use unless KEEP=1) and 10 minutes per run, two per
#   Python. Uses uv, which brings the Pythons that are not installed; expect a line for each run, exit code 1 if one fails.
# Environment: RESOLUTIONS ("pinned oldest"), KEEP.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
command -v uv > /dev/null || {
    echo "test_matrix.sh: uv was not found; pip install uv" >&2
    exit 2
}
pythons=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do pythons+=("$1") && shift; done
[ "${1:-}" != -- ] || shift
[ ${#pythons[@]} -gt 0 ] || pythons=(3.10 3.11 3.12 3.13)

run() { # PYTHON RESOLUTION [pytest argument …]
    local python=$1 resolution=$2 folder=.venv-matrix/$1-$2
    shift 2
    uv venv --quiet --clear --python "$python" "$folder" || return
    if [ "$resolution" = pinned ]; then
        uv pip install --quiet --python "$folder" -r requirements.txt -e ".[test]" || return
    else
        uv pip install --quiet --python "$folder" --resolution lowest-direct -e ".[test]" || return
    fi
    "$folder/bin/python" scripts/train_digits.py > /dev/null 2>&1
    PATH="$PWD/$folder/bin:$PATH" VIRTUAL_ENV="$PWD/$folder" "$folder/bin/python" -m pytest -m "not long" -n auto --dist loadfile "$@"
}

failed=0
for python in "${pythons[@]}"; do
    for resolution in ${RESOLUTIONS:-pinned oldest}; do
        if run "$python" "$resolution" "$@"; then verdict=passed; else verdict=FAILED failed=1; fi
        echo "== Python $python, $resolution packages: $verdict"
        [ -n "${KEEP:-}" ] || rm -rf ".venv-matrix/$python-$resolution"
    done
done
exit $failed
