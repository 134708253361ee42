"""Clones of this checkout, and virtual environments to install them in: real ones, made without a download.

An environment of these sees the packages of the Python that runs the tests, but for h2sim, and pip installs into it
with no dependencies and no build environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("simulator", "archconfigs", "energy_tables", "workloads", "tests", "docs")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.py[co]")


def clone(place: Path) -> Path:
    """A copy of what git holds for the package, without anything that an install or a run left behind."""
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, place / folder, ignore=LEFT_OUT)
    for file in FILES:
        shutil.copy(ROOT / file, place / file)
    return place


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment; `cache` is where its processes keep what they keep for a user."""

    folder: Path
    cache: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next((self.folder / "lib").glob("python*/site-packages"))

    def call(self, *command: str | Path) -> str:
        """What a command prints, run outside of any checkout; its first word is a program of the environment."""
        kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT"}}
        env = {**kept, "XDG_CACHE_HOME": str(self.cache), "COLUMNS": "100"}
        program, *rest = command
        done = subprocess.run(
            [self.folder / "bin" / program, *rest], cwd=self.folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, *what: str | Path) -> None:
        """pip install, into this environment."""
        pip(self.python, "install", *what)


def environment(folder: Path) -> Environment:
    """A new virtual environment that sees the tests' own packages after its own."""
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder=folder, cache=folder / "cache")
    (made.packages / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def pip(python: Path | str, command: str, *arguments: str | Path) -> None:
    """Calls this Python's pip for another Python: no dependencies, no build environment, so no download."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, command, *options, *arguments],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"pip {command}: {done.stdout}{done.stderr}"
