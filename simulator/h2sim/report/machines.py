"""Machines as a document, a line each."""

from __future__ import annotations

from collections.abc import Sequence

from h2sim.activity import ENGINES
from h2sim.arch import Arch, peak_flops
from h2sim.document import Document, counted, table
from h2sim.report.rivals import machines_table

LEFT = ("name", "forward", "weight update", "backward")


def machines_document(machines: Sequence[Arch], rivals: Sequence[tuple[str, str]]) -> Document:
    """H2Learn's machines with engine sizes, clock and peak throughput; rivals with a word on what they are."""
    rows = []
    for arch in machines:
        engines = [getattr(arch.engines, name) for name in ENGINES]
        sizes = [f"{e.rows}x{e.columns}x{e.parallelism}" for e in engines]
        rows.append((arch.name, *sizes, f"{arch.clock_hz / 1e6:g}", f"{peak_flops(arch) / 1e12:.2f}"))
    title = "Machines (engines: rows x columns x parallelism)"
    found = table(title, LEFT, ["clock MHz", "peak TFLOPS"], rows, drop=("weight update", "backward", "forward"))
    verdict = f"{counted(len(machines) + len(rivals), 'machine')} shipped, {len(rivals)} of them rivals of H2Learn."
    return Document(verdict, (found, machines_table(rivals)))
