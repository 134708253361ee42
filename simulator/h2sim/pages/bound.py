"""What holds a step up: the critical path, and how busy each engine and memory is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from h2sim.document.html import bar_html
from h2sim.document.numbers import percent
from h2sim.document.page import Legend, PagePart, Picture, Prose, Section
from h2sim.document.values import Bar, Cell, Column, Table
from h2sim.pages.view import PARTS, SAID, ResultView, engine_name
from h2sim.report.bounds import NAMES, BoundLike, by_resource

MEANING = {"compute": "compute", "fill": "fill", "read": "read", "write": "write"}


def bound_section(view: ResultView) -> Section:
    """The critical path as one bar, then the engines and memories over the step."""
    parts: list[PagePart] = [*_path(view), *_busy(view)]
    title = "What holds the step up" if view.found.step.bounds else "How busy the machine is"
    return Section("bound", "Bound", title, tuple(parts))


def _path(view: ResultView) -> Iterator[PagePart]:
    bounds = view.found.step.bounds
    total = sum(part.cycles for part in bounds)
    if not total:
        return
    yield Prose(
        f"Walked back from the last cycle, each of the {total:,} cycles is given to the one engine or memory that "
        "everything then waited for. The shares add up to the step exactly."
    )
    yield path_bar(bounds)
    columns = (
        Column("part", key="resource"), Column("does", key="cause"), Column("share of the step", drop=1),
        Column("cycles", right=True), Column("share", right=True),
    )  # fmt: skip
    yield Table("Critical path", columns, tuple(_part(part, total) for part in _ranked(bounds)))


def path_bar(bounds: Sequence[BoundLike]) -> Picture:
    """The critical path as one bar: the resources by their cycles, and within each what it does."""
    ranked, total = _ranked(bounds), sum(part.cycles for part in bounds)
    said = "; ".join(f"{_name(part.resource)} {part.cause} {part.cycles / total:.1%}" for part in ranked)
    return Picture(bar_html(Bar(said, total, tuple((MEANING[part.cause], part.cycles) for part in ranked), total)))


def _ranked(bounds: Sequence[BoundLike]) -> list[BoundLike]:
    order = [resource for resource, _ in by_resource(bounds)]
    return sorted(bounds, key=lambda part: (order.index(part.resource), -part.cycles))


def _part(part: BoundLike, total: int) -> tuple[Cell, ...]:
    bar = Bar(f"{part.cause}: {part.cycles:,} cycles", part.cycles, ((MEANING[part.cause], part.cycles),), total)
    return _name(part.resource), part.cause, bar, f"{part.cycles:,}", f"{part.cycles / total:.1%}"


def _name(resource: str) -> str:
    name = NAMES.get(resource, resource)
    return name.removeprefix("the ")


def _busy(view: ResultView) -> Iterator[PagePart]:
    step = view.cycles or 0
    rows = [*_engines(view, step), *_memories(view, step)]
    if not rows or not step:
        return
    columns = (
        Column("part"),
        Column("of the step", drop=1),
        Column("busy cycles", right=True, key="busy"),
        Column("at work", right=True, key="utilisation"),
    )
    yield Table("Engines and memories over a steady step", columns, tuple(rows))
    yield Legend((*SAID.items(), ("offchip", "transfers of a memory")))


def _engines(view: ResultView, step: int) -> Iterator[tuple[Cell, ...]]:
    for engine in view.engines:
        mine = [row.parts for row in view.rows if row.row.engine == engine]
        parts = tuple((part, float(sum(each.get(part, 0) for each in mine))) for part in PARTS)
        busy, computed = sum(amount for _, amount in parts), parts[0][1]
        said = ", ".join(f"{SAID[part]} {amount:,.0f}" for part, amount in parts)
        share = percent(computed / step if step else None, 0)
        yield engine_name(engine), Bar(said, busy, parts, max(step, busy)), f"{busy:,.0f}", share


def _memories(view: ResultView, step: int) -> Iterator[tuple[Cell, ...]]:
    sums: dict[str, int] = {}
    for one in view.found.memories:
        sums[one.memory] = sums.get(one.memory, 0) + one.busy_cycles
    for memory, busy in sorted(sums.items()):
        said = f"transfers: {busy:,} cycles"
        yield (
            memory,
            Bar(said, busy, (("offchip", busy),), max(step, busy)),
            f"{busy:,}",
            percent(busy / step if step else None, 0),
        )
