"""Does what needs no simulation start without compiling anything?"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numba", "llvmlite", "scipy", "pandas", "matplotlib", "torch")


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--help",), ("run", "--help"), ("arch", "show", "h2learn"), ("arch", "check", "h2learn")],
    ids=" ".join,
)
def test_no_compiler_is_loaded_for_what_simulates_nothing(arguments):
    code = (
        "import sys\nfrom h2sim.cli import main\n"
        f"main({list(arguments)!r}, standalone_mode=False, prog_name='h2sim')\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "h2sim", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("h2sim, version ")
