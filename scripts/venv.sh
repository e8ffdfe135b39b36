# Sourced by the scripts beside it: make .venv and install modelkin into it, once for each state of the pins.
#   ensure_venv EXTRA      EXTRA is an optional dependency group of pyproject.toml: demo or dev
# shellcheck shell=bash

ensure_venv() {
    local extra=$1 python version stamp state
    version='import sys; sys.exit(sys.version_info < (3, 11))'
    state=$(cat pyproject.toml constraints.txt | cksum)
    stamp=.venv/.modelkin-$extra
    # What dev installs holds all of demo.
    for made in "$stamp" .venv/.modelkin-dev; do
        if [ -x .venv/bin/modelkin ] && [ "$(cat "$made" 2>/dev/null)" = "$state" ]; then return 0; fi
    done
    if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        python=
        for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
            if [ -n "$candidate" ] && command -v "$candidate" >/dev/null && "$candidate" -c "$version" 2>/dev/null; then
                python=$candidate
                break
            fi
        done
        if [ -z "$python" ]; then
            echo "error: modelkin needs Python 3.11 or newer; install it, or set PYTHON to its path" >&2
            return 1
        fi
        rm -rf .venv
        if ! "$python" -m venv .venv >/dev/null 2>&1; then
            # Debian keeps venv in a package of its own.
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
                apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
            else
                echo "error: $python -m venv failed; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2
                return 1
            fi
            rm -rf .venv
            "$python" -m venv .venv
        fi
    fi
    echo "installing modelkin and its dependencies into .venv (once; a minute or two)" >&2
    # Modules are compiled when they are first imported: compiling all of torch ahead takes longer than the demo.
    .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[$extra]"
    echo "$state" >"$stamp"
}
