#!/bin/sh
# Sets up a virtual environment with everything the tests need and runs them; arguments go to pytest.
# torch 2.13 is named first and exactly, so that no other package picks a larger build of it.
set -eu
cd "$(dirname "$0")/.."
VENV="${H2SIM_VENV:-.venv}"
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
"$VENV/bin/pip" install --quiet torch==2.13.0 -e '.[test,train,rtl]' ruff
"$VENV/bin/ruff" check .
"$VENV/bin/python" -m pytest "$@"
