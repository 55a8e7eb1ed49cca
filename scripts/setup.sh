# Sourced by the other shell scripts.
# Usage: source scripts/setup.sh EXTRA      goes to the repository root and sets up and enters .venv there;
#                                           EXTRA: an extra of pyproject.toml, such as "test", or ""
#        source scripts/setup.sh --enter    enters the .venv that is there, unless another environment is active
# PYTHON names the interpreter to use; otherwise python3, if it is 3.10 to 3.13, or another such one.

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python python3.13 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "setup: Python 3.10 to 3.13 was not found; install one, or name it: PYTHON=/path/to/python3" >&2
    return 2
}

enter() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -f "$root/.venv/bin/activate" ]; then
        # shellcheck disable=SC1091
        source "$root/.venv/bin/activate"
    fi
}

setup() {
    local extra=${1:+[$1]} python stamp
    cd "$(dirname "${BASH_SOURCE[0]}")/.." || return
    # The stamp names what is installed: .venv is renewed when the requirements or the extra change.
    stamp=$(cat requirements.txt pyproject.toml | cksum)$extra
    if [ "$(cat .venv/.stamp 2>/dev/null)" != "$stamp" ] && [ "$(cat .venv/.stamp 2>/dev/null)" != "${stamp%"$extra"}[test]" ]; then
        python=$(find_python) || return
        echo "setup: installing into .venv (about 6 GB; a few minutes on a fast network) …" >&2
        .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv || {
            echo "setup: '$python -m venv .venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2
            return 2
        }
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt || return
        [ -z "$extra" ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extra" || return
        echo "$stamp" > .venv/.stamp
    fi
    # shellcheck disable=SC1091
    source .venv/bin/activate
}

if [ "${1:-}" = --enter ]; then enter; else setup "$@"; fi
