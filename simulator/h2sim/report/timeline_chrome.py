"""A timeline in Chrome trace event format: JSON that Perfetto and chrome://tracing open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from h2sim.report.timeline import PROCESSES, Clock, Flow, Slice, Timeline

Event = dict[str, Any]


def chrome_events(timeline: Timeline) -> dict[str, Any]:
    """The file as a value. Times are us, thousandths exact; exact cycles stand in each event's args."""
    events = [*_names(timeline), *(_slice(each, timeline.clock) for each in timeline.slices)]
    events += [*_counters(timeline), *_flows(timeline)]
    return {"displayTimeUnit": "ns", "otherData": timeline.told, "traceEvents": events}


def _names(timeline: Timeline) -> Iterator[Event]:
    for pid, name in PROCESSES.items():
        yield {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": name}}
        for track in timeline.tracks:
            if track.pid == pid:
                yield {"name": "thread_name", "ph": "M", "pid": pid, "tid": track.tid, "args": {"name": track.name}}


def _slice(one: Slice, clock: Clock) -> Event:
    first, track = clock.ns(one.start), one.track
    span = {"ts": first / 1000, "dur": (clock.ns(one.end) - first) / 1000}
    return {"name": one.name, "ph": "X", "pid": track.pid, "tid": track.tid, **span, "args": one.args}


def _counters(timeline: Timeline) -> Iterator[Event]:
    for counter in timeline.counters:
        for cycle, value in counter.points:
            at = timeline.clock.ns(cycle) / 1000
            yield {"name": counter.name, "ph": "C", "pid": counter.pid, "ts": at, "args": {counter.unit: value}}


def _flows(timeline: Timeline) -> Iterator[Event]:
    for identity, flow in enumerate(timeline.flows, start=1):
        yield _end(flow, identity, timeline.clock, {"ph": "s"})
        yield _end(flow, identity, timeline.clock, {"ph": "f", "bp": "e"})


def _end(flow: Flow, identity: int, clock: Clock, how: Event) -> Event:
    at = flow.left if how["ph"] == "s" else flow.entered
    where = {"pid": at.track.pid, "tid": at.track.tid, "ts": clock.ns(at.start) / 1000}
    return {"name": "results", "cat": "results", "id": identity, **how, **where}
