"""The page of a comparison: what differs in the machines, then what that does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from h2sim.compare.measurement import Measurement
from h2sim.compare.ratios import Comparison, Ratio
from h2sim.document.numbers import times
from h2sim.document.page import Legend, Page, PagePart, Pairs, Prose, Section, Tile
from h2sim.document.palette import series
from h2sim.document.values import Bar, Cell, Column, Line, Note, Number, Part, Table
from h2sim.pages.bound import path_bar
from h2sim.pages.view import SAID, ResultView, RowView, amount
from h2sim.report.bounds import bound_sentence
from h2sim.report.compare import sizes, unmatched, verdict
from h2sim.report.words import spoken

Named = tuple[str, ResultView]  # a result and the name that it has on the page


def compare_page(found: Sequence[Comparison], results: Sequence[Named], differences: Sequence[Part]) -> Page:
    """found: the first system against each other. results: the stored results among them, the first one first.

    differences: tables of parameters in which machines of one name differ.
    """
    said, found = verdict(found), told_apart(found, [name for name, _ in results])
    ours = found[0].ours
    synthetic = any(view.found.workload.source == "synthetic" for _, view in results)
    return Page(
        title=f"{ours.system} on {ours.network}, compared",
        subtitle=f"against {', '.join(c.theirs.system for c in found)}; all per sample; above 1x is in favour of "
        f"{ours.system}",
        verdict=said,
        badge="SYNTHETIC masks" if synthetic else "",
        tiles=tuple(tile for c in found[:3] for tile in _tiles(c)),
        sections=tuple(_sections(found, results, differences)),
    )


def told_apart(found: Sequence[Comparison], names: Sequence[str]) -> list[Comparison]:
    """Systems of one name with the name of their result behind it: `h2learn (fast.json)`. names: of the results."""
    systems = [found[0].ours, *(c.theirs for c in found)]
    every = [system.system for system in systems]
    for number, name in enumerate(names):
        if every.count(every[number]) > 1:
            systems[number] = replace(systems[number], system=f"{every[number]} ({name})")
    ours, *others = systems
    return [replace(c, ours=ours, theirs=theirs) for c, theirs in zip(found, others, strict=True)]


def _tiles(c: Comparison) -> Iterator[Tile]:
    ratio = c.step or next(iter(c.phases), None)
    against = f"over {c.theirs.system}"
    if ratio and ratio.speedup is not None:
        yield Tile("speedup", times(ratio.speedup), against)
    if ratio and ratio.energy_saving is not None:
        yield Tile("energy saving", times(ratio.energy_saving), against)
    if c.area_saving is not None:
        yield Tile("area saving", times(c.area_saving), against)


def _sections(found: Sequence[Comparison], results: Sequence[Named], differences: Sequence[Part]) -> Iterator[Section]:
    warnings = tuple(Note(f"{name}: {text}", "warning") for name, view in results for text in view.found.warnings)
    if warnings:
        yield Section("warnings", "Warnings", "To know before quoting", warnings)
    if differences:
        yield Section("machines", "Machines", "What differs in the machines", tuple(differences))
    yield Section("systems", "Systems", "Time, energy and area", tuple(_systems(found)))
    bounds = [part for name, view in results for part in _bounds(name, view)]
    if bounds:
        yield Section("bound", "Bound", "What holds each step up", (*bounds, *_path_legend()))
    for number, other in enumerate(results[1:], 1):
        yield from _cycles(results[0], other, number)
    for number, c in enumerate(found):
        if c.layers:
            yield _layers(c, number)
    yield Section("assumed", "Assumed", "What the figures rest on", tuple(_assumed(found)))
    if results:
        yield Section("origin", "Origin", "Where this comes from", tuple(_origin(results)))


def _systems(found: Sequence[Comparison]) -> Iterator[PagePart]:
    systems = [found[0].ours, *(c.theirs for c in found)]
    ratios: list[Comparison | None] = [None, *found]
    quantities = (
        ("Time of a sample", [s.seconds_per_sample for s in systems], "s", [_of(c, "speedup") for c in ratios]),
        (
            "Energy of a sample",
            [s.energy_j_per_sample for s in systems],
            "J",
            [_of(c, "energy_saving") for c in ratios],
        ),
        ("Area", [s.area_mm2 for s in systems], "mm\u00b2", [c.area_saving if c else None for c in ratios]),
    )
    for title, values, unit, gains in quantities:
        most = max((value for value in values if value is not None), default=0.0)
        rows = [
            _system(number, system, value, unit, most, gain)
            for number, (system, value, gain) in enumerate(zip(systems, values, gains, strict=True))
        ]
        columns = (
            Column("system"), Column("kind", drop=1), Column("compared", drop=2), Column(title.lower(), right=True),
            Column("in our favour", right=True),
        )  # fmt: skip
        if most:
            yield Table(title, columns, tuple(rows))
    yield from sizes(systems)
    nodes = sorted({system.node_nm for system in systems if system.node_nm is not None})
    if len(nodes) > 1:
        yield Note(
            f"nodes of {' and '.join(f'{n:g}' for n in nodes)} nm: energies and areas stand as they are, not scaled"
        )


def _of(c: Comparison | None, name: str) -> float | None:
    """A ratio of the whole step."""
    return getattr(c.step, name) if c and c.step else None


def _system(
    number: int, system: Measurement, value: float | None, unit: str, most: float, gain: float | None
) -> tuple[Cell, ...]:
    if value is None:
        return system.system, system.kind, "not known", Number("-", None), "-"
    shown = f"{value:,.2f} {unit}" if unit.startswith("mm") else amount(value, unit)
    bar = Bar(f"{system.system}: {shown}", value, ((series(number), value),), most)
    return system.system, system.kind, bar, Number(shown, value), times(gain) if gain is not None else "-"


def _bounds(name: str, view: ResultView) -> Iterator[PagePart]:
    step = view.found.step
    if step.bounds:
        yield Line(f"{name}: {bound_sentence(step.bounds, step.ideal_memory_cycles)}")
        yield path_bar(step.bounds)


def _path_legend() -> Iterator[PagePart]:
    yield Legend(
        (("compute", "compute"), ("fill", "fill"), ("read", "transfers: reads"), ("write", "transfers: writes"))
    )


def _cycles(ours: Named, theirs: Named, number: int) -> Iterator[Section]:
    """Both machines' cycles of every row that both have, by what they are; nothing where one has no clock."""
    other = {(each.row.layer, each.row.phase): each for each in theirs[1].rows}
    keyed = [(each, other.get((each.row.layer, each.row.phase))) for each in ours[1].rows]
    pairs = [(a, b) for a, b in keyed if b is not None and a.parts and b.parts]
    if not pairs:
        return
    most = max(row.cycles or 0 for pair in pairs for row in pair) or 1
    rows = []
    for a, b in pairs:
        change = f"{(b.cycles or 0) - (a.cycles or 0):+,}"
        mine, theirs_ = _bar(a, most), _bar(b, most)
        rows.append((a.row.layer, spoken(a.row.phase), mine, f"{a.cycles:,}", theirs_, f"{b.cycles:,}", change))
    columns = (
        Column("layer"), Column("phase"), Column(ours[0], drop=2), Column("cycles", right=True),
        Column(theirs[0], drop=1), Column("theirs", right=True), Column("more", right=True),
    )  # fmt: skip
    head = Prose("Cycles that each row holds its engine, by what they are; both machines on one scale.")
    title = f"Where the cycles go: {ours[0]} and {theirs[0]}"
    table = Table("", columns, tuple(rows))
    yield Section(f"cycles-{number}", f"Cycles {number}", title, (head, Legend(tuple(SAID.items())), table))


def _bar(each: RowView, most: int) -> Bar:
    said = ", ".join(f"{SAID[part]} {n:,}" for part, n in each.parts.items() if n)
    return Bar(said, each.cycles, tuple(each.parts.items()), most)


def _layers(c: Comparison, number: int) -> Section:
    """Every layer and phase that both have, time and energy beside each other."""
    ratios = [*c.layers, *c.phases]
    slowest = max((s for r in c.layers for s in (r.ours_seconds, r.theirs_seconds) if s is not None), default=0.0)
    columns = (
        Column("layer"), Column("phase"), Column("our time", right=True, drop=3),
        Column("their time", right=True, drop=4), Column("ours, theirs", drop=5), Column("speedup", right=True),
        Column("our energy", right=True, drop=1), Column("their energy", right=True, drop=2),
        Column("energy saving", right=True),
    )  # fmt: skip
    rows = tuple(_ratio(r, slowest if r.layer else None) for r in ratios)
    legend = Legend((("s0", c.ours.system), ("s1", c.theirs.system)))
    head = Prose("The bar lays the shorter time over the longer one's remainder, all rows on one scale.")
    basis = f" ({c.theirs.basis})" if c.theirs.basis else ""
    title = f"{c.theirs.system} over {c.ours.system}, layer by layer{basis}"
    told = tuple(Note(line) for line in unmatched(c))
    return Section(f"layers-{number}", c.theirs.system[:24], title, (head, legend, Table("", columns, rows), *told))


def _ratio(r: Ratio, slowest: float | None) -> tuple[Cell, ...]:
    """slowest: the longest time of all rows, None where a row is of several layers and has no bar."""
    ours, theirs = r.ours_seconds, r.theirs_seconds
    bar: Cell = "-"
    if ours is not None and theirs is not None and slowest:
        both = sorted(((ours, "s0"), (theirs, "s1")))
        parts = ((both[0][1], both[0][0]), (both[1][1], both[1][0] - both[0][0]))
        bar = Bar(f"ours {amount(ours, 's')}, theirs {amount(theirs, 's')}", max(ours, theirs), parts, slowest)
    return (
        r.layer or "all shared", spoken(str(r.phase)), Number(amount(ours, "s"), ours),
        Number(amount(theirs, "s"), theirs), bar, Number(times(r.speedup), r.speedup),
        Number(amount(r.ours_energy_j, "J"), r.ours_energy_j),
        Number(amount(r.theirs_energy_j, "J"), r.theirs_energy_j), Number(times(r.energy_saving), r.energy_saving),
    )  # fmt: skip


def _assumed(found: Sequence[Comparison]) -> Iterator[PagePart]:
    for system in (found[0].ours, *(c.theirs for c in found)):
        lines = [*system.assumptions, *(f"left out: {layer}" for layer in system.left_out)]
        told = lines or ["nothing beyond its own page"]
        yield Pairs(tuple((system.system if n == 0 else "", line) for n, line in enumerate(dict.fromkeys(told))))


def _origin(results: Sequence[Named]) -> Iterator[PagePart]:
    for name, view in results:
        found = view.found
        yield Pairs(
            (
                (name, found.provenance.get("command") or "command not said"),
                ("machine", f"{found.arch.name}, sha256 {found.arch.sha256}"),
                ("trace", f"sha256 {found.workload.sha256}"),
                ("energy table", f"{found.energy_table.name}, sha256 {found.energy_table.sha256}"),
            ),
            code=True,
        )
