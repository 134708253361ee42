"""The report on memory: its page is made of its rows, every way computes the same step, and a stopped run goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

HOME = Path(__file__).parents[2] / "reports" / "gpu"


@pytest.fixture(scope="module")
def report():
    spec = importlib.util.spec_from_file_location("memory_report", HOME / "memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_that_of_the_committed_rows(report):
    rows = report.read(HOME / "memory.csv")
    assert rows
    assert (HOME / "memory.md").read_text() == report.page(rows)
    losses = {key: float(row["loss"]) for key, row in rows.items()}
    other = {key for key in losses if losses[key] != pytest.approx(losses[(*key[:4], "vanilla")], rel=1e-4)}
    # the one spike of the page, which both forms of the unit flip
    assert other == {("medium", "yes", "32", "4", way) for way in ("fused", "fused-sliced")}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_units_take_less_memory_than_vanilla_and_compute_its_loss(report):
    vanilla, fused = (report.in_a_process(("medium", "yes", "8", "2", way)) for way in ("vanilla", "fused-sliced"))
    assert float(vanilla["loss"]) == pytest.approx(float(fused["loss"]), rel=1e-4)
    assert fused["peak_bytes"] < 0.75 * vanilla["peak_bytes"]


def test_rows_that_are_there_are_not_measured_again(report, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HERE", tmp_path)
    measured = []

    def measure(key):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(key)
        return dict(zip(report.FIELDS, key, strict=False)) | {"peak_bytes": 10**6, "loss": "1.0"}

    monkeypatch.setattr(report, "in_a_process", measure)
    monkeypatch.setattr(sys, "argv", ["memory.py", "--networks", "medium", "--steps", "4", "--norms", "no"])
    with pytest.raises(KeyboardInterrupt):
        report.main()
    first = list(measured)
    measured.clear()
    report.main()
    assert len(first) == 3
    assert len(measured) == 2
    assert not set(first) & set(measured)
    assert "| medium | no | 4 | 4 | 1 | 1 (1.00) |" in (tmp_path / "memory.md").read_text()
