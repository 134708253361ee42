"""Files that the documentation, the reports and the notes on the data name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = ("simulator", "archconfigs", "energy_tables", "reports", "workloads", "tests", "docs", "baselines")
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(TOP)})/[\w./*-]*[\w*/]")
PROSE = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "reports/*.md",
        "reports/h2learn/*.md",
        "workloads/**/*.md",
        "simulator/h2sim/**/*.yaml",
    )
    for path in ROOT.glob(pattern)
)


def missing(text: str) -> list[str]:
    """The paths in a text that name no file or folder of the checkout; a star stands for any characters."""
    named = {match.group().rstrip("/") for match in PATH.finditer(text)}
    return sorted(name for name in named if not any(True for _ in ROOT.glob(name)))


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(path):
    assert missing(path.read_text()) == []


def test_a_file_that_is_not_there_is_found_out():
    text = "see `baselines/claims.yaml`, `simulator/trace/`, reports/rtl.md and tests/data/*.npz"
    assert missing(text) == ["baselines/claims.yaml", "simulator/trace"]
