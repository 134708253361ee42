"""Traces side by side as a document: for the terminal, and for reports in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from h2sim.activity import ENGINES
from h2sim.document import Column, Document, Line, Note, Table, percent, significant, table, table_markdown
from h2sim.io.names import in_code, in_markdown
from h2sim.report.trace_compare import Compared
from h2sim.report.words import TITLES

MOST_RATES = 4  # traces in one table of rates
MOST_BESIDE = 5  # traces beside the first in one table of layers
RATE_WORDS = {  # the short name of a rate, what explains it, and where it stands in Compared.rates
    "rate": ("spike rate", "spike_rate"),
    "out": ("output sp.", "output_sparsity"),
    "in": ("input sp.", "input_sparsity"),
    "kept": ("kept", "kept"),
}
COST_KEYS = (*(f"{TITLES[engine]}" for engine in ENGINES), "steady", "uJ/sample")
SPANS = {"steady_cycles": "cycles", "energy_per_sample_uj": "energy"}


def compare_document(rows: Sequence[Compared]) -> Document:
    """How far the others are from the first, then all tables."""
    first = rows[0].result
    setting = Line(f"machine: {first.arch.name}; energy table: {first.energy_table.name}")
    return Document(verdict(rows), (setting, *tables(rows), *map(Note, _notes(rows))))


def verdict(rows: Sequence[Compared]) -> str:
    """Cycles and energy of the first trace, and the ratios that the others' lie between."""
    first = rows[0]
    cycles, energy = first.numbers["steady_cycles"], first.numbers["energy_per_sample_uj"]
    said = (
        f"{first.label} on {first.result.arch.name}: {cycles:,.0f} cycles per sub-batch, "
        f"{significant(energy)} uJ per sample"
    )
    if len(rows) == 1:
        return f"{said}."
    others = "the other" if len(rows) == 2 else f"the {len(rows) - 1} others"
    spans = [f"{_span(rows, name)} the {what}" for name, what in SPANS.items()]
    synthetic = ", SYNTHETIC masks among them" if any(r.result.workload.source == "synthetic" for r in rows) else ""
    return f"{said}; {others}: {' and '.join(spans)}{synthetic}."


def _span(rows: Sequence[Compared], name: str) -> str:
    """'0.662x', or '0.662x to 1.09x': the others' ratios to the first."""
    base = rows[0].numbers[name]
    shown = [f"{row.numbers[name] / base:.3f}x" if base else "-" for row in rows[1:]]
    ends = dict.fromkeys((min(shown), max(shown)))
    return " to ".join(ends)


def compare_markdown(rows: Sequence[Compared], command: str) -> str:
    """All tables as GitHub markdown below the command that made them and the hashes of what it read."""
    first = rows[0].result
    read = [
        f"Arch {in_markdown(first.arch.name)} (sha256 {first.arch_sha256[:12]}), "
        f"energy table {in_markdown(first.energy_table.name)} (sha256 {first.energy_table.sha256[:12]}), traces:",
        "",
        *(
            f"{i}. {in_markdown(row.label)} (sha256 {', '.join(sha[:12] for sha in row.hashes)})"
            for i, row in enumerate(rows, 1)
        ),
    ]
    parts = [in_code(command), "\n".join(read) + "\n", *map(table_markdown, tables(rows))]
    return "\n".join([*parts, *(f"Note: {in_markdown(note)}\n" for note in _notes(rows))])


def tables(rows: Sequence[Compared]) -> list[Table]:
    """Masks, cycles and energy, twins against their originals if there are any; by layer: rates, compute cycles."""
    twins = [_twins(rows)] if any(row.twin_of is not None for row in rows) else []
    return [_masks(rows), _costs(rows), *twins, *_rates(rows), *_layers(rows)]


def _ratio(value: float | None, reference: float | None) -> str:
    return "-" if value is None or not reference else f"{value / reference:.3f}"


def _masks(rows: Sequence[Compared]) -> Table:
    """What only some networks have, kept shares and counts, has a column where any row has it."""
    some = {"kept": [percent(row.masks.kept) for row in rows], "mean count": [_mean_count(row) for row in rows]}
    some = {name: cells for name, cells in some.items() if set(cells) != {"-"}}
    body = []
    for number, row in enumerate(rows, 1):
        m, work = row.masks, row.result.workload
        silent = "-" if m.samples_without_gradient is None else f"{m.samples_without_gradient} of {row.samples}"
        source = "SYNTHETIC" if work.source == "synthetic" else work.source
        shares = [percent(share) for share in (m.spike_rate, m.output_sparsity, m.input_sparsity)]
        more = [cells[number - 1] for cells in some.values()]
        named = (str(number), row.label, work.network, row.dataset, source, str(row.timesteps))
        body.append((*named, *shares, silent, *more))
    return table(
        "Masks: means over all neurons",
        ["#", Column("trace", prose=True), "network", "data set", "source"],
        ["T", "spike rate", "output sp.", "input sp.", "no gradient", *some],
        body, drop=("T", "data set", "network", "no gradient"), elsewhere="--csv FILE",
    )  # fmt: skip


def _mean_count(row: Compared) -> str:
    return "-" if row.mean_count is None else significant(row.mean_count)


def _costs(rows: Sequence[Compared]) -> Table:
    columns = [column for key in COST_KEYS for column in (key, Column("x", right=True, alone=f"{key} x"))]
    body = []
    for number, row in enumerate(rows, 1):
        cells = []
        for name, value in row.numbers.items():
            shown = f"{value:,.2f}" if name.endswith("_uj") else f"{value:,.0f}"
            cells += [shown, _ratio(value, rows[0].numbers[name])]
        body.append((str(number), row.label, *cells))
    title = (
        "One steady sub-batch: compute cycles of the engines, period in cycles, energy on chip; x: ratio to the first"
    )
    return table(title, ["#", Column("trace", prose=True)], columns, body)


def _twins(rows: Sequence[Compared]) -> Table:
    body = []
    for number, row in enumerate(rows, 1):
        if row.twin_of is not None:
            original = rows[row.twin_of].numbers
            ratios = [_ratio(value, original[name]) for name, value in row.numbers.items()]
            body.append((str(number), row.label, str(row.twin_of + 1), *ratios))
    columns = [*(TITLES[engine] for engine in ENGINES), "steady", "energy"]
    title = "Synthetic twins: ratio to the trace whose means they have"
    return table(title, ["#", Column("trace", prose=True), "twin of"], columns, body)


def _rates(rows: Sequence[Compared]) -> Iterator[Table]:
    """Spike rate, output and input sparsity of each layer, what gates keep; only traces with the first one's layers."""
    alike = [(number, row) for number, row in enumerate(rows, 1) if row.layers == rows[0].layers]
    gates = any(row.masks.kept is not None for _, row in alike)
    words = {short: word for short, word in RATE_WORDS.items() if short != "kept" or gates}
    for start in range(0, len(alike), MOST_RATES):
        some = alike[start : start + MOST_RATES]
        body = [
            [layer, *(percent(row.rates[layer, name]) for _, row in some for _, name in words.values())]
            for layer in rows[0].layers
        ]
        columns = [
            Column(f"#{number} {short}", right=True, key=key) for number, _ in some for short, (key, _) in words.items()
        ]
        title = f"Spike rate, output sparsity, input sparsity{', kept share' if gates else ''}"
        yield table(title, ["layer"], columns, body)


def _layers(rows: Sequence[Compared]) -> Iterator[Table]:
    """The first trace beside a few others at a time; only traces with its layers."""
    first = rows[0]
    engine_of = {(row.layer, row.phase): row.engine for row in first.result.activity.layers}
    beside = [(number, row) for number, row in enumerate(rows, 1) if row is not first and row.layers == first.layers]
    for start in range(0, max(1, len(beside)), MOST_BESIDE):
        some = beside[start : start + MOST_BESIDE]
        columns = [column for number, _ in some for column in _beside(number)]
        body = []
        for cell, engine in engine_of.items():
            cycles = [(row.cells.get(cell), first.cells[cell]) for _, row in some]
            shown = [text for c, base in cycles for text in ("-" if c is None else f"{c:,.0f}", _ratio(c, base))]
            body.append((*cell, TITLES[engine], f"{first.cells[cell]:,.0f}", *shown))
        title = "Compute cycles; x: ratio to #1"
        left = [Column("layer"), Column("phase"), Column("engine", drop=1)]
        yield table(title, left, [_cycles(1), *columns], body, elsewhere="--csv FILE")


def _cycles(number: int) -> Column:
    return Column(f"#{number}", right=True, key="compute")


def _beside(number: int) -> tuple[Column, Column]:
    """Cycles of one more trace, and their ratio to the first."""
    return _cycles(number), Column("x", right=True, alone=f"#{number} x")


def _notes(rows: Sequence[Compared]) -> list[str]:
    other = [str(number) for number, row in enumerate(rows, 1) if row.layers != rows[0].layers]
    return [f"not in the table of layers, other layer names than #1: {', '.join(other)}"] if other else []
