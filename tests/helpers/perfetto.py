"""What Perfetto's trace processor makes of both formats: slices, counters and flows, and which slices it would drop."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

PROCESSOR = os.environ.get("H2SIM_TRACE_PROCESSOR", "")
HAS_PROCESSOR = bool(PROCESSOR and shutil.which("node"))
SCRIPT = Path(__file__).parents[1] / "results" / "trace_processor.mjs"
Shown = tuple[str, str, int, int, tuple[tuple[str, int], ...]]  # track, name, ns, ns of its length, args
Place = tuple[str, int]  # track, ns


@dataclass
class Read:
    """A file as Perfetto reads it, in one order for both formats.

    flows: the places of both ends; points of counters: (name, ns, value); open_: slices without an end.
    """

    slices: list[Shown] = field(default_factory=list)
    points: list[tuple[str, int, float]] = field(default_factory=list)
    flows: list[tuple[Place, Place]] = field(default_factory=list)
    told: dict[str, str | int] = field(default_factory=dict)
    open_: int = 0

    def in_order(self) -> Read:
        """The same, sorted."""
        return Read(sorted(self.slices), sorted(self.points), sorted(self.flows), self.told, self.open_)


def ask(trace: Path, *queries: str) -> list[list[dict[str, Any]]]:
    """Rows of each SQL query from Perfetto's own trace processor, in node."""
    done = subprocess.run(
        ["node", str(SCRIPT), PROCESSOR, str(trace), *queries], capture_output=True, text=True, timeout=300, check=True
    )
    return [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("ROWS ")]


def read_chrome(document: dict[str, Any]) -> Read:
    """What stands in Chrome trace events."""
    events, read = document["traceEvents"], Read(told=document["otherData"])
    name_of = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    ends: dict[int, list[Place]] = {}
    for event in events:
        if event["ph"] == "X":
            track, span = name_of[event["pid"], event["tid"]], (_ns(event["ts"]), _ns(event["dur"]))
            read.slices.append((track, event["name"], *span, tuple(event["args"].items())))
        elif event["ph"] == "C":
            for unit, value in event["args"].items():
                read.points.append((f"{event['name']} {unit}", _ns(event["ts"]), value))
        elif event["ph"] in "sf":
            ends.setdefault(event["id"], []).append((name_of[event["pid"], event["tid"]], _ns(event["ts"])))
    read.flows = [(left, entered) for left, entered in ends.values()]
    return read.in_order()


def read_trace(content: bytes) -> Read:
    """What stands in a Perfetto trace, packet after packet, by the messages that Perfetto itself compiles."""
    trace, reader = proto.Trace(), _Reader()
    assert trace.ParseFromString(content) == len(content)
    trace.DiscardUnknownFields()
    assert trace.ByteSize() == len(content)  # there were none, and nothing is longer than it must be
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        reader.take(packet)
    reader.read.open_ = sum(map(len, reader.open_.values()))
    return reader.read.in_order()


class _Reader:
    """The state of one sequence of packets."""

    def __init__(self) -> None:
        self.read, self.now = Read(), 0
        self.names: dict[int, str] = {}
        self.args: dict[int, str] = {}
        self.tracks: dict[int, str] = {}
        self.open_: dict[int, list[tuple[str, int, tuple[tuple[str, int], ...]]]] = {}
        self.left: dict[int, Place] = {}

    def take(self, packet: Any) -> None:
        self.names |= {entry.iid: entry.name for entry in packet.interned_data.event_names}
        self.args |= {entry.iid: entry.name for entry in packet.interned_data.debug_annotation_names}
        for entry in packet.chrome_events.metadata:
            self.read.told[entry.name] = entry.string_value or entry.int_value
        if packet.HasField("track_descriptor"):
            self._describe(packet.track_descriptor)
        if packet.HasField("track_event"):
            assert packet.sequence_flags & 2
            self.now += packet.timestamp
            self._event(packet.track_event)

    def _describe(self, track: Any) -> None:
        assert track.uuid not in self.tracks
        assert not track.parent_uuid or track.parent_uuid in self.tracks
        self.tracks[track.uuid] = track.name or track.thread.thread_name or track.process.process_name

    def _event(self, event: Any) -> None:
        track, place = self.tracks[event.track_uuid], (self.tracks[event.track_uuid], self.now)
        open_ = self.open_.setdefault(event.track_uuid, [])
        if event.type == event.TYPE_COUNTER:
            self.read.points.append((track, self.now, event.double_counter_value))
        elif event.type == event.TYPE_SLICE_BEGIN:
            args = tuple((self.args[each.name_iid], each.uint_value) for each in event.debug_annotations)
            open_.append((self.names[event.name_iid], self.now, args))
            self.left |= dict.fromkeys(event.flow_ids, place)
            self.read.flows += [(self.left[identity], place) for identity in event.terminating_flow_ids]
        else:
            name, start, args = open_.pop()
            self.read.slices.append((track, name, start, self.now - start, args))


def dropped(events: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the slices that overlap another of their track in part, which Perfetto leaves out.

    Per track (pid, tid), in order of time (file order where equal): open slices that have ended are closed; a slice
    that ends after the innermost open one is dropped. Times are whole ns, start and duration rounded each, half up.
    """
    tracks: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for event in events:
        if event["ph"] == "X":
            slices = tracks.setdefault((event["pid"], event["tid"]), [])
            slices.append((_ns(event["ts"]), _ns(event["dur"]), event["name"]))
    lost = []
    for slices in tracks.values():
        open_: list[int] = []
        for start, length, name in sorted(slices, key=lambda each: each[0]):
            while open_ and open_[-1] <= start:
                open_.pop()
            if open_ and start + length > open_[-1]:
                lost.append(name)
            else:
                open_.append(start + length)
    return lost


def _ns(us: float) -> int:
    return math.floor(us * 1000 + 0.5)
