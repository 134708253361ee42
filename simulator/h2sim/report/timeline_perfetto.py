"""A timeline as a Perfetto trace (.pftrace): packets of protos/perfetto/trace/trace_packet.proto of google/perfetto.

The fields that are written, by message (number name):

* Trace: 1 packet
* TracePacket: 5 chrome_events, 6 clock_snapshot, 8 timestamp, 10 trusted_packet_sequence_id, 11 track_event,
  12 interned_data, 13 sequence_flags, 59 trace_packet_defaults, 60 track_descriptor
* ClockSnapshot: 1 clocks (1 clock_id, 2 timestamp, 3 is_incremental); TracePacketDefaults: 58 timestamp_clock_id
* TrackDescriptor: 1 uuid, 2 name, 3 process (1 pid, 6 process_name), 4 thread (1 pid, 2 tid, 5 thread_name),
  5 parent_uuid, 8 counter (6 unit_name)
* InternedData: 2 event_names, 3 debug_annotation_names (of each: 1 iid, 2 name)
* TrackEvent: 4 debug_annotations (1 name_iid, 3 uint_value), 9 type, 10 name_iid, 11 track_uuid,
  44 double_counter_value, 47 flow_ids, 48 terminating_flow_ids
* ChromeEventBundle: 2 metadata (1 name, 2 string_value, 4 int_value)

Times are differences to the packet before (an incremental clock), and names stand in the file once: it stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from h2sim.io.protobuf import block, double, fixed64, number
from h2sim.report.timeline import PROCESSES, Counter, Slice, Timeline, Track

SEQUENCE = number(10, 1)  # all packets are of one
CLEARED, NEEDED = number(13, 1), number(13, 2)  # sequence_flags: interned names start anew; they are used
BOOTTIME, INCREMENTAL = 6, 64  # clocks: Perfetto's own, and the first that is a sequence's
BEGIN, END, COUNTER = 1, 2, 4  # types of a track event
Timed = tuple[int, bytes]  # ns, and the track event


def perfetto_trace(timeline: Timeline) -> bytes:
    """The file as bytes: the same for the same timeline."""
    names = {name: iid for iid, name in enumerate(dict.fromkeys(s.name for s in timeline.slices), start=1)}
    args = {name: iid for iid, name in enumerate(dict.fromkeys(a for s in timeline.slices for a in s.args), start=1)}
    packets = [_start(names, args), _told(timeline), *_tracks(timeline)]
    before, events = 0, _events(timeline, names, args)
    for ns, event in sorted(events, key=itemgetter(0)):  # stable: a track's own order stays
        packets.append(number(8, ns - before) + SEQUENCE + NEEDED + block(11, event))
        before = ns
    return b"".join(block(1, packet) for packet in packets)


def _start(names: dict[str, int], args: dict[str, int]) -> bytes:
    """The first packet: the clock, what packets leave out, and the interned names."""
    clocks = block(1, number(1, BOOTTIME) + number(2, 0))
    clocks += block(1, number(1, INCREMENTAL) + number(2, 0) + number(3, 1))
    interned = b"".join(block(2, number(1, iid) + block(2, name)) for name, iid in names.items())
    interned += b"".join(block(3, number(1, iid) + block(2, name)) for name, iid in args.items())
    return SEQUENCE + CLEARED + block(6, clocks) + block(59, number(58, INCREMENTAL)) + block(12, interned)


def _told(timeline: Timeline) -> bytes:
    """The metadata: what the timeline was made of."""
    entries = [
        block(1, name) + (number(4, value) if isinstance(value, int) else block(2, value))
        for name, value in timeline.told.items()
    ]
    return SEQUENCE + number(8, 0) + block(5, b"".join(block(2, entry) for entry in entries))


def _tracks(timeline: Timeline) -> Iterator[bytes]:
    """Descriptors: processes, below them a thread per track and the counters."""
    for pid, name in PROCESSES.items():
        yield _descriptor(pid, block(3, number(1, pid) + block(6, name)))
    uuids = _uuids(timeline)
    for track in timeline.tracks:
        thread = number(1, track.pid) + number(2, track.tid) + block(5, track.name)
        yield _descriptor(uuids[track], number(5, track.pid) + block(4, thread))
    for counter in timeline.counters:
        unit = block(8, block(6, counter.unit))
        yield _descriptor(uuids[counter], number(5, counter.pid) + block(2, f"{counter.name} {counter.unit}") + unit)


def _descriptor(uuid: int, content: bytes) -> bytes:
    return SEQUENCE + block(60, number(1, uuid) + content)


def _uuids(timeline: Timeline) -> dict[Track | Counter, int]:
    """Small numbers, which take a byte; a process's is its pid."""
    named: tuple[Track | Counter, ...] = (*timeline.tracks, *timeline.counters)
    return {one: uuid for uuid, one in enumerate(named, start=max(PROCESSES) + 1)}


def _events(timeline: Timeline, names: dict[str, int], args: dict[str, int]) -> Iterator[Timed]:
    """Track after track in its order of time; memories first, so that a flow's begin stands before its end."""
    flows: dict[Slice, bytes] = {}
    for identity, flow in enumerate(timeline.flows, start=1):
        for field, one in ((47, flow.left), (48, flow.entered)):
            flows[one] = flows.get(one, b"") + fixed64(field, identity)
    uuids = _uuids(timeline)
    for track in reversed(timeline.tracks):
        mine = [one for one in timeline.slices if one.track is track]
        uuid = number(11, uuids[track])
        for is_begin, cycle, one in _nested(mine):
            about = _begin(one, names, args) + flows.get(one, b"") if is_begin else number(9, END)
            yield timeline.clock.ns(cycle), about + uuid
    for counter in timeline.counters:
        yield from _points(timeline, counter, uuids[counter])


def _nested(slices: list[Slice]) -> Iterator[tuple[bool, int, Slice]]:
    """Begins and ends of one track's slices: what lies inside another begins after it and ends before it."""
    open_: list[Slice] = []
    for one in sorted(slices, key=lambda each: (each.start, -each.end)):
        while open_ and open_[-1].end <= one.start:
            yield False, open_[-1].end, open_.pop()
        yield True, one.start, one
        open_.append(one)
    while open_:
        yield False, open_[-1].end, open_.pop()


def _begin(one: Slice, names: dict[str, int], args: dict[str, int]) -> bytes:
    told = b"".join(block(4, number(1, args[name]) + number(3, value)) for name, value in one.args.items())
    return number(9, BEGIN) + number(10, names[one.name]) + told


def _points(timeline: Timeline, counter: Counter, uuid: int) -> Iterator[Timed]:
    for cycle, value in counter.points:
        yield timeline.clock.ns(cycle), number(9, COUNTER) + number(11, uuid) + double(44, value)
