#!/bin/sh
# Sets up a virtual environment with everything the tests need and runs them; arguments go to pytest.
# torch and torchvision are named exactly, so that no other package picks a newer pair (a larger build, another CUDA).
set -eu
cd "$(dirname "$0")/.."
VENV="${H2SIM_VENV:-.venv}"
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
"$VENV/bin/pip" install --quiet torch==2.13.0 torchvision==0.28.0 -e '.[test,train,events,images,export,rtl]' ruff
"$VENV/bin/ruff" check .
"$VENV/bin/python" -m pytest "$@"
