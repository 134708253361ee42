"""A trace as a document: how sparse it is, then spike rate and sparsities by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from h2sim.document import Document, Line, counted, percent, table
from h2sim.report.words import shape, source_line

if TYPE_CHECKING:
    from h2sim.trace import LayerSummary, Trace

COLUMNS = ("neurons", "spike rate", "output sp.", "input sp.", "samples without gradient")
MEANS = {
    "spike_rate": "of the neurons spike", "output_sparsity": "are outside the window", "input_sparsity": "have dm = 0",
}  # fmt: skip


def trace_document(trace: Trace, rows: Sequence[LayerSummary]) -> Document:
    """What the trace is of, where it came from, whether it can be verified, and its masks layer by layer."""
    meta = trace.meta
    values = "with values" if trace.has_values else "masks only: cannot be verified"
    layers = table(
        "Output sparsity: neurons outside the window; input sparsity: dm = 0",
        ["layer", "kind", "shape"], COLUMNS,
        [
            (
                row.layer, row.kind, shape(row.out_shape), f"{row.neurons:,}", percent(row.spike_rate),
                percent(row.output_sparsity), percent(row.input_sparsity), _silent(row, meta.batch),
            )
            for row in rows
        ],
        drop=("neurons", "kind", "shape"),
    )  # fmt: skip
    source, phases = Line(f"source: {source_line(meta.source)}"), Line(f"phases: {', '.join(meta.phases)}; {values}")
    return Document(_verdict(trace, rows), (source, phases, layers))


def _verdict(trace: Trace, rows: Sequence[LayerSummary]) -> str:
    meta = trace.meta
    synthetic = ", SYNTHETIC masks" if meta.source.get("kind") == "synthetic" else ""
    work = f"{meta.network} on {meta.dataset}{synthetic}, {counted(len(rows), 'layer')}"
    size = f"T = {meta.timesteps}, batch {meta.batch}"
    shares = [f"{percent(_mean(rows, field), 1)} {what}" for field, what in MEANS.items()]
    return f"{trace.path.name}: {work}, {size}; in the mean {', '.join(shares)}."


def _mean(rows: Sequence[LayerSummary], field: str) -> float | None:
    """Over the neurons of all layers that have the mask."""
    known = [(row.neurons, getattr(row, field)) for row in rows if getattr(row, field) is not None]
    neurons = sum(n for n, _ in known)
    return sum(n * share for n, share in known) / neurons if neurons else None


def _silent(row: LayerSummary, batch: int) -> str:
    return "-" if row.samples_without_gradient is None else f"{row.samples_without_gradient} of {batch}"
