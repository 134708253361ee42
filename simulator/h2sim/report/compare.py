"""Comparisons as tables and as documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from h2sim.compare.measurement import Measurement
from h2sim.compare.ratios import Comparison, Ratio, only_in
from h2sim.compare.stored import StoredArch, StoredResult, parameter_differences
from h2sim.document import Column, Document, Line, Part, Table, amount, counted, significant, table, times
from h2sim.report.bounds import bound_sentence
from h2sim.report.words import spoken

if TYPE_CHECKING:
    import pandas as pd

SCHEMA, SCHEMA_VERSION = "h2sim-comparison", 1
SYSTEM_COLUMNS = ("time", "energy", "area mm2", "node nm", "speedup", "energy saving", "area saving")


def comparison_document(found: Sequence[Comparison], differences: Sequence[Part] = ()) -> Document:
    """Which is faster and by how much; the systems; parameters that differ; ratios by layer and phase; what to know."""
    ours = found[0].ours
    parts: list[Part] = [Line(f"Above 1x is in favour of {ours.system}."), _systems(found), *differences]
    parts += sizes([ours, *(c.theirs for c in found)])
    parts += [_layers(comparison) for comparison in found if comparison.layers]
    parts += [Line(line) for c in found if not c.layers for line in unmatched(c)]
    systems = (ours, *(c.theirs for c in found))
    notes = dict.fromkeys(f"{system.system}: {note}" for system in systems for note in system.assumptions)
    return Document(verdict(found), (*parts, *map(Line, notes)))


def verdict(found: Sequence[Comparison]) -> str:
    """Which system is faster, by how much, on what: one clause for each rival that is not passed over."""
    ours = found[0].ours
    clauses = [_clause(comparison) for comparison in found if not comparison.theirs.passed_over]
    return f"{ours.network}, per sample: {ours.system} {'; it '.join(clauses)}."


def _clause(c: Comparison) -> str:
    """'is 210x faster than loihi and takes 15.5x less energy (forward, shared layers)'."""
    ratio = c.step or next(iter(c.phases), None)
    scope = _scope(c, ratio)
    if ratio is None or ratio.speedup is None:
        return f"has no time in common with {c.theirs.system}"
    theirs = f"the other {c.theirs.system}" if c.theirs.system == c.ours.system else c.theirs.system
    faster = f"is {_than(ratio.speedup, 'faster than', 'slower than', 'as fast as')} {theirs}"
    saving = ratio.energy_saving
    if saving is None:
        return f"{faster} ({scope}; energy not known)"
    return f"{faster} and takes {_than(saving, 'less energy', 'more energy', 'as much energy')} ({scope})"


def _than(ratio: float, above: str, below: str, equal: str) -> str:
    """'2.00x faster than': the ratio, or its inverse below 1, in words; 'as fast as' where three digits show 1."""
    if times(ratio) == "1.00x":
        return equal
    return f"{times(ratio)} {above}" if ratio > 1 else f"{times(1 / ratio) if ratio else 'infinitely'} {below}"


def _scope(c: Comparison, ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return _phases(c.ours) if ratio is c.step else f"{spoken(str(ratio.phase))}, layers that both have"


def _phases(system: Measurement) -> str:
    return "training step" if len(system.phases) == 3 else spoken(", ".join(system.phases))


def _nodes(found: Sequence[Comparison]) -> list[float]:
    """The technologies that are known, the finest first."""
    systems = (found[0].ours, *(c.theirs for c in found))
    return sorted({system.node_nm for system in systems if system.node_nm is not None})


def _systems(found: Sequence[Comparison]) -> Table:
    rows = [_system_row(found[0].ours, None), *(_system_row(comparison.theirs, comparison) for comparison in found)]
    nodes = _nodes(found)
    listed = " and ".join(f"{node:g}" for node in nodes)
    scaled = [f"nodes of {listed} nm: energies and areas stand as they are, not scaled"] if len(nodes) > 1 else []
    passed = [c.theirs.system for c in found if c.theirs.passed_over]
    others = [f"passed over by the verdict, why the last lines say: {'; '.join(passed)}"] if passed else []
    return table(
        "Systems, per sample", ["system", "kind", "phases"], SYSTEM_COLUMNS, rows,
        drop=("node nm", "area saving", "kind", "area mm2", "phases"), foot=[*scaled, *others], elsewhere="--json FILE",
    )  # fmt: skip


def _system_row(system: Measurement, comparison: Comparison | None) -> tuple[str, ...]:
    whole = comparison.step if comparison else None
    node = "-" if system.node_nm is None else f"{system.node_nm:g}"
    area = "-" if system.area_mm2 is None else f"{system.area_mm2:,.2f}"
    return (
        system.system, system.kind, _phases(system), amount(system.seconds_per_sample, "s"),
        amount(system.energy_j_per_sample, "J"), area, node, times(whole.speedup if whole else None),
        times(whole.energy_saving if whole else None),
        times(comparison.area_saving if comparison else None),
    )  # fmt: skip


def sizes(systems: Sequence[Measurement]) -> tuple[Table, ...]:
    """What to judge a machine's size and speed by; nothing where nothing is known of any rival."""
    if not any(system.lanes or system.weight_bits for system in systems[1:]):
        return ()
    rows = [_size(system, systems[0]) for system in systems]
    columns = ("clock", "lanes", "weight bits", "bandwidth", "time x area", "energy x time", "power", "published power")
    return (
        table("Sizes: what each machine brings to it", ["system"], columns, rows,
              drop=("published power", "power", "energy x time", "weight bits", "bandwidth"), elsewhere="--json FILE"),
    )  # fmt: skip


def _size(s: Measurement, ours: Measurement) -> tuple[str, ...]:
    """Products of a step stand only beside a whole step of the same phases as ours."""
    clock = "-" if s.clock_hz is None else f"{s.clock_hz / 1e6:g} MHz"
    lanes, bits = ("-" if n is None else f"{n:,}" for n in (s.lanes, s.weight_bits))
    bandwidth = "-" if s.bandwidth_bytes_per_s is None else f"{s.bandwidth_bytes_per_s / 1e9:g} GB/s"
    whole = set(s.phases) == set(ours.phases) and not s.left_out
    area = s.area_time_mm2_s
    products = ("-" if area is None else f"{significant(area * 1e6, 4)} mm2 us", amount(s.energy_delay_js, "J s"))
    told = products if whole else ("-", "-")
    return s.system, clock, lanes, bits, bandwidth, *told, amount(s.power_w, "W"), amount(s.published_power_w, "W")


def unmatched(c: Comparison) -> tuple[str, ...]:
    """Rows that one of the two has and the other has not, a sentence each: nothing is left out in silence."""
    pairs = ((c.ours, c.theirs), (c.theirs, c.ours))
    return tuple(
        f"{other.system} has no row of {_rows_of(system, other)}, which {system.system} has."
        for system, other in pairs
        if system.parts and other.parts and only_in(system, other)
    )


def _rows_of(system: Measurement, other: Measurement) -> str:
    """'conv1 (forward); any layer (backward)'."""
    told = []
    for phase, layers in only_in(system, other).items():
        whole = phase not in other.phases
        told.append(f"{'any layer' if whole else ', '.join(layers)} ({spoken(phase)})")
    return "; ".join(told)


def _layers(comparison: Comparison) -> Table:
    ours, theirs = comparison.ours.system, comparison.theirs.system
    columns = (
        Column(f"{ours} time", right=True, drop=4, key="our time"), Column("their time", right=True, drop=3), "speedup",
        Column(f"{ours} energy", right=True, drop=2, key="our energy"), Column("their energy", right=True, drop=1),
        "energy saving",
    )  # fmt: skip
    basis = f" ({theirs}: {comparison.theirs.basis})" if comparison.theirs.basis else ""
    rows = [
        (
            ratio.layer, spoken(str(ratio.phase)), amount(ratio.ours_seconds, "s"), amount(ratio.theirs_seconds, "s"),
            times(ratio.speedup), amount(ratio.ours_energy_j, "J"), amount(ratio.theirs_energy_j, "J"),
            times(ratio.energy_saving),
        )
        for ratio in (*comparison.layers, *comparison.phases)
    ]  # fmt: skip
    return table(
        f"{theirs} over {ours}, per sample{basis}", ["layer", "phase"], columns, rows, foot=unmatched(comparison),
        elsewhere="--csv FILE",
    )  # fmt: skip


def _ratios(comparison: Comparison) -> Iterator[tuple[str, Ratio]]:
    if comparison.step:
        yield "step", comparison.step
    yield from (("phase", ratio) for ratio in comparison.phases)
    yield from (("layer", ratio) for ratio in comparison.layers)


def ratio_table(found: Sequence[Comparison]) -> pd.DataFrame:
    """One line per rival and ratio: seconds and joules per sample of both, speedup, energy and area saving."""
    import pandas as pd

    rows = []
    for comparison in found:
        for scope, ratio in _ratios(comparison):
            rows.append({
                "system": comparison.ours.system, "against": comparison.theirs.system, "kind": comparison.theirs.kind,
                "scope": scope, "layer": ratio.layer, "phase": ratio.phase, "seconds_per_sample": ratio.ours_seconds,
                "their_seconds_per_sample": ratio.theirs_seconds, "speedup": ratio.speedup,
                "energy_j_per_sample": ratio.ours_energy_j, "their_energy_j_per_sample": ratio.theirs_energy_j,
                "energy_saving": ratio.energy_saving, "area_saving": comparison.area_saving,
            })  # fmt: skip
    return pd.DataFrame(rows)


def to_document(found: Sequence[Comparison]) -> dict[str, Any]:
    """The comparison as plain data: systems with what to know of them, and every ratio."""
    systems = [found[0].ours, *(c.theirs for c in found)]
    rows = ratio_table(found)
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "network": found[0].ours.network,
        "systems": [
            {
                "system": s.system, "kind": s.kind, "phases": list(s.phases), "samples": s.samples,
                "seconds": s.seconds, "energy_j": s.energy_j, "area_mm2": s.area_mm2, "node_nm": s.node_nm,
                "assumptions": list(s.assumptions), "left_out": list(s.left_out), "clock_hz": s.clock_hz,
                "lanes": s.lanes, "weight_bits": s.weight_bits, "bandwidth_bytes_per_s": s.bandwidth_bytes_per_s,
                "published_power_w": s.published_power_w, "area_time_mm2_s": s.area_time_mm2_s,
                "energy_delay_js": s.energy_delay_js, "basis": s.basis, "passed_over": s.passed_over,
            }
            for s in systems
        ],
        "ratios": rows.astype(object).where(rows.notna(), None).to_dict(orient="records"),
    }  # fmt: skip


def differences(ours_name: str, ours: StoredArch, theirs_name: str, theirs: StoredArch) -> tuple[Part, ...]:
    """The parameters in which two machines of one name differ."""
    if not (ours.parameters and theirs.parameters):
        told = f"{ours_name} and {theirs_name}: a result older than h2sim 0.2.0 does not hold its parameters."
        return (Line(told),)
    rows = [(path, _value(a), _value(b)) for path, a, b in parameter_differences(ours, theirs)]
    if not rows:
        return (Line(f"{ours_name} and {theirs_name} are of one {ours.name}: no parameter differs."),)
    told = f"{ours_name} and {theirs_name} are both of {ours.name} and differ in {counted(len(rows), 'parameter')}."
    names = [Column("parameter"), *(Column(name, key="value") for name in (ours_name, theirs_name))]
    return (table("Parameters that differ", names, [], rows, foot=(told,)),)


def bound_lines(results: Sequence[tuple[str, StoredResult]]) -> tuple[Part, ...]:
    """What bounds the step of each result that says so, a line each; `results` are pairs of a file and its result."""
    return tuple(
        Line(f"{name}: {bound_sentence(found.step.bounds, found.step.ideal_memory_cycles)}")
        for name, found in results
        if found.step.bounds
    )


def _value(value: Any) -> str:
    return "-" if value is None else str(value)
