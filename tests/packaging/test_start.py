"""Does what needs no simulation start without compiling anything?"""

from __future__ import annotations

import subprocess
import sys

import pytest

from h2sim.cli import main

HEAVY = ("numba", "llvmlite", "scipy", "pandas", "matplotlib", "torch")
MIDDLING = ("numpy", "pydantic", "rich", "yaml")


@pytest.mark.parametrize(
    "arguments",
    [("arch", "show", "h2learn"), ("arch", "check", "h2learn"), ("table", "show", "28nm")],
    ids=" ".join,
)
def test_no_compiler_is_loaded_for_what_simulates_nothing(arguments):
    assert loaded(arguments, HEAVY) == []


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), *((name, "--help") for name in main.commands)], ids=" ".join
)
def test_nothing_but_click_is_loaded_for_a_help_text(arguments):
    assert loaded(arguments, (*HEAVY, *MIDDLING)) == []


COMMAND_MODULES = tuple(f"h2sim.cli.{name}" for name in main.commands)


def test_the_version_needs_no_command_and_a_command_no_other():
    files = ("h2sim.io.files", "h2sim.io.library")
    assert loaded(("--version",), (*COMMAND_MODULES, *files)) == []
    assert loaded(("verify", "--help"), COMMAND_MODULES) == ["h2sim.cli.verify"]


@pytest.mark.parametrize(
    ("typed", "expected"), [("tra", ["h2sim.cli.trace", "h2sim.cli.train"]), ("verify -", ["h2sim.cli.verify"])]
)
def test_a_completion_loads_what_it_offers_and_nothing_heavy(typed, expected):
    words = f"h2sim {typed}".split()
    code = (
        "import sys\nfrom h2sim.cli import main\nfrom click.shell_completion import BashComplete\n"
        f"BashComplete(main, {{}}, 'h2sim', '_H2SIM_COMPLETE').get_completions({words[1:-1]!r}, {words[-1]!r})\n"
        f"print(*sorted(set({(*COMMAND_MODULES, *HEAVY, *MIDDLING)!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_what_is_loaded_is_seen():
    assert loaded(("arch", "check", "h2learn"), MIDDLING) == ["pydantic", "yaml"]


def loaded(arguments: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """Which of these modules a new process holds after the command."""
    code = (
        "import sys\nfrom h2sim.cli import main\n"
        f"main({list(arguments)!r}, standalone_mode=False, prog_name='h2sim')\n"
        f"print(*sorted(set({names!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "h2sim", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("h2sim, version ")
