"""The page of a sweep: every machine as a point, what each parameter does, and the best ones to run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from h2sim.document.markup import Markup, element
from h2sim.document.numbers import times
from h2sim.document.packed import deflated
from h2sim.document.page import Folded, Listing, Page, PagePart, Pairs, Picture, Prose, Section
from h2sim.document.palette import series
from h2sim.document.svg import LogAxis, axes, svg
from h2sim.document.values import Bar, Cell, Column, Document, Note, Part, Table, text_of
from h2sim.errors import H2SimError
from h2sim.io.names import in_shell
from h2sim.pages.space import Space, space_data, space_of
from h2sim.report.sweep import IMPORTANCE, share_of
from h2sim.report.sweep_point import point_yaml
from h2sim.report.sweep_words import base_name, parameter_text, result_cell, result_name, result_text, short_names
from h2sim.sweeps.frame import Row
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.store import Store
from h2sim.trace import load_trace

MOST_STILL = 600  # points of the picture that needs no script
ASIDE = "Choose a point, a line or a row: what the machine is, what it comes to, and its arch file stand here."


def sweep_page(plan: Plan, store: Store, said: Document) -> Page:
    """said: what `h2sim sweep` prints of the sweep (its verdict and tables)."""
    space = space_of(plan, store)
    spec = plan.spec
    traces = ", ".join(trace.name for trace in plan.traces)
    tables = " and ".join(spec.energy_tables)
    synthetic = any(_synthetic(trace.path) for trace in plan.traces)
    return Page(
        title=f"Sweep of {base_name(space.findings)}",
        subtitle=f"{len(space.findings.rows):,} machines on {traces}; energy table {tables}; method {spec.method}",
        verdict=said.verdict[:1].upper() + said.verdict[1:],
        badge="SYNTHETIC masks" if synthetic else "",
        sections=tuple(_sections(space, said)),
        scripts=("sweep",) if len(space.rows) > 1 else (),
        data={"sweep": deflated(json.dumps(space_data(space), separators=(",", ":"), allow_nan=False).encode())}
        if len(space.rows) > 1
        else {},
        aside=ASIDE if len(space.rows) > 1 else "",
    )


def _synthetic(path: str) -> bool:
    """Whether a trace's masks are synthetic; False where it is gone."""
    try:
        return load_trace(path).meta.source.get("kind") == "synthetic"
    except (H2SimError, OSError):
        return False


def _sections(space: Space, said: Document) -> Iterator[Section]:
    best = [part for part in said.parts if not (isinstance(part, Table) and part.title == IMPORTANCE)]
    yield Section("best", "Best", "Best machines", tuple(turned(part) for part in best))
    if len(space.rows) > 1:
        yield _points(space)
        yield Section("lines", "Lines", "Every machine as a line", (_lines_words(), _place("sweep-lines")))
    if space.findings.varied and len(space.rows) > 1:
        yield _matters(space)
    if space.front:
        yield _front(space)
    yield _origin(space)


def turned(part: Part) -> Part:
    """A table of more columns than rows as one of a row for each column; anything else as it is."""
    if not isinstance(part, Table) or len(part.columns) <= len(part.rows) + 2:
        return part
    first, *others = part.columns
    columns = (Column(first.name), *(Column(text_of(row[0]), right=True) for row in part.rows))
    rows = [(column.full_name, *(row[i] for row in part.rows)) for i, column in enumerate(others, 1)]
    return Table(part.title, columns, tuple(rows), part.foot)


def _matters(space: Space) -> Section:
    """The share of each objective's variance that each parameter explains."""
    found = space.findings.importance(space.findings.ok(space.table))
    paths = [effect.parameter for effect in found[0].effects]
    names = short_names(paths)
    shares = {path: [share_of(each, path) or 0.0 for each in found] for path in paths}
    rows: list[tuple[Cell, ...]] = [
        (names[path], *(_share_bar(share, number) for number, share in enumerate(shares[path])))
        for path in sorted(paths, key=lambda path: -max(shares[path]))
    ]
    columns = (Column("parameter"), *(Column(result_name(name)) for name in space.findings.directions))
    foot = (f"({found[0].method}; {found[0].n:,} machines)", *dict.fromkeys(w for each in found for w in each.warnings))
    head = Prose("The share of the variance among these machines that a parameter explains by itself.")
    return Section("matters", "Matters", "What each parameter matters", (head, Table("", columns, tuple(rows), foot)))


def _share_bar(share: float, number: int) -> Bar:
    return Bar(f"{share:.0%}", share, ((series(number), share),), 1.0, f"{share:.0%}")


def _lines_words() -> Prose:
    return Prose(
        "One line a machine, from its parameters to its results; the machines of the front are drawn over the others. "
        "Needs a script; the same machines stand in the tables."
    )


def _place(key: str) -> Picture:
    """Where a script draws."""
    return Picture(element("div", id=key, hidden=True))


def _points(space: Space) -> Section:
    thinned = len(space.findings.ok(space.table)) - len(space.rows)
    told: list[PagePart] = [Note(f"{thinned:,} machines that are not on the front are left out")] if thinned else []
    head = Prose(
        "Each point is a machine; the line joins those that no other beats in both axes. Keep some, choose axes."
    )
    still = Picture(_still(space, 960, 440), _still(space, 380, 360)) if len(space.results) > 1 else None
    parts = [head, *told, _place("sweep-keep"), _place("sweep-points"), *([still] if still else [])]
    return Section("points", "Points", "Every machine", tuple(parts))


def _still(space: Space, width: int, height: int) -> Markup:
    """The first two results without scripts: the front, and others spread over the rest."""
    names = space.results[:2]
    on_front = {row.id for row in space.front}
    others = [row for row in space.rows if row.id not in on_front]
    shown = others[:: max(1, len(others) // MOST_STILL)]
    every = [_place_of(row, names) for row in (*shown, *space.front)]
    across = LogAxis.of([x for x, _ in every], 64, width - 12)
    up = LogAxis.of([y for _, y in every], height - 40, 12)
    marks = "".join(f"M{across.at(x):.0f} {up.at(y):.0f}h.01" for x, y in every[: len(shown)])
    dots = element("path", d=marks, class_="l-wait", stroke_width=4, stroke_linecap="round")
    front = [_dot(row, names, across, up) for row in space.front]
    words = (result_name(names[0]), result_name(names[1]))
    label = f"{words[1]} against {words[0]}; the tables have the numbers"
    return svg(width, height, label, *axes(across, up, height, words), dots, *front, interactive=True)


def _place_of(row: Row, names: Sequence[str]) -> tuple[float, float]:
    return float(row.value(names[0])), float(row.value(names[1]))


def _dot(row: Row, names: Sequence[str], across: LogAxis, up: LogAxis) -> Markup:
    x, y = _place_of(row, names)
    said = element("title", f"{row.id}: {result_text(names[0], x)}, {result_text(names[1], y)}")
    circle = element("circle", said, cx=across.at(x), cy=up.at(y), r=5, class_="dot f-s0")
    return element("a", circle, href=f"#m-{row.id}")


def _front(space: Space) -> Section:
    """A row a machine of the front, and what it takes to run it."""
    varied = space.findings.varied
    names = short_names(varied)
    named = [Column(names[path], right=True, drop=len(varied) - n, alone=path) for n, path in enumerate(varied)]
    columns = [Column("machine"), *named]
    columns += [
        Column(result_name(n), right=True, drop=len(varied) + 1 if i > 2 else 0) for i, n in enumerate(space.results)
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            row.id,
            *(parameter_text(space.parameter(row, path)) for path in varied),
            *(result_cell(name, row.value(name)) for name in space.results),
        )
        for row in space.front
    ]
    table = Table("", tuple(columns), tuple(rows), keys=tuple(f"m-{row.id}" for row in space.front))
    count = f"{len(space.front)} machine{'s' * (len(space.front) > 1)}"
    directions = ", ".join(f"{d} {name}" for name, d in space.findings.directions.items())
    head = Prose(f"{count} that no other beats: {directions}. Each row's details have the commands that run it.")
    numbered = enumerate(space.front)
    details = [Folded(row.id, tuple(_machine(space, row, n == 0)), key=f"m-{row.id}") for n, row in numbered]
    return Section("front", "Front", "The front", (head, table, *details))


def _machine(space: Space, row: Row, first: bool) -> Iterator[PagePart]:
    """What a machine is and comes to; the arch file of the first one stands here for readers without scripts."""
    told = []
    for name in space.results:
        gain = space.findings.gain(row, name, space.table)
        beside = f", {times(gain)} as good as {base_name(space.findings)}" if gain else ""
        told.append((result_name(name), f"{result_text(name, row.value(name))}{beside}"))
    yield Pairs(tuple(told))
    yield Pairs(tuple((path, parameter_text(space.parameter(row, path))) for path in space.findings.varied))
    show = f"h2sim sweep show {in_shell(str(space.store.folder))} {row.id} > better.yaml"
    yield Listing(f"{show}\nh2sim run better.yaml {space.trace}")
    if first:
        text = point_yaml(space.findings.plan, space.store, row.id)
        yield Folded("arch file", (Listing(text, "better.yaml"),))


def _origin(space: Space) -> Section:
    spec = space.findings.plan.spec
    told = [
        ("machine", f"{base_name(space.findings)}, sha256 {space.findings.plan.machines.base_sha256}"),
        *((f"trace {trace.name}", f"sha256 {trace.sha256}") for trace in space.findings.plan.traces),
        *((f"energy table {table.name}", f"sha256 {table.sha256}") for table in space.findings.plan.machines.tables),
        ("constraints", " and ".join(spec.constraints) or "none"),
        ("objectives", ", ".join(f"{d} {name}" for name, d in spec.objectives.items())),
    ]
    return Section("origin", "Origin", "Where this comes from", (Pairs(tuple(told), code=True),))
