"""Traces on one machine side by side: what their masks are like and what that makes of cycles and energy."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from h2sim.activity import ENGINES
from h2sim.errors import TraceError
from h2sim.report.text import TITLES, new_table, percent
from h2sim.result import Result
from h2sim.trace.read import Trace
from h2sim.trace.summary import TraceSummary, layer_summary, summarise, trace_counts

if TYPE_CHECKING:
    from rich.console import Console

RATES = ("spike_rate", "output_sparsity", "input_sparsity")
MOST_RATES = 4  # traces in one table of rates
MOST_BESIDE = 5  # traces beside the first in one table of layers: what 120 columns hold
CSV_HEAD = (
    "trace", "network", "dataset", "source", "layer", "phase", "engine", "quantity", "value", "ratio_to_first",
)  # fmt: skip
Cell = tuple[str, str]  # layer, phase


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One trace, or the means over several of one network, and what it cost.

    numbers: compute cycles of each engine, cycles of a steady sub-batch, on-chip energy of one sample in uJ; cells:
    compute cycles by layer and phase; rates: by layer and one of RATES. samples: of all traces; hashes: of each.
    twin_of: the row (from 0) whose masks' means a synthetic twin has, or None. result is the (first) trace's.
    """

    label: str
    dataset: str
    timesteps: int
    samples: int
    layers: tuple[str, ...]
    masks: TraceSummary
    numbers: dict[str, float]
    cells: dict[Cell, float]
    rates: dict[Cell, float | None]
    hashes: tuple[str, ...]
    result: Result
    twin_of: int | None = None


@dataclass(frozen=True)
class Sheet:
    """A table as text, for the terminal and for markdown: `left` columns are names, `right` ones numbers."""

    title: str
    left: list[str]
    right: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """GitHub markdown."""
        lines = [[*self.left, *self.right], [*("---" for _ in self.left), *("---:" for _ in self.right)]]
        body = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines + body)]) + "\n"


def compared(label: str, trace: Trace, result: Result, twin_of: int | None = None) -> Compared:
    """Puts a trace's masks beside what `simulate` made of it; reads the masks once more, one at a time."""
    meta, activity = trace.meta, result.activity
    layers = tuple(layer.name for layer in meta.layers)
    numbers: dict[str, float] = {f"{engine}_compute_cycles": result.engine(engine).compute_cycles for engine in ENGINES}
    numbers["steady_cycles"] = activity.steady_cycles
    numbers["energy_per_sample_uj"] = result.cost.energy_j * 1e6 / activity.samples
    cells: dict[Cell, float] = {(row.layer, row.phase): row.compute_cycles for row in activity.layers}
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
    )
    numbers = {name: math.fsum(row.numbers[name] for row in rows) / len(rows) for name in first.numbers}
    cells = {cell: math.fsum(row.cells[cell] for row in rows) / len(rows) for cell in first.cells}
    rates = {cell: _mean([row.rates[cell] for row in rows]) for cell in first.rates}
    hashes = tuple(sha for row in rows for sha in row.hashes)
    return replace(
        first, label=label, samples=sum(row.samples for row in rows), masks=masks, numbers=numbers, cells=cells,
        rates=rates, hashes=hashes,
    )  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def sheets(rows: Sequence[Compared]) -> list[Sheet]:
    """Masks, cycles and energy, twins against their originals if there are any; by layer: rates, compute cycles."""
    twins = [_twins(rows)] if any(row.twin_of is not None for row in rows) else []
    return [_masks(rows), _costs(rows), *twins, *_rates(rows), *_layers(rows)]


def compare_tables(console: Console, rows: Sequence[Compared]) -> None:
    """All sheets in the terminal."""
    from rich.text import Text

    first = rows[0].result
    console.print(f"h2sim trace compare: {first.arch.name}, energy table {first.energy_table.name}", markup=False)
    for sheet in sheets(rows):
        table = new_table(sheet.title, [], [])
        for name in sheet.left:
            table.add_column(name, overflow="fold")  # names give way, numbers do not
        for name in sheet.right:
            table.add_column(name, justify="right", no_wrap=True)
        for row in sheet.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print()
        console.print(table)
    for note in _notes(rows):
        console.print(f"note: {note}", markup=False)


def compare_markdown(rows: Sequence[Compared], command: str) -> str:
    """All sheets as GitHub markdown below the command that made them and the hashes of what it read."""
    first = rows[0].result
    read = [
        f"Arch {first.arch.name} (sha256 {first.arch_sha256[:12]}), energy table {first.energy_table.name} "
        f"(sha256 {first.energy_table.sha256[:12]}), traces:",
        "",
        *(f"{i}. {row.label} (sha256 {', '.join(sha[:12] for sha in row.hashes)})" for i, row in enumerate(rows, 1)),
    ]
    parts = [f"```sh\n{command}\n```\n", "\n".join(read) + "\n", *(sheet.markdown() for sheet in sheets(rows))]
    return "\n".join([*parts, *(f"Note: {note}\n" for note in _notes(rows))])


def compare_csv(rows: Sequence[Compared]) -> str:
    """One line per number: of the trace (layer, phase empty), or compute cycles of a layer in a phase."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for row in rows:
        work = row.result.workload
        for line in _csv_lines(row, rows[0]):
            writer.writerow([row.label, work.network, row.dataset, work.source, *line])
    return out.getvalue()


def _csv_lines(row: Compared, first: Compared) -> Iterator[list[str]]:
    """layer, phase, engine, quantity, value, ratio."""
    masks = {"timesteps": row.timesteps, "samples": row.samples, **vars(row.masks)}
    for name, value in masks.items():
        yield ["", "", "", name, "" if value is None else repr(value), ""]
    for name, number in row.numbers.items():
        engine = name.removesuffix("_compute_cycles") if name.endswith("_compute_cycles") else ""
        quantity = "compute_cycles" if engine else name
        yield ["", "", engine, quantity, repr(number), _exact(number, first.numbers[name])]
    for (layer_name, name), share in row.rates.items():
        yield [layer_name, "", "", name, "" if share is None else repr(share), ""]
    shared = row.layers == first.layers
    for layer in row.result.activity.layers:
        reference = first.cells.get((layer.layer, layer.phase)) if shared else None
        cycles = row.cells[layer.layer, layer.phase]
        ratio = _exact(cycles, reference)
        yield [layer.layer, layer.phase, layer.engine, "compute_cycles", str(cycles), ratio]


def _exact(value: float, reference: float | None) -> str:
    return repr(value / reference) if reference else ""


def _ratio(value: float | None, reference: float | None) -> str:
    return "-" if value is None or not reference else f"{value / reference:.3f}"


def _masks(rows: Sequence[Compared]) -> Sheet:
    body = []
    for number, row in enumerate(rows, 1):
        m, work = row.masks, row.result.workload
        silent = "-" if m.samples_without_gradient is None else f"{m.samples_without_gradient} of {row.samples}"
        source = "SYNTHETIC" if work.source == "synthetic" else work.source
        shares = [percent(share) for share in (m.spike_rate, m.output_sparsity, m.input_sparsity)]
        body.append(
            [str(number), row.label, work.network, row.dataset, source, str(row.timesteps), *shares, silent]
        )  # fmt: skip
    return Sheet(
        "Masks: means over all neurons",
        ["#", "trace", "network", "data set", "source"],
        ["T", "spike rate", "output sp.", "input sp.", "no gradient"],
        body,
    )


def _costs(rows: Sequence[Compared]) -> Sheet:
    columns = [name for engine in ENGINES for name in (f"{TITLES[engine]}", "x")] + ["steady", "x", "uJ/sample", "x"]
    body = []
    for number, row in enumerate(rows, 1):
        cells = []
        for name, value in row.numbers.items():
            shown = f"{value:,.2f}" if name.endswith("_uj") else f"{value:,.0f}"
            cells += [shown, _ratio(value, rows[0].numbers[name])]
        body.append([str(number), row.label, *cells])
    title = (
        "One steady sub-batch: compute cycles of the engines, period in cycles, energy on chip; x: ratio to the first"
    )
    return Sheet(title, ["#", "trace"], columns, body)


def _twins(rows: Sequence[Compared]) -> Sheet:
    body = []
    for number, row in enumerate(rows, 1):
        if row.twin_of is not None:
            original = rows[row.twin_of].numbers
            ratios = [_ratio(value, original[name]) for name, value in row.numbers.items()]
            body.append([str(number), row.label, str(row.twin_of + 1), *ratios])
    columns = [*(TITLES[engine] for engine in ENGINES), "steady", "energy"]
    return Sheet("Synthetic twins: ratio to the trace whose means they have", ["#", "trace", "twin of"], columns, body)


def _rates(rows: Sequence[Compared]) -> Iterator[Sheet]:
    """Spike rate, output and input sparsity of each layer; only traces with the first one's layers."""
    alike = [(number, row) for number, row in enumerate(rows, 1) if row.layers == rows[0].layers]
    for start in range(0, len(alike), MOST_RATES):
        some = alike[start : start + MOST_RATES]
        body = [
            [layer, *(percent(row.rates[layer, name]) for _, row in some for name in RATES)] for layer in rows[0].layers
        ]
        columns = [f"#{number} {short}" for number, _ in some for short in ("rate", "out", "in")]
        yield Sheet("Spike rate, output sparsity, input sparsity", ["layer"], columns, body)


def _layers(rows: Sequence[Compared]) -> Iterator[Sheet]:
    """The first trace beside a few others at a time; only traces with its layers."""
    first = rows[0]
    engine_of = {(row.layer, row.phase): row.engine for row in first.result.activity.layers}
    beside = [(number, row) for number, row in enumerate(rows, 1) if row is not first and row.layers == first.layers]
    for start in range(0, max(1, len(beside)), MOST_BESIDE):
        some = beside[start : start + MOST_BESIDE]
        columns = ["#1", *(name for number, _ in some for name in (f"#{number}", "x"))]
        body = []
        for cell, engine in engine_of.items():
            cycles = [(row.cells.get(cell), first.cells[cell]) for _, row in some]
            shown = [text for c, base in cycles for text in ("-" if c is None else f"{c:,.0f}", _ratio(c, base))]
            body.append([*cell, TITLES[engine], f"{first.cells[cell]:,.0f}", *shown])
        title = "Compute cycles; x: ratio to #1"
        yield Sheet(title, ["layer", "phase", "engine"], columns, body)


def _notes(rows: Sequence[Compared]) -> list[str]:
    other = [str(number) for number, row in enumerate(rows, 1) if row.layers != rows[0].layers]
    return [f"not in the table of layers, other layer names than #1: {', '.join(other)}"] if other else []
