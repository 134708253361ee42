"""A trace as a document: how sparse it is, then spike rate and sparsities by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from h2sim.document import Document, Line, counted, percent, table
from h2sim.report.trace_operands import count_figures, how, operand_dict, operand_parts
from h2sim.report.words import shape, source_line
from h2sim.trace.reads import carried, made_of

if TYPE_CHECKING:
    from h2sim.document import Table
    from h2sim.trace import LayerSummary, Trace

SCHEMA, SCHEMA_VERSION = "h2sim-trace-info", 1
COLUMNS = ("neurons", "spike rate", "output sp.", "input sp.", "samples without gradient")
MEANS = {
    "spike_rate": "of the neurons spike", "output_sparsity": "are outside the window", "input_sparsity": "have dm = 0",
}  # fmt: skip


def trace_document(trace: Trace, rows: Sequence[LayerSummary]) -> Document:
    """What the trace is of, where it came from, whether it can be verified, its masks layer by layer, its operands."""
    meta = trace.meta
    values = "with values" if trace.has_values else "masks only: cannot be verified"
    source, phases = Line(f"source: {source_line(meta.source)}"), Line(f"phases: {', '.join(meta.phases)}; {values}")
    return Document(_verdict(trace, rows), (source, phases, _masks(rows, meta.batch), *operand_parts(trace)))


def _masks(rows: Sequence[LayerSummary], batch: int) -> Table:
    """A row for each layer; what gates keep only where there is one."""
    kept = any(row.kept is not None for row in rows)
    body = [
        (
            row.layer, row.kind, shape(row.out_shape), f"{row.neurons:,}", percent(row.spike_rate),
            percent(row.output_sparsity), percent(row.input_sparsity), _silent(row, batch),
            *((percent(row.kept),) if kept else ()),
        )
        for row in rows
    ]  # fmt: skip
    return table(
        "Output sparsity: neurons outside the window; input sparsity: dm = 0",
        ["layer", "kind", "shape"], (*COLUMNS, *(("kept",) if kept else ())), body, drop=("neurons", "kind", "shape"),
    )  # fmt: skip


def trace_dict(trace: Trace, rows: Sequence[LayerSummary]) -> dict[str, Any]:
    """The h2sim-trace-info document: metadata, and by layer its masks, members and what it gives and reads."""
    meta, made, members = trace.meta, made_of(trace.meta), carried(trace)
    layers = []
    for layer, row in zip(meta.layers, rows, strict=True):
        reads = [{"map": name, **operand_dict(made[name].operand)} for name in layer.inputs]
        words = how(layer) if layer.is_map else None
        layers.append({
            **asdict(row), "spiking": layer.spiking, "makes": words, "made_of": list(made[layer.name].sources),
            "members": list(members[layer.name]), "gives": operand_dict(made[layer.name].operand), "reads": reads,
        })  # fmt: skip
    counts = {"counts": count_figures(trace)} if trace.has("input.counts") else {}
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "trace": {"version": meta.version, "sha256": trace.sha256, "network": meta.network, "dataset": meta.dataset},
        "source": meta.source,
        "timesteps": meta.timesteps,
        "batch": meta.batch,
        "phases": list(meta.phases),
        "has_values": trace.has_values,
        "input": {"kind": meta.input_kind, "shape": list(meta.input_shape), **counts},
        "layers": layers,
    }


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
