"""A point of a sweep as files: the machine, and the energy table where the point changes prices."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from h2sim._version import MODEL_VERSION, __version__
from h2sim.arch import Arch
from h2sim.energy import EnergyTable, parse_energy_table
from h2sim.errors import ArchError, EnergyTableError, SweepError
from h2sim.io import library
from h2sim.io.fields import with_fields
from h2sim.io.names import in_shell, in_terminal
from h2sim.report.sweep_words import parameter_text, result_text
from h2sim.report.table import PlainDumper, table_yaml
from h2sim.rivals.machine import RivalMachine
from h2sim.rivals.registry import parse_machine
from h2sim.sweeps.frame import MOST_ID, Row, row_of
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import INVALID
from h2sim.sweeps.store import Store, Stored

MOST_CANDIDATES = 6  # that are named where an id is not clear
MOST_IN_LINE = 4  # fields of a mapping that stand in one line


class _Dumper(PlainDumper):
    """Small mappings of plain values stand in one line, as in the shipped arch files."""


def _mapping(dumper: _Dumper, value: dict[str, Any]) -> yaml.Node:
    plain = len(value) <= MOST_IN_LINE and all(not isinstance(item, list | dict) for item in value.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=plain)


_Dumper.add_representer(dict, _mapping)


def find_point(store: Store, prefix: str) -> Stored:
    """The design whose id begins so. Raises SweepError, one line with candidates, where none or several do."""
    asked = prefix.strip().lower()
    found = list(store.designs(asked)) if asked and asked.isalnum() else []
    if len(found) == 1:
        return found[0]
    if found:
        raise SweepError(f"{prefix}: expected the beginning of one id; got that of {len(found):,}: {_named(found)}")
    every = list(store.designs())
    if not every:
        raise SweepError(f"{store.folder}: expected a sweep with machines; got none")
    near = sorted(every, key=lambda design: (-_shared(design.id, asked), design.number))
    raise SweepError(f"{in_terminal(prefix)[:60]!r}: expected the beginning of an id; nearest are {_named(near)}")


def _named(designs: list[Stored]) -> str:
    more = f" and {len(designs) - MOST_CANDIDATES:,} more" if len(designs) > MOST_CANDIDATES else ""
    return ", ".join(design.id[:MOST_ID] for design in designs[:MOST_CANDIDATES]) + more


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def machine_of(store: Store, design: Stored) -> Arch | RivalMachine:
    """The machine of a design, from what its folder holds. Raises SweepError for a point that is no machine."""
    base = parse_machine(json.loads(store.file(design.base)), str(store.folder))
    found = with_fields(base, design.arch, base.name, ArchError)
    said = ", ".join(f"{path} {parameter_text(value)}" for path, value in design.parameters.items())
    description = f"{base.name} with {said}" if said else base.description
    return found.model_copy(update={"name": f"{base.name}-{design.id[:MOST_ID]}", "description": description})


def table_of(store: Store, design: Stored) -> EnergyTable:
    """The energy table of a design, with the prices that it changes; then its name says so."""
    table = parse_energy_table(json.loads(store.file(design.table)), str(store.folder))
    if not design.energy:
        return table
    changes = {**design.energy, "name": f"{table.name}-{design.id[:MOST_ID]}"}
    return with_fields(table, changes, table.name, EnergyTableError)


def point_yaml(plan: Plan, store: Store, prefix: str) -> str:
    """The arch file of a point, which `h2sim run` takes; what it comes to stands above it.

    prefix: the beginning of its id. Raises SweepError where it is unclear, or the point is no machine.
    """
    design = find_point(store, prefix)
    row = row_of(plan, design, store.points_of(design.id))
    _check_is_machine(design, row)
    machine = machine_of(store, design)
    text = yaml.dump(machine.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)
    return "".join(f"# {in_terminal(line)}\n" for line in _head(plan, store, design, row, machine.name)) + text


def point_table_yaml(plan: Plan, store: Store, prefix: str) -> str:
    """The energy table of a point as YAML, with the prices that the point changes."""
    design = find_point(store, prefix)
    _check_is_machine(design, row_of(plan, design, store.points_of(design.id)))
    table = table_of(store, design)
    changed = ", ".join(f"{path} {parameter_text(value)}" for path, value in design.energy.items())
    head = f"# energy table of {design.id[:MOST_ID]}: {design.energy_table}" + (f" with {changed}" if changed else "")
    return f"{in_terminal(head)}\n{table_yaml(table)}"


def _check_is_machine(design: Stored, row: Row | None) -> None:
    changed = design.arch or design.energy or not design.parameters
    if row is not None and row.status == INVALID and not row.numbers and not changed:
        raise SweepError(f"{design.id[:MOST_ID]}: expected a machine that can be; got {row.error}")


def _head(plan: Plan, store: Store, design: Stored, row: Row | None, name: str) -> Iterator[str]:
    """Lines of the comment: where the machine comes from, what it comes to, how to run it again."""
    base = plan.machines.base.name
    yield f"{name}: a point of the sweep in {store.folder} (h2sim {__version__}, model {MODEL_VERSION})"
    for path, value in design.parameters.items():
        yield f"  {path}: {parameter_text(value)}"
    objectives = plan.spec.objectives
    if row and row.numbers:
        told = ", ".join(f"{n} {result_text(n, row.value(n))} ({row.value(n)!r})" for n in objectives)
        several = f", {plan.spec.mean} mean of {len(plan.traces)} traces" if len(plan.traces) > 1 else ""
        yield f"with energy table {design.energy_table}{several}: {told}"
    if row and row.error:
        yield f"{row.status}: {row.error}"
    options = plan.spec.options
    if options.layer:
        yield f"simulated: layer {options.layer}, phase {options.phase} alone; a run of it simulates the whole step"
    yield f"{base} with these fields; run it again, this file being FILE:"
    table = design.energy_table
    if design.energy or table not in library.names("energy table"):
        table = "TABLE"
        yield f"  h2sim sweep show {in_shell(str(store.folder))} {design.id[:MOST_ID]} --table > TABLE"
    flag = " --ideal-memory" if options.ideal_memory else ""
    for trace in plan.traces:
        named = trace.name if trace.name in library.names("trace") else _as_typed(trace.path, store.folder)
        yield f"  h2sim run FILE {in_shell(named)} --energy-table {in_shell(table)}{flag}"


def _as_typed(path: str, folder: Path) -> str:
    """A trace's path; of one in the sweep's folder, from the folder's name as it was given."""
    whole = Path(os.path.abspath(folder))
    return str(folder / Path(path).relative_to(whole)) if Path(path).is_relative_to(whole) else path
