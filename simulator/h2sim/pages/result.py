"""The page of one result, H2Learn's or a rival's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h2sim.document.numbers import percent, significant, times
from h2sim.document.page import Page, Prose, Section, Tile
from h2sim.document.values import Line, Note
from h2sim.pages.balance import balance_section
from h2sim.pages.bound import bound_section
from h2sim.pages.cost import area_section, energy_section
from h2sim.pages.machine import machine_section
from h2sim.pages.masks import Masks, mask_pictures, masks_section
from h2sim.pages.origin import origin_section
from h2sim.pages.rows import details_section, layers_section
from h2sim.pages.timeline import timeline_data, timeline_section
from h2sim.pages.view import ResultView, amount
from h2sim.report.bounds import bound_sentence

if TYPE_CHECKING:
    from h2sim.memory.books import Books
    from h2sim.trace import Trace

ASIDE = "Choose a row of a table, a point of a picture or a slice of the timeline: all that is known of it stands here."


@dataclass(frozen=True)
class AtHand:
    """What a run has and a stored result has not: every interval, and the trace with its masks."""

    books: Books | None = None
    trace: Trace | None = None


def result_page(document: Mapping[str, Any], at_hand: AtHand | None = None, where: str = "result") -> Page:
    """A page of a result document (`run --json`); what the document lacks comes from `at_hand`, or is left out.

    Raises ComparisonError for a document that is no result.
    """
    view, at_hand = ResultView.of(document, where), at_hand or AtHand()
    workload, arch = view.found.workload, view.found.arch
    masks = mask_pictures(at_hand.trace) if at_hand.trace else None
    return Page(
        title=f"{workload.network} on {arch.name}",
        subtitle=_setting(view, at_hand.trace),
        verdict=verdict(view),
        badge="SYNTHETIC masks" if workload.source == "synthetic" else "",
        tiles=tuple(_tiles(view)),
        sections=tuple(_sections(view, at_hand, masks)),
        scripts=("timeline",) if at_hand.books else (),
        data=timeline_data(view, at_hand.books) if at_hand.books else {},
        aside=ASIDE,
        warnings=view.found.warnings,
    )


def _sections(view: ResultView, at_hand: AtHand, masks: Masks | None) -> Iterator[Section]:
    """Those that have something to show."""
    if view.found.step.bounds or view.cycles:
        yield bound_section(view)
    yield layers_section(view)
    if view.cycles:
        yield timeline_section(view, at_hand.books)
        yield from balance_section(view)
    yield energy_section(view)
    yield area_section(view)
    if masks and at_hand.trace:
        yield masks_section(at_hand.trace, masks, {row.row.layer: row.key for row in reversed(view.rows)})
    yield from _told(view)
    yield machine_section(view)
    yield details_section(view, masks)
    yield origin_section(view, at_hand.trace)


def verdict(view: ResultView) -> str:
    """Time, throughput, energy and area of a step, and what holds it up, in two sentences."""
    step, found = view.found.step, view.found
    of = f"A step of {step.samples:,} sample{'s' * (step.samples > 1)}"
    time, energy = amount(view.seconds, "s", 3), amount(step.energy_j, "J", 3)
    rate = f"{significant(step.samples / view.seconds)} samples/s" if view.seconds else "no time"
    area = f"{significant(found.total_area_um2 / 1e6)} mm\u00b2"
    said = f"{of} takes {time} ({rate}) and {energy} on chip, on {area}."
    if not step.bounds:
        return said
    return f"{said} {bound_sentence(step.bounds, step.ideal_memory_cycles)}"


def _setting(view: ResultView, trace: Trace | None) -> str:
    found = view.found
    ideal = ", memory that takes no time" if found.options.get("ideal_memory") else ""
    mode = f", Backward Engine {found.options['mode']}" if found.options.get("mode") else ""
    data = [found.workload.dataset] if found.workload.dataset not in ("", "none") else []
    told = [*data, *([f"T = {trace.meta.timesteps}"] if trace else []), f"{found.step.samples} samples"]
    return f"{', '.join(told)}{mode}{ideal}, prices {found.energy_table.name}"


def _tiles(view: ResultView) -> Iterator[Tile]:
    step, found, seconds = view.found.step, view.found, view.seconds
    clock = f"{step.clock_hz / 1e6:g} MHz" if step.clock_hz else ""
    cycles = f"{view.cycles:,} cycles at {clock}" if view.cycles is not None else "a machine without a clock"
    yield Tile("steady step", amount(seconds, "s"), cycles)
    yield Tile("throughput", f"{step.samples / seconds:,.0f}" if seconds else "-", "samples a second")
    off = amount(step.offchip_energy_j / step.samples, "J")
    yield Tile("energy of a sample", amount(step.energy_j / step.samples, "J"), f"on chip; {off} off chip")
    leak = 1e-12 * sum(line.energy_pj for line in found.bill if line.component == "leakage")
    share = f"{percent(leak / step.energy_j, 0)} of it leakage" if leak and step.energy_j else "on chip"
    yield Tile("average power", f"{significant(step.energy_j / seconds)} W" if seconds else "-", share)
    node = f"{found.energy_table.node_nm:g} nm" if found.energy_table.node_nm else ""
    yield Tile("area", f"{found.total_area_um2 / 1e6:.2f} mm\u00b2", node)
    if step.ideal_memory_cycles and view.cycles:
        ideal = f"{step.ideal_memory_cycles:,} cycles"
        yield Tile("if memory took no time", f"{times(view.cycles / step.ideal_memory_cycles)} faster", ideal)
    if step.batch and step.clock_hz:
        samples = step.batch.sub_batches * step.samples
        words = f"{samples:,} samples and the weight update"
        yield Tile("batch group", amount(step.batch.cycles / step.clock_hz, "s"), words)


def _told(view: ResultView) -> Iterator[Section]:
    """What a reader must know: warnings, the rules of operands that were used, what was left out."""
    found = view.found
    warnings = [Note(text, "warning") for text in found.warnings]
    notes = [Line(text) for text in found.notes]
    left = [Line(f"{layer} is left out: {reason}") for layer, reason in found.left_out.items()]
    if warnings or notes or left:
        head = Prose("What was taken for granted in this run, each rule with what it costs where that is known.")
        yield Section("notes", "Notes", "To know before quoting", (*warnings, head, *notes, *left))
