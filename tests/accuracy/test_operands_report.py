"""reports/operands.py on a small trained step: every line is another count than the step's, where its rule bears."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch")

from h2sim.trace import load_trace, parse_notation
from tests.helpers.tiny import stepped, tiny_trainer

ROOT = Path(__file__).parents[2]


def test_the_lines_of_the_report(tmp_path, capsys):
    notation = "4C3(Encoding)(BN)-4C3(BN)-MP2-4C3(BN)-2FC"
    trainer, _ = stepped(tiny_trainer(parse_notation(notation, (1, 6, 6))), 6)
    _, (record,), part = trainer.recorded_step(4, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    report = runpy.run_path(str(ROOT / "reports" / "operands.py"))
    report["main"](str(tmp_path / "t.npz"))
    lines = capsys.readouterr().out.splitlines()
    first = {line.split("|")[1].strip(): line.split("|")[2:] for line in lines if line.startswith("|")}
    trace = load_trace(tmp_path / "t.npz")
    whole = report["counted"](report["ARCH"], trace)
    assert int(first["as simulated"][0].replace(",", "")) == whole.steady_cycles

    def backward(activity):
        return sum(row.compute_cycles for row in activity.layers if row.engine == "backward")

    assert backward(report["of_dm"](str(tmp_path / "t.npz"))) < backward(whole)
    assert backward(report["all_needed"](str(tmp_path / "t.npz"))) > backward(whole)
    free = report["counted"](report["ARCH"].with_({"normalisation.model": "none"}), trace)
    assert free.steady_cycles < whole.steady_cycles
    assert "conv3" in first
