#!/bin/sh
# Sets up a virtual environment with everything the tests need, checks form and types, and runs the tests.
# Arguments go to pytest: `sh tests/run.sh tests/cost`; with --cov as the first one, coverage is measured too.
# A process per core, up to four, runs the tests, each file's in one of them; `-n 0` after the script's name: one process.
# torch and torchvision are named exactly, so that no other package picks a newer pair (a larger build, another CUDA).
set -eu
cd "$(dirname "$0")/.."
VENV="${H2SIM_VENV:-.venv}"
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
extras=test,train,events,images,export,fused,rtl,sweep,cluster,docs,dev
if [ "${1:-}" = --cov ]; then
    shift
    extras="$extras,cov"
    set -- --cov --cov-report=term "$@"
fi
"$VENV/bin/pip" install --quiet torch==2.13.0 torchvision==0.28.0 -e ".[$extras]"
# sinabs asks for a nir that is older than Norse's, and for a package that talks to chips; its layers need neither
"$VENV/bin/pip" install --quiet --no-deps sinabs==3.1.3 pbr==7.1.3
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/mypy"
"$VENV/bin/pyright" --pythonpath "$VENV/bin/python"
"$VENV/bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
