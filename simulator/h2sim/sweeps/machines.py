"""The machine and the energy tables of a choice, and the hashes by which a point is the same however it is spelt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from h2sim._version import MODEL_VERSION
from h2sim.arch import Arch
from h2sim.energy import EnergyTable
from h2sim.errors import ArchError, EnergyTableError, H2SimError, SweepError
from h2sim.io.fields import nearest, value_at, with_fields
from h2sim.io.kept import cached_property
from h2sim.rivals.machine import RivalMachine
from h2sim.sweeps.expressions import Expression, parse_expression
from h2sim.sweeps.metrics import METRICS, OF_MACHINE
from h2sim.sweeps.space import Choice
from h2sim.sweeps.spec import BUFFERS, Options, Spec, Written

Machine = Arch | RivalMachine
Sizing = Callable[
    [Arch, float], Mapping[str, int]
]  # buffers' bytes and banks by dotted path: needs of a machine, scaled
TABLE = "energy_table"  # in front of a path: a field of the energy tables
UNNAMED = {"name", "description", "version"}
WITHOUT_VALUE = 1.0  # by how much a constraint is missed that has no value for a choice


@dataclass(frozen=True)
class Design:
    """What a choice comes to.

    parameters: every parameter of the spec that holds, as columns show it. arch and table: the changes of the machine's
    and the tables' files by dotted path, all that a worker needs. ids: one per energy table. fault: why there is no
    such machine, in a line; then arch and table are empty.
    """

    parameters: dict[str, Any]
    arch: dict[str, Any]
    table: dict[str, Any]
    ids: tuple[str, ...]
    fault: str | None = None


@dataclass(frozen=True)
class Step:
    """How one parameter comes about: whether it holds, and what it is derived of."""

    path: str
    derive: Expression | None
    when: Expression | None

    @property
    def names(self) -> set[str]:
        """All fields that it is made of."""
        return {name for each in (self.derive, self.when) if each for name in each.names}


@dataclass(frozen=True)
class Machines:
    """Makes designs of a spec's choices.

    base and tables: as their files say. steps: conditions and derived fields, in an order in which each can be
    computed. whole: numbers of a range that are rounded. on_fields and on_results: constraints. order: all parameters
    and variables, as the spec has them. sizing: what `buffers: fit` comes to.
    """

    base: Machine
    tables: tuple[EnergyTable, ...]
    options: Options
    steps: tuple[Step, ...]
    on_fields: tuple[Expression, ...]
    on_results: tuple[Expression, ...]
    order: tuple[str, ...]
    variables: frozenset[str]
    whole: frozenset[str]
    sizing: Sizing

    @classmethod
    def of(cls, written: Written, base: Machine, tables: Sequence[EnergyTable], sizing: Sizing) -> Machines:
        """Raises SweepError, a line per fault: unknown fields, with the nearest; expressions of no field; circles."""
        spec, faults = written.spec, list[str]()
        known = _Known(base, tables[0], frozenset(spec.variables))
        paths = list(dict.fromkeys([*spec.axes, *(path for point in spec.points for path in point)]))
        faults += [
            f"{written.at('variables', name)}: expected a name that is no field; got one"
            for name in spec.variables
            if known.is_field(name)
        ]
        for path in paths:
            faults += known.fault(path, written.at("parameters" if path in spec.parameters else "points", path))
        derived = {p: a.derive for p, a in spec.axes.items() if a.derive is not None}
        conditions = {p: a.when for p, a in spec.axes.items() if a.when is not None}
        constraints: list[Expression] = []
        try:
            parsed = {p: parse_expression(t, written.at(_section(spec, p), p, "derive")) for p, t in derived.items()}
            when = {p: parse_expression(t, written.at(_section(spec, p), p, "when")) for p, t in conditions.items()}
            constraints = written.constraints()
        except SweepError as error:
            raise SweepError(*faults, *error.lines) from None
        for path, expression in [*parsed.items(), *when.items()]:
            faults += [
                f for name in expression.names for f in known.fault(name, written.at(_section(spec, path), path))
            ]
        on_results = {e for e in constraints if any(is_result(name) for name in e.names)}
        for index, expression in enumerate(constraints):
            where = written.at("constraints", str(index))
            faults += [f for name in expression.names if not is_result(name) for f in known.fault(name, where)]
        faults += [
            f"{written.at('objectives', name)}: unknown result{_near(name)}"
            for name in spec.objectives
            if not is_result(name)
        ]
        if faults:
            raise SweepError(*faults)
        return cls(
            base=base,
            tables=tuple(tables),
            options=spec.options,
            steps=_in_order(parsed, when, written),
            on_fields=tuple(e for e in constraints if e not in on_results),
            on_results=tuple(e for e in constraints if e in on_results),
            order=tuple(paths),
            variables=frozenset(spec.variables),
            whole=frozenset(p for p, a in spec.parameters.items() if a.is_continuous and known.is_whole(p)),
            sizing=sizing,
        )

    @cached_property
    def base_ids(self) -> tuple[str, ...]:
        """The ids of the machine as its file says, one per table."""
        return tuple(design_id(self.base, table, self.options) for table in self.tables)

    @cached_property
    def base_sha256(self) -> str:
        """The hash of the machine's file as resolved, names and all: what points are changes of."""
        return hashlib.sha256(self.base.model_dump_json().encode()).hexdigest()

    @cached_property
    def deciding(self) -> frozenset[str]:
        """The parameters and variables on which the constraints on fields alone hang, through others too."""
        found = {name for constraint in self.on_fields for name in constraint.names}
        while True:
            of_steps = {name for step in self.steps if _touches(step.path, found) for name in step.names}
            if of_steps <= found:
                return frozenset(path for path in self.order if _touches(path, found))
            found |= of_steps

    def admits(self, choice: Choice) -> bool:
        """Whether every constraint on fields alone holds, of a choice of the deciding parameters or of more.

        Raises SweepError for an expression without a value.
        """
        if not self.on_fields:
            return True
        assigned = self._assigned(choice, [step for step in self.steps if step.path in self.deciding])
        return all(constraint.holds(self._names(assigned)) for constraint in self.on_fields)

    def design(self, choice: Choice) -> Design:
        """The machine of a choice, with its buffers sized; a machine that cannot be is a design with a fault."""
        try:
            assigned = self._assigned(choice)
        except SweepError as error:
            return self._faulty(choice, error)
        fields = {path: value for path, value in assigned.items() if path not in self.variables}
        arch = {p: v for p, v in fields.items() if not self._of_table(p) and p != BUFFERS}
        table = {p.removeprefix(f"{TABLE}."): v for p, v in fields.items() if self._of_table(p)}
        try:
            machine = with_fields(self.base, arch, self.base.name, ArchError)
            if BUFFERS in assigned:
                arch |= self._sized(machine, assigned[BUFFERS])
                machine = with_fields(self.base, arch, self.base.name, ArchError)
            tables = [with_fields(t, table, t.name, EnergyTableError) if table else t for t in self.tables]
        except H2SimError as error:
            return self._faulty(assigned, error)
        ids = tuple(design_id(machine, each, self.options) for each in tables)
        return Design(self._shown(assigned), arch, table, ids)

    @property
    def on_machine(self) -> tuple[Expression, ...]:
        """The constraints on results that are known before anything is simulated."""
        return tuple(e for e in self.on_results if all(n in OF_MACHINE or not is_result(n) for n in e.names))

    def results_of(self, wanted: Collection[str]) -> list[str]:
        """The results, of all traces, that these and the constraints hang on, in their usual order."""
        names = {name.partition("[")[0] for each in (wanted, *(e.names for e in self.on_results)) for name in each}
        return [name for name in METRICS if name in names]

    def broken(
        self,
        constraints: Sequence[Expression],
        parameters: Mapping[str, Any],
        arch: Mapping[str, Any],
        numbers: Mapping[str, Any],
    ) -> str | None:
        """The first constraint that a design with these results does not meet, in a line; None if it meets all.

        Raises SweepError for a constraint that has no value there.
        """
        value = self._known(parameters, arch, numbers)
        for constraint in constraints:
            if not constraint.holds(value):
                got = ", ".join(f"{name} = {shown(value(name))}" for name in constraint.names)
                return f"constraint {constraint}: got {got}"
        return None

    def misses(self, choice: Choice) -> list[float]:
        """By how much a choice misses each constraint on fields alone, as `excess` says; 0 for those that it meets."""
        try:
            value = self._names(self._assigned(choice))
        except SweepError:
            return [WITHOUT_VALUE] * len(self.on_fields)
        return [_excess(constraint, value) for constraint in self.on_fields]

    def result_misses(
        self, parameters: Mapping[str, Any], arch: Mapping[str, Any], numbers: Mapping[str, Any]
    ) -> list[float]:
        """By how much a design with these results misses each constraint on results. 0, too, for one whose results
        are not known because the design was not simulated."""
        value = self._known(parameters, arch, numbers)
        known = [all(not is_result(n) or numbers.get(n) is not None for n in e.names) for e in self.on_results]
        return [_excess(e, value) if there else 0.0 for e, there in zip(self.on_results, known, strict=True)]

    def _known(
        self, parameters: Mapping[str, Any], arch: Mapping[str, Any], numbers: Mapping[str, Any]
    ) -> Callable[[str], Any]:
        """The values of names, fields and results, for a constraint."""
        fields = self._names({**parameters, **arch})

        def value(name: str) -> Any:
            if not is_result(name):
                return fields(name)
            if numbers.get(name) is None:
                raise KeyError(name)
            return numbers[name]

        return value

    def _faulty(self, assigned: Mapping[str, Any], error: H2SimError) -> Design:
        key = json.dumps([MODEL_VERSION, self.base.model_dump(mode="json"), assigned], sort_keys=True, default=str)
        ids = tuple(hashlib.sha256(f"{key} {t.sha256}".encode()).hexdigest() for t in self.tables)
        return Design(self._shown(assigned), {}, {}, ids, error.lines[0])

    def _assigned(self, choice: Choice, steps: Sequence[Step] | None = None) -> dict[str, Any]:
        """The parameters that hold: those whose condition does, and what is derived of them. steps: not all of them."""
        found = {path: round(value) if path in self.whole else value for path, value in choice.items()}
        for step in self.steps if steps is None else steps:
            if step.when and not step.when.holds(self._names(found)):
                found.pop(step.path, None)
            elif step.derive:
                found[step.path] = step.derive.value(self._names(found))
        return found

    def _names(self, assigned: Mapping[str, Any]) -> Callable[[str], Any]:
        def value(name: str) -> Any:
            if name in assigned:
                return assigned[name]
            parent, _, last = name.rpartition(".")
            if parent == "tile" and "tile" in assigned:
                tile = assigned["tile"]
                return tile[("height", "width").index(last)] if isinstance(tile, list) else tile[last]
            path = name.removeprefix(f"{TABLE}.")
            return value_at(self.tables[0] if self._of_table(name) else self.base, path)

        return value

    def _of_table(self, path: str) -> bool:
        return path.startswith(f"{TABLE}.") or (path != BUFFERS and not _has(self.base, path))

    def _sized(self, machine: Machine, rule: Any) -> Mapping[str, Any]:
        if rule == "keep":
            return {}
        scale = 1.0 if rule == "fit" else rule
        if not isinstance(machine, Arch) or isinstance(scale, bool) or not isinstance(scale, int | float) or scale <= 0:
            raise SweepError(f"{BUFFERS}: expected keep, fit or a number above 0, as a share of fit; got {rule!r}")
        return self.sizing(machine, float(scale))

    def _shown(self, assigned: Mapping[str, Any]) -> dict[str, Any]:
        return {path: assigned[path] for path in self.order if path in assigned}


def _touches(path: str, names: Collection[str]) -> bool:
    """Whether a path is one of these fields, or part of one, or holds one."""
    return any(path == n or path.startswith(f"{n}.") or n.startswith(f"{path}.") for n in names)


def _excess(constraint: Expression, value: Callable[[str], Any]) -> float:
    try:
        return constraint.excess(value)
    except SweepError:
        return WITHOUT_VALUE


class _Known:
    """Which fields there are: the machine's, those of energy tables, and `buffers`."""

    def __init__(self, base: Machine, table: EnergyTable, variables: frozenset[str]) -> None:
        self._base, self._table, self._variables = base, table, variables

    def is_field(self, path: str) -> bool:
        """Whether a path leads to a field of the machine or of energy tables."""
        return any(_has(holder, path) for holder in (self._base, self._table))

    def is_whole(self, path: str) -> bool:
        """Whether a field of the machine holds an integer, to which numbers of a range are rounded."""
        return _has(self._base, path) and type(value_at(self._base, path)) is int

    def fault(self, path: str, where: str) -> list[str]:
        """Nothing for a field that there is, else a line that says what is nearest."""
        of_table = path.startswith(f"{TABLE}.")
        bare = path.removeprefix(f"{TABLE}.")
        holders = [self._table] if of_table else [self._base, self._table]
        if path == BUFFERS or path in self._variables or any(_has(holder, bare) for holder in holders):
            return []
        said = "" if where.endswith(path) else f"{path}: "
        return [f"{where}: {said}unknown field{nearest(type(holders[0]), bare)}"]


def shown(value: Any) -> str:
    """A value as people read it: `[8, 8]`, six digits of a fraction."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _has(model: Machine | EnergyTable, path: str) -> bool:
    try:
        value_at(model, path)
    except KeyError:
        return False
    return True


def is_result(name: str) -> bool:
    """Whether a name is that of a result, of all traces or of one: `seconds`, `seconds[mnist-digits]`."""
    return name.partition("[")[0] in METRICS


def _near(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(METRICS), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(METRICS)}"


def _section(spec: Spec, path: str) -> str:
    return "variables" if path in spec.variables else "parameters"


def _in_order(
    derived: Mapping[str, Expression], conditions: Mapping[str, Expression], written: Written
) -> tuple[Step, ...]:
    """Conditions and derived fields, each behind those that it is made of; in its own expression a field is what the
    file says. Raises SweepError for a circle."""
    left = {p: Step(p, derived.get(p), conditions.get(p)) for p in dict.fromkeys((*conditions, *derived))}
    done: list[Step] = []
    while left:
        ready = [path for path, step in left.items() if not any(n in left and n != path for n in step.names)]
        if not ready:
            path = next(iter(left))
            where = written.at(_section(written.spec, path), path)
            raise SweepError(f"{where}: expected no circle of derive and when; got one of {', '.join(left)}")
        done += [left.pop(path) for path in ready]
    return tuple(done)


def design_id(machine: Machine, table: EnergyTable, options: Options) -> str:
    """The hash of a machine as resolved, a table and the options, under this version of the model. Names do not count.

    What one chip does not depend on, its links to others, does not count either.
    """
    parts = (
        MODEL_VERSION,
        machine.model_dump(mode="json", exclude=UNNAMED | {"interconnect"}),
        table.prices_sha256,
        options.model_dump(),
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def point_id(design: str, trace_sha256: str) -> str:
    """The hash of a design on a trace."""
    return hashlib.sha256(f"{design} {trace_sha256}".encode()).hexdigest()
