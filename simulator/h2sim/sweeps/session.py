"""What simulates points: traces and tables opened once, and counted once, for however many machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from h2sim.activity import SteadyState
from h2sim.arch import Arch
from h2sim.energy import EnergyTable, price
from h2sim.energy.area import area
from h2sim.errors import ArchError, EnergyTableError, H2SimError, SweepError, at
from h2sim.io.fields import with_fields
from h2sim.pipeline.step import simulate_job, simulate_steady
from h2sim.rivals.registry import run_rival
from h2sim.sweeps.machines import Machine, Machines, point_id
from h2sim.sweeps.metrics import Numbers, areas_of, numbers_of, numbers_of_rival
from h2sim.trace import Trace, load_trace
from h2sim.trace.members import VALUES

MOST_KEPT_BYTES = 512 << 20  # of counts, of all traces of a session together
OK, INVALID, FAILED, KILLED = "ok", "invalid", "failed", "killed"


@dataclass(frozen=True)
class Named:
    """A trace that points run on: its name in the spec, its file and the hash that the file had."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Task:
    """A machine to be simulated: its changes, its ids by table, and which (table, trace) of it are asked for.

    parameters: for constraints; wanted: index of the table and of the trace.
    """

    parameters: Mapping[str, Any]
    arch: Mapping[str, Any]
    table: Mapping[str, Any]
    ids: tuple[str, ...]
    wanted: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Found:
    """What was found of one point: a design with a table on a trace. numbers are empty unless status is ok or invalid;
    error says in a line what was wrong."""

    point: str
    design: str
    trace: str
    status: str
    numbers: Numbers = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Setup:
    """What every worker of a sweep is given, once."""

    machines: Machines
    traces: tuple[Named, ...]


class Session:
    """Simulates tasks one after the other. Traces are opened when they are first asked for."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._open: dict[int, Trace] = {}
        self._tables: dict[str, tuple[EnergyTable, ...]] = {}

    def run(self, task: Task, *, unruled: bool = False) -> list[Found]:
        """All points of a task. What is wrong with one of them is its status; nothing is raised for it.

        unruled: whatever the constraints say.
        """
        try:
            machine = with_fields(self._setup.machines.base, task.arch, self._setup.machines.base.name, ArchError)
            tables = self._priced(task.table)
        except Exception as error:  # the coordinator found it sound: another version of h2sim
            return [self._found(task, *each, FAILED, error=_said(error)) for each in task.wanted]
        found: list[Found] = []
        for trace in sorted({trace for _, trace in task.wanted}):
            of_trace = [table for table, other in task.wanted if other == trace]
            found += self._on_trace(task, machine, tables, of_trace, trace, unruled)
        return found

    def trace(self, index: int) -> Trace:
        """An open trace of the sweep. Raises SweepError where its file is not what it was."""
        if index not in self._open:
            named = self._setup.traces[index]
            trace = load_trace(named.path)
            if trace.sha256 != named.sha256:
                raise SweepError(
                    at(
                        named.path,
                        "trace",
                        f"the file that the sweep began with, {named.sha256[:12]}",
                        trace.sha256[:12],
                    )
                )
            trace.check(VALUES)
            trace.maps.kept.bound(MOST_KEPT_BYTES // len(self._setup.traces))
            self._open[index] = trace
        return self._open[index]

    def _on_trace(
        self,
        task: Task,
        machine: Machine,
        tables: Sequence[EnergyTable],
        wanted: Sequence[int],
        trace: int,
        unruled: bool,
    ) -> list[Found]:
        found, left = [], []
        for table in wanted:
            ruled_out = None if unruled else self._ruled_out(task, machine, tables[table], table, trace)
            if ruled_out:
                found.append(ruled_out)
            else:
                left.append(table)
        if not left:
            return found
        try:
            rows = self._numbers(machine, [tables[t] for t in left], self.trace(trace))
        except Exception as error:  # a fault of one point, ours too, is no reason to lose the others
            return found + [self._found(task, table, trace, FAILED, error=_said(error)) for table in left]
        return found + [self._found(task, table, trace, OK, numbers) for table, numbers in zip(left, rows, strict=True)]

    def _numbers(self, machine: Machine, tables: Sequence[EnergyTable], trace: Trace) -> list[Numbers]:
        options = self._setup.machines.options
        ideal = options.ideal_memory
        if not isinstance(machine, Arch):
            return [numbers_of_rival(run_rival(machine, trace, table, ideal_memory=ideal)) for table in tables]
        activity: SteadyState
        if options.layer is None or options.phase is None:
            activity = simulate_steady(machine, trace, ideal_memory=ideal)
        else:
            activity = simulate_job(machine, trace, options.layer, options.phase, ideal_memory=ideal)
        return [numbers_of(activity, price(activity, machine, table), machine) for table in tables]

    def _ruled_out(self, task: Task, machine: Machine, table: EnergyTable, index: int, trace: int) -> Found | None:
        """A point that a constraint on the machine's area rules out: it is not simulated."""
        machines = self._setup.machines
        if not isinstance(machine, Arch) or not machines.on_machine:
            return None
        try:
            numbers = areas_of(area(machine, table))
            broken = machines.broken(machines.on_machine, task.parameters, task.arch, numbers)
        except Exception as error:
            return self._found(task, index, trace, INVALID, error=_said(error))
        return self._found(task, index, trace, INVALID, numbers, broken) if broken else None

    def _found(
        self, task: Task, table: int, trace: int, status: str, numbers: Numbers | None = None, error: object = None
    ) -> Found:
        design, sha256 = task.ids[table], self._setup.traces[trace].sha256
        line = None if error is None else (str(error).splitlines() or [type(error).__name__])[0]
        return Found(point_id(design, sha256), design, sha256, status, numbers or {}, line)

    def _priced(self, changes: Mapping[str, Any]) -> tuple[EnergyTable, ...]:
        tables = self._setup.machines.tables
        if not changes:
            return tables
        key = repr(sorted(changes.items(), key=str))
        if key not in self._tables:
            if len(self._tables) > 100:
                self._tables.clear()
            self._tables[key] = tuple(with_fields(t, changes, t.name, EnergyTableError) for t in tables)
        return self._tables[key]


def _said(error: Exception) -> object:
    """What was wrong: in our own words, or with the name of an error that is none of ours."""
    return error if isinstance(error, H2SimError) else f"{type(error).__name__}: {error}"
