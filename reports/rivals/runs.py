"""Every machine on every shipped trace of real training: what the page on rivals is made of."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import h2sim
from h2sim.arch import Arch
from h2sim.compare.measurement import Measurement
from h2sim.compare.ratios import Comparison, compare, measurement_of
from h2sim.errors import ArchError
from h2sim.io import library
from h2sim.io.fields import with_fields
from h2sim.rivals.machine import ClockedMachine, RivalMachine, with_bandwidth
from h2sim.rivals.result import RivalResult
from h2sim.trace import Trace, load_trace, write_trace

OURS = "h2learn"
FORWARD = ("forward",)
# Readings of a machine that its source leaves open: a name for each, and the fields that it changes.
READINGS: dict[str, dict[str, dict[str, object]]] = {
    "prosperity": {"finding hides behind the whole layer's adds (the authors' form)": {"array.overlap": "layer"}},
    "spinalflow": {"every spike counts, not each neuron's first alone": {"coding": "every_spike"}},
    "dense-array": {"folds follow without a gap": {"array.overlap_skew": True}},
}


@dataclass(frozen=True)
class Ran:
    """A machine's step on a trace. name: of its arch file."""

    name: str
    result: h2sim.Result | RivalResult
    measured: Measurement

    @property
    def trains(self) -> bool:
        """Whether it ran all three phases."""
        return len(self.measured.phases) == 3


@dataclass(frozen=True)
class Step:
    """One trace, with all its phases or forward alone, on every machine; `rivals` without those that have no row."""

    trace: Trace
    ours: Ran
    rivals: tuple[Ran, ...]

    def comparisons(self) -> list[tuple[Ran, Comparison]]:
        """Ours against each rival."""
        return [(each, compare(self.ours.measured, each.measured)) for each in self.rivals]


def machines() -> dict[str, RivalMachine]:
    """All rivals that h2sim ships, by the name of their file."""
    found = {name: h2sim.load_machine(name) for name in library.names("arch")}
    return {name: machine for name, machine in found.items() if isinstance(machine, RivalMachine)}


def real_traces() -> list[str]:
    """The shipped traces, of real training."""
    return [name for name in library.names("trace") if load_trace(name).meta.source["kind"] != "synthetic"]


@contextmanager
def inference(trace: Trace) -> Iterator[Trace]:
    """The forward pass of a training step alone, as a trace of inference: the same spikes."""
    with tempfile.TemporaryDirectory() as folder, np.load(trace.path) as members:
        meta = {**json.loads(members["meta"].tobytes()), "phases": list(FORWARD)}
        kept = [name for name in members.files if name != "meta" and not name.endswith(".grad")]
        path = Path(folder) / trace.path.name
        write_trace(path, meta, {name: members[name] for name in kept})
        yield load_trace(path)


def run(name: str, machine: Arch | RivalMachine, trace: Trace) -> Ran:
    """One machine on one trace, priced by the table 28nm."""
    result = h2sim.simulate(machine, trace)
    measured = result.measurement() if isinstance(result, RivalResult) else measurement_of(result.to_dict(), name)
    return Ran(name, result, measured)


def step(trace: Trace, *, same_memory: bool) -> Step:
    """All machines on a trace; `same_memory`: rivals have a memory of our bandwidth."""
    arch = h2sim.load_arch(OURS)
    wide = arch.memory.bandwidth_bytes_per_s
    chosen = {n: with_bandwidth(m, wide) if same_memory else m for n, m in machines().items()}
    return Step(trace, run(OURS, arch, trace), tuple(run(n, m, trace) for n, m in chosen.items()))


def changed(machine: RivalMachine, fields: Mapping[str, object], where: str) -> RivalMachine:
    """A machine with some of its fields changed."""
    return with_fields(machine, fields, where, ArchError)


def dense_of(lanes: int, machine: ClockedMachine) -> RivalMachine:
    """A dense array of as many multiply-accumulates as a machine has lanes, at its clock and with its bandwidth."""
    rows = max(r for r in range(1, int(lanes**0.5) + 1) if lanes % r == 0)
    fields = {
        "array.rows": rows, "array.columns": lanes // rows, "clock_hz": machine.clock_hz,
        "memory": machine.memory.model_dump(),
    }  # fmt: skip
    return changed(machines()["dense-array"], fields, f"dense array of {lanes}")


def readings(name: str, machine: RivalMachine, trace: Trace) -> dict[str, int]:
    """Compute cycles by each reading, the shipped one first; empty for a machine of one reading."""
    told = {"as shipped": {}, **READINGS[name]} if name in READINGS else {}
    found = {}
    for said, fields in told.items():
        rows = h2sim.simulate(changed(machine, fields, name), trace).to_rows()
        found[said] = sum(row.cycles.compute for row in rows if row.cycles)
    return found


@dataclass(frozen=True)
class Study:
    """Everything that the page shows. training, inference: a step for each trace and memory, `same` or `own`.

    dense: seconds of a dense array of as many multiply-accumulates, at a machine's clock and bandwidth, by trace,
    machine and phases. readings: compute cycles by trace, machine and reading.
    """

    training: Mapping[tuple[str, str], Step]
    inference: Mapping[tuple[str, str], Step]
    dense: Mapping[tuple[str, str, str], float]
    readings: Mapping[tuple[str, str], Mapping[str, int]]

    @property
    def traces(self) -> list[str]:
        """The traces' names."""
        return list(dict.fromkeys(trace for trace, _ in self.training))


def study(told: Callable[[str], None] = lambda said: None) -> Study:
    """Runs all machines on all shipped traces of real training."""
    found = Study({}, {}, {}, {})
    for name in real_traces():
        told(f"{name} ...")
        trace = load_trace(name)
        with inference(trace) as forward:
            for kind, steps, each in (("training", found.training, trace), ("inference", found.inference, forward)):
                for memory in ("own", "same"):
                    steps[name, memory] = step(each, same_memory=memory == "same")
                _against_dense(found, name, kind, each)
            for rival, machine in machines().items():
                if cycles := readings(rival, machine, forward):
                    found.readings[name, rival] = cycles
    return found


def _against_dense(found: Study, name: str, kind: str, trace: Trace) -> None:
    steps = found.training if kind == "training" else found.inference
    for ran in (steps[name, "own"].ours, *steps[name, "own"].rivals):
        machine = h2sim.load_machine(ran.name)
        if ran.measured.lanes and machine.machine != "dense-array" and (kind == "inference" or ran.trains):
            dense = run("dense", dense_of(ran.measured.lanes, machine), trace).measured
            ratio = compare(ran.measured, dense)
            whole = ratio.step or ratio.phases[0]
            found.dense[name, ran.name, kind] = whole.speedup or 0.0
