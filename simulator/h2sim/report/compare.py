"""Comparisons as tables and as documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from h2sim.compare.measurement import Measurement
from h2sim.compare.ratios import Comparison, Ratio
from h2sim.compare.stored import StoredArch, parameter_differences
from h2sim.document import Document, counted, table
from h2sim.report.text import new_table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

SCHEMA, SCHEMA_VERSION = "h2sim-comparison", 1


def times(ratio: float | None) -> str:
    """A ratio for people; '-' where there is none."""
    return "-" if ratio is None else f"{ratio:,.3g}x"


def amount(value: float | None, unit: str) -> str:
    """A quantity with a prefix that keeps it readable; '-' where there is none."""
    if value is None:
        return "-"
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n")):
        if abs(value) >= factor or factor == 1e-9:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:g} {unit}"


def print_comparison(console: Console, found: Sequence[Comparison]) -> None:
    """The systems, then for each rival the ratios of step, phases and layers, then what to know of each."""
    ours = found[0].ours
    console.print(f"h2sim compare: {ours.system} on {ours.network}; above 1x is in favour of {ours.system}")
    console.print()
    console.print(_systems(found))
    nodes = _nodes(found)
    if len(nodes) > 1:
        listed = " and ".join(f"{node:g}" for node in nodes)
        console.print(f"nodes of {listed} nm: energies and areas stand as they are, not scaled", soft_wrap=True)
    for comparison in found:
        if comparison.layers:
            console.print()
            console.print(_layers(comparison))
    console.print()
    for system in (ours, *(c.theirs for c in found)):
        for note in system.assumptions:
            console.print(f"{system.system}: {note}")


def _nodes(found: Sequence[Comparison]) -> list[float]:
    """The technologies that are known, the finest first."""
    systems = (found[0].ours, *(c.theirs for c in found))
    return sorted({system.node_nm for system in systems if system.node_nm is not None})


def _systems(found: Sequence[Comparison]):
    table = new_table(
        "Systems, per sample",
        ["system", "kind", "phases"],
        ["time", "energy", "area mm2", "node nm", "speedup", "energy saving", "area saving"],
    )
    _system_row(table, found[0].ours, None)
    for comparison in found:
        _system_row(table, comparison.theirs, comparison)
    return table


def _system_row(table, system: Measurement, comparison: Comparison | None) -> None:
    whole = comparison.step if comparison else None
    node = "-" if system.node_nm is None else f"{system.node_nm:g}"
    area = "-" if system.area_mm2 is None else f"{system.area_mm2:,.2f}"
    phases = "training step" if len(system.phases) == 3 else ", ".join(system.phases).replace("_", " ")
    table.add_row(
        system.system, system.kind, phases, amount(system.seconds_per_sample, "s"),
        amount(system.energy_j_per_sample, "J"), area, node, times(whole.speedup if whole else None),
        times(whole.energy_saving if whole else None),
        times(comparison.area_saving if comparison else None),
    )  # fmt: skip


def _layers(comparison: Comparison):
    ours, theirs = comparison.ours.system, comparison.theirs.system
    table = new_table(
        f"{theirs} over {ours}, per sample",
        ["layer", "phase"],
        [f"{ours} time", "their time", "speedup", f"{ours} energy", "their energy", "energy saving"],
    )
    for ratio in (*comparison.layers, *comparison.phases):
        table.add_row(
            ratio.layer, str(ratio.phase).replace("_", " "), amount(ratio.ours_seconds, "s"),
            amount(ratio.theirs_seconds, "s"), times(ratio.speedup), amount(ratio.ours_energy_j, "J"),
            amount(ratio.theirs_energy_j, "J"), times(ratio.energy_saving),
        )  # fmt: skip
    return table


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
                "assumptions": list(s.assumptions),
            }
            for s in systems
        ],
        "ratios": rows.astype(object).where(rows.notna(), None).to_dict(orient="records"),
    }  # fmt: skip


def differences_document(ours_name: str, ours: StoredArch, theirs_name: str, theirs: StoredArch) -> Document:
    """The parameters in which two machines of one name differ."""
    if not (ours.parameters and theirs.parameters):
        return Document(f"{ours_name} and {theirs_name}: a result older than h2sim 0.2.0 does not hold its parameters.")
    rows = [(path, _value(a), _value(b)) for path, a, b in parameter_differences(ours, theirs)]
    if not rows:
        return Document(f"{ours_name} and {theirs_name} are of one {ours.name}: no parameter differs.")
    told = table("Parameters that differ", ["parameter", ours_name, theirs_name], [], rows)
    return Document(
        f"{ours_name} and {theirs_name} are both of {ours.name} and differ in {counted(len(rows), 'parameter')}.",
        (told,),
    )


def _value(value: Any) -> str:
    return "-" if value is None else str(value)
