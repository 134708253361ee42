"""The README's tables of notes and refusals say what the importer says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "workloads" / "gpu" / "README.md").read_text(encoding="utf-8")
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "simulator" / "h2sim" / "gpu").glob("*.py"))


def told(heading):
    """What stands in backticks in the first column of a table."""
    table = README.partition(heading)[2].partition("\n\n")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row)]


NOTES, REFUSALS = told("| a note begins or says | means |"), told("| a refusal expects | because |")


def test_there_are_notes_and_refusals():
    assert len(NOTES) > 12
    assert len(REFUSALS) > 10


@pytest.mark.parametrize("text", [*NOTES, *REFUSALS])
def test_the_importer_says_it(text):
    assert text in SOURCE


def test_every_note_of_what_is_left_out_is_in_the_readme():
    """Texts that are counted or remarked on, by the names of their constants and by their places."""
    said = re.findall(r'^(?:WRONG_TIMES|NEVER_ENDED|UNENDED|NESTED|COUNTED_TWICE|REVERSED) = "([^":]+)', SOURCE, re.M)
    said += re.findall(r'f?"left out: \{[^}]+\} ([^"{]+)"', SOURCE)
    assert len(said) > 6
    missing = [text for text in said if not any(text.startswith(note) or note in text for note in NOTES)]
    assert missing == []
