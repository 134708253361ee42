"""Power gating: in which cycles of a step an engine and its buffers leak (`power_gating` of the arch file [A]).

A job holds its engine from the first cycle in which it computes, waits for its memory or moves a byte, to the end of
its last compute cycle or of the last byte that it writes, whichever is later. So transfers ahead of the engine's turn
and results on their way to memory count, for buffers hold them; waiting for other layers does not. Nothing is lost, for
no job finds in a buffer what another left there. Gates open and close in no time and for no energy [A].
"""

from __future__ import annotations

from collections.abc import Iterable

from h2sim.activity import Engine, JobKey, LayerActivity, MemorySlice, SteadyState
from h2sim.arch.schema import PowerGating

Span = tuple[int, int]  # start <= cycle < end
Spans = tuple[Span, ...]  # in order, none touches the next


def leaking_spans(activity: SteadyState, engine: Engine, gating: PowerGating) -> Spans:
    """The cycles of a steady step in which an engine's PE array, Acc and neuron unit leak."""
    if gating == "none":
        return united([(0, activity.steady_cycles)])
    return united(span for row, span in _held(activity) if row.engine == engine)


def buffer_spans(activity: SteadyState, engine: Engine, buffer: str, gating: PowerGating) -> Spans:
    """The cycles of a steady step in which one buffer of an engine leaks.

    With 'buffer', those of the jobs that read or write it; else those of its engine.
    """
    if gating != "buffer":
        return leaking_spans(activity, engine, gating)
    return united(span for row, span in _held(activity) if row.engine == engine and _uses(row, buffer))


def united(spans: Iterable[Span]) -> Spans:
    """The cycles that lie in any of the spans, each counted once."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def cycles_within(spans: Spans, start: int, end: int) -> int:
    """How many cycles of `spans` lie between start and end."""
    return sum(max(0, min(end, last) - max(start, first)) for first, last in spans)


def _held(activity: SteadyState) -> list[tuple[LayerActivity, Span]]:
    """Each row with the cycles in which its job holds its engine."""
    moved: dict[JobKey, list[MemorySlice]] = {}
    for part in activity.memory:
        moved.setdefault((part.layer, part.phase), []).append(part)
    return [(row, _span(row, moved.get((row.layer, row.phase), []))) for row in activity.layers]


def _span(row: LayerActivity, moved: list[MemorySlice]) -> Span:
    """Waiting for other layers stands at the start of a row, for a job that has begun depends on none any more."""
    begun = row.start_cycle + row.stalls.dependency
    starts, ends = [part.start_cycle for part in moved], [part.end_cycle for part in moved]
    return min([begun, *starts]), max([row.end_cycle, *ends])


def _uses(row: LayerActivity, buffer: str) -> bool:
    return any(b.buffer == buffer and b.read_bytes + b.write_bytes for b in row.buffers)
