"""Traces on one machine side by side: what their masks are like and what that makes of cycles and energy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from h2sim.activity import ENGINES
from h2sim.document import Column, Table, to_csv
from h2sim.errors import TraceError
from h2sim.result import Result
from h2sim.trace.read import Trace
from h2sim.trace.summary import TraceSummary, layer_summary, summarise, trace_counts

RATES = ("spike_rate", "output_sparsity", "input_sparsity", "kept")
OF_SOME = ("kept", "mean_count")  # what only networks with gates, or an input of counts, have
CSV_HEAD = (
    "trace", "network", "dataset", "source", "layer", "phase", "engine", "quantity", "value", "ratio_to_first",
)  # fmt: skip
LayerPhase = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One trace, or the means over several of one network, and what it cost.

    numbers: compute cycles of each engine, cycles of a steady sub-batch, on-chip energy of one sample in uJ; cells:
    compute cycles by layer and phase; rates: by layer and one of RATES. samples: of all traces; hashes: of each.
    mean_count: of an input of counts. twin_of: the row (from 0) whose masks' means a synthetic twin has, or None.
    result is the (first) trace's.
    """

    label: str
    dataset: str
    timesteps: int
    samples: int
    layers: tuple[str, ...]
    masks: TraceSummary
    numbers: dict[str, float]
    cells: dict[LayerPhase, float]
    rates: dict[LayerPhase, float | None]
    hashes: tuple[str, ...]
    result: Result
    twin_of: int | None = None
    mean_count: float | None = None


def compared(label: str, trace: Trace, result: Result, twin_of: int | None = None) -> Compared:
    """Puts a trace's masks beside what `simulate` made of it; reads the masks once more, one at a time."""
    meta, activity = trace.meta, result.activity
    layers = tuple(layer.name for layer in meta.layers)
    numbers: dict[str, float] = {f"{engine}_compute_cycles": result.engine(engine).compute_cycles for engine in ENGINES}
    numbers["steady_cycles"] = activity.steady_cycles
    numbers["energy_per_sample_uj"] = result.cost.energy_j * 1e6 / activity.samples
    cells: dict[LayerPhase, float] = {(row.layer, row.phase): row.compute_cycles for row in activity.layers}
    counts = trace_counts(trace)
    rates = {(row.layer, name): getattr(row, name) for row in map(layer_summary, counts) for name in RATES}
    return Compared(
        label=label,
        dataset=meta.dataset,
        timesteps=meta.timesteps,
        samples=meta.batch,
        layers=layers,
        masks=summarise(counts),
        numbers=numbers,
        cells=cells,
        rates=rates,
        hashes=(result.workload.sha256,),
        result=result,
        twin_of=twin_of,
        mean_count=float(trace.input_counts().mean()) if trace.has("input.counts") else None,
    )


def mean_of(label: str, rows: Sequence[Compared]) -> Compared:
    """The traces of one network as one row: means of rates, cycles and energy, sums of samples.

    Raises TraceError if their layers or timesteps differ.
    """
    first = rows[0]
    for row in rows:
        if (row.layers, row.timesteps) != (first.layers, first.timesteps):
            raise TraceError(f"{label}: expected traces of one network and T; got {first.label} and {row.label}")
    silent = [row.masks.samples_without_gradient for row in rows]
    masks = TraceSummary(
        _mean([row.masks.spike_rate for row in rows]),
        _mean([row.masks.output_sparsity for row in rows]),
        _mean([row.masks.input_sparsity for row in rows]),
        None if None in silent else sum(n for n in silent if n is not None),
        _mean([row.masks.kept for row in rows]),
    )
    numbers = {name: math.fsum(row.numbers[name] for row in rows) / len(rows) for name in first.numbers}
    cells = {cell: math.fsum(row.cells[cell] for row in rows) / len(rows) for cell in first.cells}
    rates = {cell: _mean([row.rates[cell] for row in rows]) for cell in first.rates}
    hashes = tuple(sha for row in rows for sha in row.hashes)
    return replace(
        first, label=label, samples=sum(row.samples for row in rows), masks=masks, numbers=numbers, cells=cells,
        rates=rates, hashes=hashes, mean_count=_mean([row.mean_count for row in rows]),
    )  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def compare_csv(rows: Sequence[Compared]) -> str:
    """One line per number: of the trace (layer, phase empty), or compute cycles of a layer in a phase."""
    lines = []
    for row in rows:
        work = row.result.workload
        named = (row.label, work.network, row.dataset, work.source)
        lines += [(*named, *line) for line in _csv_lines(row, rows[0])]
    return to_csv(Table("", tuple(map(Column, CSV_HEAD)), tuple(lines)))


def _csv_lines(row: Compared, first: Compared) -> Iterator[list[str]]:
    """layer, phase, engine, quantity, value, ratio."""
    masks = {"timesteps": row.timesteps, "samples": row.samples, **vars(row.masks), "mean_count": row.mean_count}
    for name, value in masks.items():
        if name in OF_SOME and value is None:
            continue
        yield ["", "", "", name, "" if value is None else repr(value), ""]
    for name, number in row.numbers.items():
        engine = name.removesuffix("_compute_cycles") if name.endswith("_compute_cycles") else ""
        quantity = "compute_cycles" if engine else name
        yield ["", "", engine, quantity, repr(number), _exact(number, first.numbers[name])]
    for (layer_name, name), share in row.rates.items():
        if name in OF_SOME and share is None:
            continue
        yield [layer_name, "", "", name, "" if share is None else repr(share), ""]
    shared = row.layers == first.layers
    for layer in row.result.activity.layers:
        reference = first.cells.get((layer.layer, layer.phase)) if shared else None
        cycles = row.cells[layer.layer, layer.phase]
        ratio = _exact(cycles, reference)
        yield [layer.layer, layer.phase, layer.engine, "compute_cycles", str(cycles), ratio]


def _exact(value: float, reference: float | None) -> str:
    return repr(value / reference) if reference else ""
