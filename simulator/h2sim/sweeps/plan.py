"""A spec with everything that it names found and checked: all that a sweep needs to begin."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.arch import Arch
from h2sim.energy import EnergyTable, load_energy_table
from h2sim.errors import H2SimError, SweepError
from h2sim.io import library
from h2sim.io.kept import cached_property
from h2sim.rivals.registry import load_machine
from h2sim.sweeps.expressions import Expression
from h2sim.sweeps.machines import Machines
from h2sim.sweeps.session import Named, Setup
from h2sim.sweeps.space import Choice, Space
from h2sim.sweeps.spec import DEFAULT_BUDGET, Spec, Synthetic, Written
from h2sim.trace import Sparsity, Trace, load_network, load_trace, reported_sparsity, synthesise, write_trace
from h2sim.trace.graph import Graph


@dataclass(frozen=True)
class Plan:
    """A checked spec, its machines and traces, and the space of its points."""

    written: Written
    machines: Machines
    traces: tuple[Named, ...]

    @property
    def spec(self) -> Spec:
        return self.written.spec

    @property
    def setup(self) -> Setup:
        """What workers are given: buffers are sized already."""
        return Setup(replace(self.machines, sizing=unsized), self.traces)

    @cached_property
    def space(self) -> Space:
        """The free parameters."""
        return Space.of(self.spec, self.machines.admits, self.machines.deciding)

    def choices(self) -> Iterator[Choice]:
        """The points of every method but the guided ones, in the order in which they are made."""
        spec = self.spec
        if spec.method == "list":
            fixed = {path: axis.value for path, axis in self.space.axes.items() if axis.value is not None}
            yield from (
                choice for choice in ({**fixed, **point} for point in spec.points) if self.machines.admits(choice)
            )
        elif spec.method == "grid":
            yield from self.space.grid()
        else:
            yield from self.space.drawn(spec, spec.budget or DEFAULT_BUDGET)


def make_plan(written: Written, folder: Path | None = None) -> Plan:
    """Finds and checks all that a spec names. Raises H2SimError with a line per fault, before any point.

    folder: of the sweep; synthetic traces are drawn into it.
    """
    spec = written.spec
    faults: list[str] = []
    base = _found(lambda: load_machine(_named("arch", spec.arch, written)), written.at("arch"), faults)
    tables = [
        _found(partial(_table, name, written), written.at("energy_tables", str(index)), faults)
        for index, name in enumerate(spec.energy_tables)
    ]
    traces = [
        _found(partial(_trace, trace, written, folder), written.at("traces", str(index)), faults)
        for index, trace in enumerate(spec.traces)
    ]
    for field, names in (("traces", spec.trace_names), ("energy_tables", spec.energy_tables)):
        faults += [
            f"{written.at(field, str(i))}: expected each once; got {name!r} again"
            for i, name in enumerate(names)
            if name in names[:i]
        ]
    if faults:
        raise SweepError(*faults)
    machines = Machines.of(written, base, tables, _sizing(traces))
    named = tuple(
        Named(name, os.path.abspath(trace.path), trace.sha256)
        for name, trace in zip(spec.trace_names, traces, strict=True)
    )
    plan = Plan(written, machines, named)
    _check_constraints(plan)
    return plan


def _table(name: str, written: Written) -> EnergyTable:
    return load_energy_table(_named("energy table", name, written))


def _trace(asked: str | Synthetic, written: Written, folder: Path | None) -> Trace:
    if isinstance(asked, str):
        return load_trace(_named("trace", asked, written))
    if folder is None:
        raise SweepError("expected a folder for the sweep, into which synthetic traces are drawn; got none")
    return load_trace(draw(asked, folder))


def draw(asked: Synthetic, folder: Path) -> Path:
    """The file of a synthetic trace in a sweep's folder, drawn unless it is there: the same bytes each time."""
    key = hashlib.sha256(asked.model_dump_json(exclude={"name"}).encode()).hexdigest()[:10]
    network = load_network(asked.network)
    path = folder / "traces" / f"{network.name}-{key}.npz"
    if path.is_file():
        return path
    if asked.sparsity == "table-3.2":
        every, layers = reported_sparsity(network)
    else:
        every, layers = Sparsity(asked.sparsity, asked.sparsity, asked.sparsity), {}
    steps = asked.timesteps or network.timesteps
    meta, members = synthesise(network, steps, asked.batch, every, asked.seed, layers=layers)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_trace(path, meta, members)
    return path


def _found(load: Any, where: str, faults: list[str]) -> Any:
    try:
        return load()
    except H2SimError as error:
        faults += [f"{where}: {line}" for line in error.lines]
        return None


def _named(kind: library.Kind, name: str, written: Written) -> str:
    """A name as it stands, or the file of that name beside the spec."""
    beside = written.folder / name
    return str(beside) if beside.is_file() and not Path(name).is_file() else name


def unsized(arch: Arch, scale: float) -> Mapping[str, int]:
    """The sizing of machines that are made already."""
    raise RuntimeError(f"a worker was asked to size buffers of {arch.name}")


def _sizing(traces: Sequence[Trace]) -> Any:
    from h2sim.pipeline.fit import Fit

    return Fit([Graph.of(trace) for trace in traces]).changes


def _check_constraints(plan: Plan) -> None:
    """Raises SweepError for constraints that exclude each other, or that no point meets."""
    where = plan.written
    for index, name, low, high in _empty(plan.written.constraints()):
        raise SweepError(
            f"{where.at('constraints', str(index))}: expected constraints that some point can meet; "
            f"got {name} {low} and {high}"
        )
    if not plan.spec.is_guided and plan.spec.method != "list" and not plan.machines.on_fields:
        return
    if plan.spec.method == "list" or plan.space.size is None:
        some = next(plan.choices(), None)
    else:
        some = plan.space.some(np.random.default_rng(plan.spec.seed))
    if some is None:
        all_of = ", ".join(map(str, plan.machines.on_fields))
        raise SweepError(
            f"{where.at('constraints')}: expected constraints that some point can meet; got none for {all_of}"
        )


def _empty(constraints: Sequence[Expression]) -> Iterator[tuple[int, str, str, str]]:
    """Names whose plain bounds (`name < number`) leave no number: (index of the constraint, name, bounds)."""
    lowest: dict[str, tuple[float, str]] = {}
    highest: dict[str, tuple[float, str]] = {}
    for index, constraint in enumerate(constraints):
        bound = constraint.bound()
        if bound is None:
            continue
        name, sign, number = bound
        if sign in (">", ">=", "==") and number >= lowest.get(name, (-math.inf, ""))[0]:
            lowest[name] = number, f"{sign} {number:g}"
        if sign in ("<", "<=", "==") and number <= highest.get(name, (math.inf, ""))[0]:
            highest[name] = number, f"{sign} {number:g}"
        (low, said_low), (high, said_high) = lowest.get(name, (-math.inf, "")), highest.get(name, (math.inf, ""))
        strict = "=" not in said_low or "=" not in said_high
        if low > high or (low == high and strict and said_low and said_high):
            yield index, name, said_low, said_high
