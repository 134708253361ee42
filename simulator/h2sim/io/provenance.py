"""What wrote a result: versions of h2sim and what it counts with, and the commit of a checkout."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from typing import Any

from h2sim._version import __version__
from h2sim.io.library import PACKAGE

LIBRARIES = ("numpy", "numba", "pydantic", "pandas")


@cache
def versions() -> dict[str, str]:
    """Versions by name: h2sim, Python and the libraries that a result depends on."""
    return {
        "h2sim": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


@cache
def git_commit() -> str | None:
    """The commit of the checkout that h2sim runs from, `+changes` behind it where files differ; None without one."""
    root = PACKAGE.parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "simulator")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(PACKAGE.parents[1]), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def provenance(command: str | None) -> dict[str, Any]:
    """The `provenance` entry of a document: versions, commit where there is one, the command line if one was typed."""
    commit, typed = git_commit(), {} if command is None else {"command": command}
    return {**typed, "versions": versions(), **({"git_commit": commit} if commit else {})}
