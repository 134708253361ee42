"""Which of several GPU traces is the baseline: of each device the fastest whose values are the reference's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from h2sim.compare.measurement import Measurement
from h2sim.gpu.trace import GpuTrace

Named = tuple[str, GpuTrace]  # a file's name and what it holds
Machine = tuple[str, tuple[str, ...]]  # a device, and the phases that its step covers
SORTS = (
    "of its device's whose values are checked and equal", "of its device's, of which no values are checked",
    "of its device's, of which all values differ",
)  # fmt: skip


def measurements(traces: Sequence[Named]) -> list[Measurement]:
    """The traces as Measurements, in their order.

    Of several of one device and the same phases one is the baseline; the others are passed over, and say why. They are
    called by device and implementation, and by their file too where these are alike.
    """
    best = {machine: strongest(those) for machine, those in _by_machine(traces).items() if len(those) > 1}
    called = _called(traces)
    return [_placed(named, best.get(_machine(named[1])), called) for named in traces]


def strongest(traces: Sequence[Named]) -> Named:
    """The fastest per sample of those whose values are the reference's; where there are none, of those not checked;
    where there are none of these either, of all."""
    return min(traces, key=lambda named: (_rank(named[1]), _seconds(named[1])))


def _rank(trace: GpuTrace) -> int:
    return 1 if trace.values is None else 0 if trace.values.equal else 2


def _seconds(trace: GpuTrace) -> float:
    return trace.step.seconds / trace.samples


def _placed(named: Named, best: Named | None, called: Mapping[str, str]) -> Measurement:
    """A trace as a Measurement that says its place beside the baseline. best: None where it is alone."""
    name, trace = named
    found = trace.to_measurement()
    if best is None:
        return found
    passed_over = "" if named == best else _why(trace, best[1], called[best[0]])
    told = f"passed over: {passed_over}" if passed_over else f"the baseline: the fastest {SORTS[_rank(trace)]}"
    return replace(found, system=called[name], passed_over=passed_over, assumptions=(told, *found.assumptions))


def _why(trace: GpuTrace, best: GpuTrace, called: str) -> str:
    """Why a trace is not the baseline."""
    if _rank(trace) > _rank(best):
        return "its values are not checked" if trace.values is None else f"its values are {trace.values.told}"
    return f"{_seconds(trace) / _seconds(best):.3g}x the time of {called}"


def _machine(trace: GpuTrace) -> Machine:
    return trace.device.name, trace.phases


def _by_machine(traces: Sequence[Named]) -> dict[Machine, list[Named]]:
    found: dict[Machine, list[Named]] = {}
    for name, trace in traces:
        found.setdefault(_machine(trace), []).append((name, trace))
    return found


def _called(traces: Sequence[Named]) -> dict[str, str]:
    """A name for each trace that no other of them has."""
    short = {name: f"{trace.device.name}, {trace.implementation}" for name, trace in traces}
    names = list(short.values())
    return {name: called if names.count(called) == 1 else f"{called}, {name}" for name, called in short.items()}
