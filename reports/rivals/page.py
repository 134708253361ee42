"""The page on rivals as values: tables, pictures and sentences of a Study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from runs import OURS, Ran, Step, Study, machines

from h2sim.compare.measurement import Measurement
from h2sim.compare.ratios import Comparison, Ratio
from h2sim.document import Cell, Column, Line, Number, Table, amount, counted, significant, table, times
from h2sim.document.markup import Markup, element
from h2sim.document.page import Legend, Page, PagePart, Picture, Prose, Section
from h2sim.document.svg import LogAxis, short, svg
from h2sim.report.compare import sizes
from h2sim.rivals.registry import MODULES

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "simulator"
CSV_COLUMNS = (
    "trace", "step", "memory", "machine", "layers", "seconds", "energy_j", "area_mm2", "ours_seconds", "ours_energy_j",
    "speedup", "energy_saving", "area_time_ratio",
)  # fmt: skip


def page_of(found: Study) -> Page:
    """The whole page."""
    return Page(
        title="H2Learn and its rivals",
        subtitle="every machine on the same spikes and gradients of real training, through the same memories and "
        "prices; all per sample; above 1x is in favour of h2learn",
        verdict=verdict(found),
        sections=tuple(_sections(found)),
    )


def _sections(found: Study) -> Iterator[Section]:
    yield Section("overview", "Overview", "How much faster, for how much less energy", tuple(_overview(found)))
    yield Section("training", "Training", "A training step", tuple(_steps(found, "training")))
    yield Section("inference", "Inference", "The forward pass alone", tuple(_steps(found, "inference")))
    yield Section("sizes", "Sizes", "What each machine brings to it", tuple(_sizes(found)))
    yield Section("published", "Published", "Published power beside what is built up", tuple(_published(found)))
    yield Section("sparsity", "Sparsity", "What sparsity buys", tuple(_sparsity(found)))
    yield Section("readings", "Readings", "What the sources leave open", tuple(_readings(found)))
    yield Section("not-run", "Not run", "What a machine cannot run", tuple(_not_run(found)))
    yield Section("assumed", "Assumed", "What the figures rest on", tuple(_assumed(found)))
    yield Section("twins", "Twins", "How the counts are proven", tuple(_twins()))


# --- ratios ----------------------------------------------------------------------------------------------------------


def ratio_of(c: Comparison) -> Ratio:
    """Of the whole step, or of the layers that both have in the first phase that both have."""
    return c.step or c.phases[0]


def area_time(c: Comparison) -> float | None:
    """Area x time of theirs over ours."""
    ratio = ratio_of(c)
    return None if c.area_saving is None or ratio.speedup is None else c.area_saving * ratio.speedup


def rows_of(step: Step, kind: str) -> list[tuple[Ran, Comparison]]:
    """The rivals that run all phases of a step, each against ours."""
    return [(ran, c) for ran, c in step.comparisons() if kind == "inference" or ran.trains]


def csv_rows(found: Study) -> Iterator[tuple[object, ...]]:
    """A row for every trace, step, memory and machine."""
    for kind in ("training", "inference"):
        for (trace, memory), step in getattr(found, kind).items():
            for ran, c in rows_of(step, kind):
                r = ratio_of(c)
                yield (
                    trace, kind, memory, ran.name, len({ratio.layer for ratio in c.layers}), r.theirs_seconds,
                    r.theirs_energy_j, c.theirs.area_mm2, r.ours_seconds, r.ours_energy_j, r.speedup, r.energy_saving,
                    area_time(c),
                )  # fmt: skip


def _over_traces(found: Study, kind: str, what: str) -> dict[str, list[float]]:
    """A ratio of every machine, with its own memory, one for each trace."""
    gathered: dict[str, list[float]] = {}
    for (_, memory), step in getattr(found, kind).items():
        for ran, c in rows_of(step, kind):
            value = area_time(c) if what == "area_time" else getattr(ratio_of(c), what)
            if memory == "own" and value is not None:
                gathered.setdefault(ran.name, []).append(value)
    return gathered


# --- sentences -------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """'2.4x to 3.9x'."""
    low, high = times(min(values)), times(max(values))
    return low if low == high else f"{low} to {high}"


def verdict(found: Study) -> str:
    """Who is how much faster, and who takes less silicon for it."""
    trains, saves = (_over_traces(found, "training", what) for what in ("speedup", "energy_saving"))
    infers, bought = (_over_traces(found, "inference", what) for what in ("speedup", "area_time"))
    lean = [name for name, values in bought.items() if max(values) < 1]
    step = found.training[found.traces[0], "own"]
    basis = {ran.name: f"; {ran.result.basis}" if ran.result.basis else "" for ran in step.rivals}
    clauses = [
        f"{spread(trains[name])} as fast as {name} ({spread(saves[name])} less energy{basis[name]})" for name in trains
    ]
    every = [value for values in infers.values() for value in values]
    told = f"{', '.join(lean)} take{'s' * (len(lean) == 1)} less on every trace" if lean else "no other takes less"
    return (
        f"On {counted(len(found.traces), 'shipped trace')} of real training, h2learn trains {', '.join(clauses)}; "
        f"in inference, where two of its engines have nothing to do, it is {spread(every)} as fast as "
        f"{counted(len(infers), 'rival')}, yet of area x time {told}."
    )


def _overview(found: Study) -> Iterator[PagePart]:
    yield Prose(
        "Each line is a machine with its own memory; a dot is a trace. Right of 1 h2learn is faster, or takes less "
        "energy. Area x time sets a machine's speed against its size."
    )
    names = (("speedup", "time"), ("energy_saving", "energy"), ("area_time", "area x time"))
    yield Legend((("s0", "time"), ("s1", "energy"), ("s2", "area x time")))
    for kind in ("training", "inference"):
        gathered = [(said, _over_traces(found, kind, what)) for what, said in names]
        yield Picture(_dots(kind, gathered, 900), _dots(kind, gathered, 380))


def _dots(kind: str, gathered: Sequence[tuple[str, dict[str, list[float]]]], width: int) -> Markup:
    """Machines one below the other, ratios on one logarithmic axis."""
    machines_ = list(gathered[0][1])
    axis = LogAxis.of([1.0, *(v for _, each in gathered for values in each.values() for v in values)], 130, width - 20)
    step, height = 30, 30 * len(machines_) + 46
    parts = [element("text", kind, x=4, y=14, class_="q")]
    for tick in (*axis.ticks(), 1.0):
        parts.append(element("line", x1=axis.at(tick), x2=axis.at(tick), y1=20, y2=height - 22, class_="grid"))
        parts.append(element("text", short(tick), x=axis.at(tick), y=height - 8, text_anchor="middle", class_="q"))
    for row, name in enumerate(machines_):
        y = 36 + step * row
        parts.append(element("text", name, x=122, y=y + 4, text_anchor="end"))
        for number, (said, each) in enumerate(gathered):
            for value in each.get(name, ()):
                title = element("title", f"{name}, {kind}: {said} {times(value)}")
                at = {"cx": axis.at(value), "cy": y - 6 + 6 * number, "r": 4}
                parts.append(element("circle", title, class_=f"dot f-s{number}", **at))
    return svg(width, height, f"{kind}: ratios of every machine over h2learn; the tables have the numbers", *parts)


# --- tables ----------------------------------------------------------------------------------------------------------


def _steps(found: Study, kind: str) -> Iterator[PagePart]:
    if kind == "inference":
        ours = next(iter(found.inference.values())).ours
        area = ours.result.to_dict()["area_um2"]
        idle = 1e-6 * sum(v for engine in ("backward", "weight_update") for v in area[engine].values())
        yield Line(
            "The same spikes without the gradients. Ratios are of the layers that both machines have; a machine "
            f"without multipliers cannot run an analog first layer. {idle:.1f} mm2 are its other two engines, "
            "which leak and do nothing in an inference. Areas are of units and macros that a source prices: what "
            "finds, packs, sorts and controls is in none of them."
        )
    else:
        yield Line(
            "All three phases of a batch, per sample. Of the rivals these train; the others are in the next section."
        )
    for trace in found.traces:
        own, same = (getattr(found, kind)[trace, memory] for memory in ("own", "same"))
        yield _step(own, same, kind, f"{trace}: {kind}")


def _step(own: Step, same: Step, kind: str, title: str) -> Table:
    """Ours, every rival with its own memory, and those of another bandwidth than ours with ours."""
    ours = own.ours.measured
    wide = ours.bandwidth_bytes_per_s
    rows: list[tuple[Cell, ...]] = [
        (OURS, "-", _bandwidth(ours), *_own(ours.seconds_per_sample, ours.energy_j_per_sample, ours), "-", "-", "-")
    ]
    for pair in zip(rows_of(own, kind), rows_of(same, kind), strict=True):
        other = pair[0][1].theirs.bandwidth_bytes_per_s not in (None, wide)
        for ran, c in pair if other else pair[:1]:
            r = ratio_of(c)
            layers = str(len({ratio.layer for ratio in c.layers}))
            gains = (_times(r.speedup), _times(r.energy_saving), _times(area_time(c)))
            each = _own(r.theirs_seconds, r.theirs_energy_j, c.theirs)
            rows.append((ran.name, layers, _bandwidth(c.theirs), *each, *gains))
    columns = (
        "layers", "bandwidth", "time", "energy", "area mm2", "area x time", "energy x time", "speedup",
        "energy saving", "area x time saving",
    )  # fmt: skip
    drop = ["layers", "energy x time", "area x time", "bandwidth", "area mm2"]
    return table(title, ["machine"], columns, rows, drop=drop)


def _bandwidth(system: Measurement) -> str:
    given = system.bandwidth_bytes_per_s
    return "-" if given is None else f"{given / 1e9:g} GB/s"


def _own(seconds: float, energy_j: float | None, system: Measurement) -> tuple[Cell, ...]:
    area = system.area_mm2
    return (
        Number(amount(seconds, "s"), seconds), Number(amount(energy_j, "J"), energy_j),
        Number("-" if area is None else f"{area:.2f}", area),
        Number("-" if area is None else f"{significant(area * seconds * 1e6, 4)} mm2 us", area and area * seconds),
        Number("-" if energy_j is None else amount(energy_j * seconds, "J s"), energy_j and energy_j * seconds),
    )  # fmt: skip


def _times(value: float | None) -> Number:
    return Number(times(value), value)


def _sizes(found: Study) -> Iterator[PagePart]:
    step = found.inference[found.traces[0], "own"]
    yield Line(f"Power is that of the inference of {found.traces[0]}.")
    for each in sizes([step.ours.measured, *(ran.measured for ran in step.rivals)]):
        kept = [n for n, column in enumerate(each.columns) if " x " not in column.name]
        columns = tuple(each.columns[n] for n in kept)
        yield Table("", columns, tuple(tuple(row[n] for n in kept) for row in each.rows))


def _published(found: Study) -> Iterator[PagePart]:
    yield Line(
        "The published power is of the whole chip; what is built up here is its lanes, neurons and buffers, without "
        "control, network and wires, and without events that no source prices."
    )
    rows = []
    for trace in found.traces:
        for ran in found.inference[trace, "own"].rivals:
            m = ran.measured
            if m.published_power_w:
                joule = m.published_power_w * m.seconds_per_sample
                missing = ", ".join(dict.fromkeys(u.component for u in ran.result.unpriced if u.number)) or "-"
                rows.append((trace, ran.name, missing, amount(m.power_w, "W"), amount(m.published_power_w, "W"),
                             amount(m.energy_j_per_sample, "J"), amount(joule, "J")))  # fmt: skip
    yield table(
        "", ["trace", "machine", "unpriced"],
        ["power", "published power", "energy", "published power x time"], rows,
    )  # fmt: skip


def _sparsity(found: Study) -> Iterator[PagePart]:
    yield Line(
        "Each machine beside a dense array of as many multiply-accumulates, at its clock and bandwidth: speedup over "
        "that array is what skipping work buys, with memory in its way. The array's operands have 16 bits."
    )
    pairs = dict.fromkeys((name, kind) for _, name, kind in found.dense)
    rows = []
    for name, kind in pairs:
        values = [found.dense.get((trace, name, kind)) for trace in found.traces]
        lanes = found.inference[found.traces[0], "own"]
        system = next(ran.measured for ran in (lanes.ours, *lanes.rivals) if ran.name == name)
        rows.append((name, kind, f"{system.lanes:,}", *map(_times, values)))
    yield table("", ["machine", "step"], ["lanes", *found.traces], rows)


def _readings(found: Study) -> Iterator[PagePart]:
    yield Line(
        "Compute cycles of the forward pass by each reading of a source that does not say; the first is shipped."
    )
    named = dict.fromkeys((name, said) for (_, name), cycles in found.readings.items() for said in cycles)
    rows = []
    for name, said in named:
        cells = []
        for trace in found.traces:
            cycles = found.readings[trace, name]
            first = next(iter(cycles.values()))
            change = "" if cycles[said] == first else f" ({cycles[said] / first - 1:+.1%})"
            cells.append(f"{cycles[said]:,}{change}")
        rows.append((name, said, *cells))
    yield table("", ["machine", Column("reading", prose=True)], found.traces, rows)


def _not_run(found: Study) -> Iterator[PagePart]:
    yield Line("Nothing is left out in silence: these rows are in no figure above.")
    refused: dict[tuple[str, str, str], list[str]] = {}
    for trace in found.traces:
        for ran in found.training[trace, "own"].rivals:
            if not ran.trains:
                refused.setdefault((ran.name, "all layers", "backward, weight update: it does not train"), [])
            for layer, why in ran.result.left_out:
                refused.setdefault((ran.name, layer, why), []).append(trace)
    rows = [(name, layer, ", ".join(traces) or "all", why) for (name, layer, why), traces in refused.items()]
    yield table("", ["machine", "layer", "traces", Column("why", prose=True)], [], rows)


def _assumed(found: Study) -> Iterator[PagePart]:
    yield Line("What each machine says of itself; the marks of single figures stand in the arch files.")
    rows = []
    for ran in found.training[found.traces[0], "own"].rivals:
        said = [machines()[ran.name].description]
        said += [f"basis: {ran.result.basis}"] if ran.result.basis else []
        rows += [(ran.name if n == 0 else "", text) for n, text in enumerate((*said, *ran.result.said))]
    yield table("", ["machine", Column("rests on", prose=True)], [], rows)


def lines_of(kind: str) -> tuple[int, int]:
    """Lines of a kind of machine, without and of its stepped twin."""
    folder = PACKAGE.joinpath(*MODULES[kind].split("."))
    counts = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.py")}
    twin = counts.pop("stepped.py", 0)
    return sum(counts.values()), twin


def _twins() -> Iterator[PagePart]:
    kept = json.loads((HERE / "twins.json").read_text(encoding="utf-8"))
    yield Line(
        "Each machine is counted twice: by compiled code over whole layers, and by a twin that steps through them in "
        f"plain Python. Made by `{kept['command']}`: random layers, and how often the two disagreed."
    )
    rows = []
    for kind in MODULES:
        cases, disagreements = kept["machines"].get(kind, ("-", "-"))
        own, twin = lines_of(kind)
        shown = f"{cases:,}" if isinstance(cases, int) else cases
        rows.append((kind, shown, str(disagreements), f"{own:,}", f"{twin:,}"))
    yield table("", ["machine"], ["cases", "disagreements", "lines", "of the twin"], rows)
