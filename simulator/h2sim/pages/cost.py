"""What a step and a machine cost: the bill of every joule, and the area by component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from h2sim.document.numbers import percent, size
from h2sim.document.page import Folded, Legend, PagePart, Prose, Section
from h2sim.document.palette import MEANINGS, series
from h2sim.document.values import Bar, Cell, Column, Line, Number, Table
from h2sim.pages.view import ResultView, amount, engine_name
from h2sim.report.words import component, spoken

BY_COMPONENT = (Column("engine"), Column("by component", drop=1))


def meanings(names: list[str]) -> dict[str, str]:
    """A colour for each component: its own, or the next of the series."""
    others = [name for name in names if name not in MEANINGS]
    return {name: name if name in MEANINGS else series(others.index(name)) for name in names}


def energy_section(view: ResultView) -> Section:
    """Energy by engine and component, then the bill: count x price, and where the price is from."""
    found = view.found
    rows = [(engine, engine_.energy_j) for engine, engine_ in found.engines.items()]
    components = list(dict.fromkeys(name for _, energy in rows for name in energy))
    colours = meanings(components)
    most = max([sum(energy.values()) for _, energy in rows] + [found.step.offchip_energy_j], default=0.0)
    table = [_energy_row(engine_name(engine), energy, colours, most, found.step.energy_j) for engine, energy in rows]
    off = found.step.offchip_energy_j
    off_chip = Bar(amount(off, "J"), off, (("offchip", off),), most)
    table.append(("off chip (apart)", off_chip, Number(amount(off, "J"), off), "-"))
    columns = (
        Column("engine"),
        Column("by component", drop=1),
        Column("energy", right=True),
        Column("share", right=True),
    )
    legend = Legend(tuple((colours[name], component(name)) for name in components))
    title = f"Energy of a step: {amount(found.step.energy_j, 'J')} on chip"
    return Section("energy", "Energy", title, (Table("", columns, tuple(table)), legend, *_bill(view)))


def _energy_row(
    name: str, energy: Mapping[str, float], colours: Mapping[str, str], most: float, step_j: float
) -> tuple[Cell, ...]:
    total = sum(energy.values())
    said = ", ".join(f"{component(part)} {amount(joule, 'J')}" for part, joule in energy.items())
    bar = Bar(said, total, tuple((colours[part], joule) for part, joule in energy.items()), most)
    return name, bar, Number(amount(total, "J"), total), percent(total / step_j if step_j else None, 0)


def _bill(view: ResultView) -> Iterator[PagePart]:
    """Every line that energy_j adds up; a price's source is a number that is said below."""
    bill, total = view.found.bill, view.found.step.energy_j * 1e12
    if not bill:
        yield Line("This result holds no bill of its energy.")
        return
    sources = list(dict.fromkeys(line.source for line in bill))
    columns = (
        Column("engine"), Column("component", drop=2), Column("event"), Column("count", right=True, drop=3),
        Column("pJ each", right=True, drop=4), Column("\u00b5J", right=True), Column("share", right=True, drop=1),
        Column("source", right=True),
    )  # fmt: skip
    rows = tuple(
        (
            engine_name(line.engine), component(line.component), spoken(line.action),
            Number(f"{line.count:,}", line.count), Number(f"{line.unit_pj:.4g}", line.unit_pj),
            Number(f"{line.energy_pj * 1e-6:,.3f}", line.energy_pj), _share(line.energy_pj, total),
            f"[{sources.index(line.source) + 1}]",
        )
        for line in sorted(bill, key=lambda line: -line.energy_pj)
    )  # fmt: skip
    table = Table("Count x price of every event; the lines add up to the energy of the step", columns, rows)
    listed = [Line(f"[{number}] {source}") for number, source in enumerate(sources, 1)]
    price = view.found.offchip_pj_per_byte
    moved = sum(row.moved_bytes for row in view.rows)
    off = [Line(f"Off chip: {size(moved)} at {price:g} pJ a byte; never part of the energy on chip.")] if price else []
    yield Folded(f"The bill: {len(bill)} lines, count x price and source", (table, *off, *listed))


def area_section(view: ResultView) -> Section:
    """Area by engine and component."""
    groups = dict(_area(view.found.area_um2))
    total = view.found.total_area_um2
    components = list(dict.fromkeys(name for parts in groups.values() for name in parts))
    colours = meanings(components)
    most = max((sum(parts.values()) for parts in groups.values()), default=0.0)
    rows = [_area_row(name, parts, colours, most, total) for name, parts in groups.items()]
    columns = (
        Column("engine"),
        Column("by component", drop=1),
        Column("mm\u00b2", right=True, key="area mm2"),
        Column("share", right=True),
    )
    legend = Legend(tuple((colours[name], component(name)) for name in components))
    fine = [
        (engine_name(engine), component(part), Number(f"{um2 / 1e6:,.3f}", um2), _share(um2, total))
        for engine, parts in groups.items()
        for part, um2 in sorted(parts.items(), key=lambda item: -item[1])
    ]
    of = (
        Column("engine"),
        Column("component"),
        Column("mm\u00b2", right=True, key="area mm2"),
        Column("share", right=True),
    )
    each = Folded("Every component", (Table("", of, tuple(fine)),))
    told: tuple[PagePart, ...] = (Table("", columns, tuple(rows)), legend, each)
    if not groups:
        told = (Prose("Only the whole machine's area is known."),)
    return Section("area", "Area", f"Area: {total / 1e6:.2f} mm\u00b2", told)


def _area(areas: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Engines with their components; a rival's components stand under the machine."""
    flat = {name: float(value) for name, value in areas.items() if name != "total" and not isinstance(value, Mapping)}
    yield from ((name, parts) for name, parts in areas.items() if isinstance(parts, Mapping) and any(parts.values()))
    if flat:
        yield "machine", flat


def _area_row(
    name: str, parts: Mapping[str, float], colours: Mapping[str, str], most: float, total: float
) -> tuple[Cell, ...]:
    mine = sum(parts.values())
    said = ", ".join(f"{component(part)} {um2 / 1e6:.3f} mm\u00b2" for part, um2 in parts.items())
    bar = Bar(said, mine, tuple((colours[part], um2) for part, um2 in parts.items()), most)
    return engine_name(name), bar, Number(f"{mine / 1e6:.2f}", mine), percent(mine / total if total else None, 0)


def _share(part: float, whole: float) -> str:
    return percent(part / whole if whole else None, 1)
