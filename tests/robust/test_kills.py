"""A handful of kills of each command; `python -m tests.robust.kills` makes many (reports/robust/kills.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.robust import killed, kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks of POSIX")
ROWS = [name for name in killed.ROWS if name not in ("reproduce", "kernels")]  # these take long


@pytest.mark.parametrize("name", ROWS)
def test_a_killed_command_leaves_whole_outputs_and_no_temporary_file_for_long(name, tmp_path):
    if name.startswith("train") or name == "export.trace":
        pytest.importorskip("torch")
    outcomes = kills.campaign([name], 3, 1, tmp_path, jobs=1)
    assert len(outcomes) == 6
    assert [fault for outcome in outcomes for fault in outcome.faults] == []
    assert kills.record(outcomes, 3, 1).count(f"| {name} |") == 2


def half_written():
    """A command that writes its output in place, as none may."""
    import time

    for end in ("half", "whole"):
        Path("out.json").write_text(end)
        time.sleep(0.2)


def left_behind():
    """A command that does not tidy when it is told to end."""
    import time

    Path(".h2sim-00000000-1-x.part").write_text("half")
    time.sleep(0.2)
    Path(".h2sim-00000000-1-x.part").rename("out.json")


@pytest.mark.parametrize(
    ("call", "fault"),
    [(half_written, "out.json is neither the old nor the new one"), (left_behind, "left ['.h2sim-00000000-1-x.part']")],
)
def test_the_campaign_notices(call, fault, tmp_path, monkeypatch):
    monkeypatch.setitem(kills.ROWS, "bad", killed.Row(call))
    monkeypatch.setattr(kills, "FRESH_EVERY", 10**9)
    (tmp_path / "alone").mkdir()
    monkeypatch.setattr(kills, "fresh", kills.forked)
    reference = kills.left_alone("bad", tmp_path / "alone")
    (tmp_path / "kills").mkdir()
    outcomes = [kills.kill_once("bad", "SIGTERM", n, 0, reference, tmp_path / "kills") for n in range(2, 20)]
    assert any(fault in found for outcome in outcomes for found in outcome.faults)
