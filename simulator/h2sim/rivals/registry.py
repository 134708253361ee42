"""Machines by name: H2Learn and its rivals, each from an arch file. A new rival is its folder and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from h2sim.arch import Arch, parse_arch
from h2sim.errors import ArchError, BaselineError, at
from h2sim.io.faults import describe, show
from h2sim.io.yamlfile import read_mapping

if TYPE_CHECKING:
    from h2sim.energy.table import EnergyTable
    from h2sim.rivals.machine import RivalMachine
    from h2sim.rivals.result import RivalResult
    from h2sim.trace import Trace

H2LEARN = "h2learn"
GROUP = "h2sim.machines"  # of entry points: a package of one's own names an object as RIVAL is
MODULES = {
    "spinalflow": "h2sim.rivals.spinalflow",
    "loihi": "h2sim.rivals.loihi",
    "sata": "h2sim.rivals.sata",
    "dense-array": "h2sim.rivals.dense_array",
    "prosperity": "h2sim.rivals.prosperity",
    "ptb": "h2sim.rivals.ptb",
    "sato": "h2sim.rivals.sato",
    "loas": "h2sim.rivals.loas",
}  # each has a RIVAL


class Rival(Protocol):
    """A kind of machine: what it is in a line, the schema of its arch files, and how one runs on a trace.

    run(machine, trace, table, ideal_memory) raises BaselineError for a trace or table that the machine cannot run with.
    A machine with a clock is easiest made as an h2sim.rivals.clocked.Clocked.
    """

    @property
    def what(self) -> str: ...
    @property
    def schema(self) -> type[RivalMachine]: ...
    @property
    def run(self) -> Callable[[Any, Trace, EnergyTable, bool], RivalResult]: ...


@dataclass(frozen=True)
class Kind:
    """A Rival as plain values, for a machine without a clock."""

    what: str
    schema: type[RivalMachine]
    run: Callable[[Any, Trace, EnergyTable, bool], RivalResult]


def kinds() -> list[str]:
    """The kinds of rivals that there are: h2sim's own, then those of other packages."""
    return list(dict.fromkeys([*MODULES, *sorted(entry.name for entry in entry_points(group=GROUP))]))


def rival(kind: str) -> Rival:
    """The rival of a kind, its module imported when asked for.

    Raises ArchError for an unknown kind, or where the package behind it is at fault.
    """
    if kind in MODULES:
        found: Rival = importlib.import_module(MODULES[kind]).RIVAL
        return found
    entry = next((entry for entry in entry_points(group=GROUP) if entry.name == kind), None)
    if entry is None:
        raise ArchError(at("arch file", "machine", f"one of {', '.join((H2LEARN, *kinds()))}", repr(kind)))
    try:
        loaded = entry.load()
    except Exception as error:  # whatever another package raises as it is imported
        why = str(error) or type(error).__name__
        raise ArchError(f"machine {kind}: {entry.value}: cannot be imported: {why}") from None
    if not _is_rival(loaded):
        wanted = "an object with what, schema (a RivalMachine) and run, as h2sim.rivals.clocked.Clocked"
        raise ArchError(at(f"machine {kind}", entry.value, wanted, repr(loaded)))
    own: Rival = loaded
    return own


def _is_rival(loaded: object) -> bool:
    from h2sim.rivals.machine import RivalMachine

    schema = getattr(loaded, "schema", None)
    fits = isinstance(schema, type) and issubclass(schema, RivalMachine) and not isinstance(loaded, type)
    return fits and isinstance(getattr(loaded, "what", None), str) and callable(getattr(loaded, "run", None))


def load_machine(name_or_path: str | Path) -> Arch | RivalMachine:
    """The machine of a shipped arch file (`h2learn`, `spinalflow`, `loihi`, ...) or of a file of one's own.

    Raises ArchError: one line per fault, `file: field: expected ...; got ...`.

    >>> import h2sim
    >>> h2sim.load_machine("spinalflow").name
    'SpinalFlow'
    """
    data, path = read_mapping("arch", name_or_path, ArchError)
    return parse_machine(data, str(path))


def parse_machine(data: dict[str, Any], where: str) -> Arch | RivalMachine:
    """A checked machine from plain data; its `machine` says of which kind, h2learn if there is none."""
    kind = data.get("machine", H2LEARN)
    if kind == H2LEARN:
        return parse_arch(data, where)
    if not isinstance(kind, str) or kind not in kinds():
        raise ArchError(at(where, "machine", f"one of {', '.join((H2LEARN, *kinds()))}", show(kind)))
    schema = rival(kind).schema
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ArchError(*describe(error, schema, where)) from None


def run_rival(machine: RivalMachine, trace: Trace, table: EnergyTable, *, ideal_memory: bool = False) -> RivalResult:
    """One rival on a trace. Raises BaselineError for a trace or a table that it cannot run with."""
    return rival(machine.machine).run(machine, trace, table, ideal_memory)


# names of `h2sim baseline run`, which stays for a version: an arch file, and fields of it that the name changes
BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "spinalflow": ("spinalflow", {}),
    "spinalflow-every-spike": ("spinalflow", {"coding": "every_spike"}),
    "loihi": ("loihi", {}),
    "loihi-sanafe": ("loihi-sanafe", {}),
    "sata": ("sata", {}),
    "dense-array": ("dense-array", {}),
    "dense-array-37mm2": ("dense-array-37mm2", {}),
    "prosperity": ("prosperity", {}),
    "bit-sparse-128": ("bit-sparse-128", {}),
    "ptb": ("ptb", {}),
    "sato": ("sato", {}),
    "loas": ("loas", {}),
}


def load_baseline(name: str) -> RivalMachine:
    """A rival by its name in `h2sim baseline list`. Raises BaselineError for an unknown name."""
    if name not in BASELINES:
        raise BaselineError(at("baseline", "name", f"one of {', '.join(BASELINES)}", repr(name)))
    file, changes = BASELINES[name]
    machine = load_machine(file)
    if isinstance(machine, Arch):
        raise BaselineError(at(file, "machine", "a rival's", machine.machine))
    return machine.model_copy(update=changes)


def run_baseline(name: str, trace: Trace, table: EnergyTable) -> RivalResult:
    """A rival by its name in `h2sim baseline list` on a trace."""
    return run_rival(load_baseline(name), trace, table)
