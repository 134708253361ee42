"""The layers of a step: a table that all else is linked to, and all that is known of each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from h2sim.document.html import bar_html
from h2sim.document.numbers import percent, size
from h2sim.document.page import Folded, Gallery, Legend, PagePart, Pairs, Picture, Prose, Section
from h2sim.document.values import Bar, Cell, Column, Line, Number, Table
from h2sim.pages.masks import Masks
from h2sim.pages.view import SAID, ResultView, RowView, amount, engine_name
from h2sim.report.words import spoken

LAYERS = (
    Column("layer"), Column("phase"), Column("engine", drop=1), Column("start", right=True, drop=2),
    Column("cycles", right=True), Column("compute and stalls", drop=7), Column("critical", right=True, drop=6),
    Column("occupancy", right=True, drop=4), Column("off-chip kB", right=True, drop=3),
    Column("energy \u00b5J", right=True, drop=5, key="energy uJ"),
)  # fmt: skip
WITHOUT_CLOCK = (
    Column("layer"), Column("phase"), Column("engine", drop=1), Column("time \u00b5s", right=True),
    Column("off-chip kB", right=True, drop=3), Column("energy \u00b5J", right=True),
)  # fmt: skip


def layers_section(view: ResultView) -> Section:
    """One row a layer and phase; a row's bar is as long as its cycles."""
    clocked = view.cycles is not None and all(row.cycles is not None for row in view.rows)
    rows = _clocked(view) if clocked else _timed(view)
    whole = Table("", LAYERS if clocked else WITHOUT_CLOCK, tuple(rows), keys=tuple(row.key for row in view.rows))
    table = known(whole)
    head = Prose(
        "*critical*: the share of the step that the row holds up. Choose a row for its details; a column sorts."
    )
    legend = (Legend(tuple(SAID.items())),) if clocked else ()
    return Section("layers", "Layers", "Layers", (head, *legend, table))


def known(table: Table) -> Table:
    """A table without the columns of which no cell is known."""
    kept = [i for i in range(len(table.columns)) if any(_is_known(row[i]) for row in table.rows)]
    columns = tuple(table.columns[i] for i in kept)
    return replace(table, columns=columns, rows=tuple(tuple(row[i] for i in kept) for row in table.rows))


def _is_known(cell: Cell) -> bool:
    return cell != "-" if isinstance(cell, str) else cell.value is not None


def _clocked(view: ResultView) -> Iterator[tuple[Cell, ...]]:
    longest = max((row.cycles or 0 for row in view.rows), default=0)
    for each in view.rows:
        row, cycles, parts = each.row, each.cycles or 0, each.parts
        said = ", ".join(f"{SAID[part]} {n:,}" for part, n in parts.items() if n)
        critical = row.critical_cycles
        share = Number("-", None) if critical is None or not view.cycles else _share(critical / view.cycles)
        yield (
            row.layer, spoken(row.phase), engine_name(row.engine), f"{row.start_cycle:,}", f"{cycles:,}",
            Bar(said, cycles, tuple(parts.items()), longest), share, _occupancy(each), *_costs(each),
        )  # fmt: skip


def _timed(view: ResultView) -> Iterator[tuple[Cell, ...]]:
    for each in view.rows:
        row = each.row
        seconds = row.seconds
        time = Number("-" if seconds is None else f"{seconds * 1e6:,.2f}", seconds)
        yield row.layer, spoken(row.phase), engine_name(row.engine), time, *_costs(each)


def _share(share: float) -> Number:
    if not share:
        return Number("-", 0)
    return Number("<0.1%" if share < 0.0005 else f"{share:.1%}", share)


def _occupancy(each: RowView) -> Number:
    """Lane slots that did useful work; pools, which take none, have none."""
    value = each.row.occupancy
    return Number("-", None) if not value else Number(f"{value:.1%}", value)


def _costs(each: RowView) -> tuple[Cell, Cell]:
    moved, energy = each.moved_bytes, each.energy_j
    return Number(f"{moved / 1e3:,.1f}", moved), Number(f"{energy * 1e6:,.2f}", energy)


def details_section(view: ResultView, masks: Masks | None) -> Section:
    """A folded part for each row; the panel of the chosen row shows the same."""
    most = view.busiest_memory_cycles()
    folded = [Folded(each.name, tuple(_details(view, each, most, masks)), key=each.key) for each in view.rows]
    return Section("details", "Details", "Every row in full", (Prose("All figures of each layer and phase."), *folded))


def _details(
    view: ResultView, each: RowView, most: Mapping[tuple[str, str], int], masks: Masks | None
) -> Iterator[PagePart]:
    row, parts = each.row, each.parts
    if parts:
        said = ", ".join(f"{SAID[part]} {n:,}" for part, n in parts.items())
        yield Picture(bar_html(Bar(said, each.cycles, tuple(parts.items()), each.cycles or 1)))
        yield Pairs(tuple((SAID[part], f"{n:,} cycles") for part, n in parts.items()))
    yield Pairs(tuple(_facts(view, each, most)))
    energy = sorted(row.energy_pj.items(), key=lambda item: -item[1])
    yield Pairs(tuple((f"{spoken(name)} energy", _energy(pj, each.energy_j)) for name, pj in energy if pj))
    yield Pairs(tuple((spoken(name), f"{n:,} events") for name, n in row.operations.items() if n))
    yield Pairs(tuple(_buffer(name, b.read_bytes, b.write_bytes) for name, b in row.buffers.items()))
    pictures = masks.of(row.layer) if masks else ()
    if pictures:
        yield Line("masks by channel (down) and timestep (right)")
        yield Gallery((("", "", pictures),))


def _energy(pj: float, total_j: float) -> str:
    return f"{amount(pj * 1e-12, 'J')}, {percent(pj * 1e-12 / total_j if total_j else None, 0)}"


def _buffer(name: str, read: int, written: int) -> tuple[str, str]:
    return f"buffer of {spoken(name)}", f"{size(read)} read, {size(written)} written"


def _facts(view: ResultView, each: RowView, most: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, str]]:
    row, clock = each.row, view.found.step.clock_hz
    if each.cycles is not None and clock:
        yield "engine", f"{engine_name(row.engine)}, cycles {row.start_cycle:,} to {row.end_cycle:,}"
        yield "time", f"{each.cycles:,} cycles = {amount(each.cycles / clock, 's')}"
    elif row.seconds is not None:
        yield "time", amount(row.seconds, "s")
    if row.critical_cycles is not None and view.cycles:
        yield "holds up", f"{row.critical_cycles:,} cycles, {row.critical_cycles / view.cycles:.1%} of the step"
    busiest = most.get((row.layer, row.phase))
    if busiest is not None and row.compute_cycles is not None:
        longer = "transfers" if busiest > row.compute_cycles else "the array"
        yield "its longer part", f"{longer}: {busiest:,} cycles of transfers, {row.compute_cycles:,} of compute"
    yield (
        "off chip",
        f"{size(row.bytes.get('offchip_read', 0))} read, {size(row.bytes.get('offchip_write', 0))} written",
    )
    yield "energy off chip", amount(row.offchip_energy_pj * 1e-12, "J")
