"""AEDAT 3.1: packets of a header and events, of which the valid polarity events count.

A packet's header says what its events are, how many, and how often the clock has overflowed. A polarity event is a
little-endian word (bit 0 valid, bit 1 ON, bits 2-16 y, bits 17-31 x) and a time in us of 31 bits; the overflows are the
bits above. Recordings are long and samples short: an index of the packets' times finds those of a part.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from h2sim.arrays import Array, Ints
from h2sim.datasets.aedat_header import Header
from h2sim.datasets.events import Recording, checked
from h2sim.datasets.files import MOST_EVENTS, MOST_RECORDING_BYTES, opened_data
from h2sim.errors import DatasetError, at
from h2sim.io.faults import show

# type, source, bytes of an event, where its time is, overflows, capacity, number of events, and of valid ones
PACKET_HEADER = struct.Struct("<hhiiiiii")
POLARITY_EVENT, EVENT_BYTES = 1, 8
RUN_EVENTS = 1 << 13  # an index entry: 64 KiB
SENSORS = {
    **dict.fromkeys(("DVS128", "DAVIS128"), (128, 128)),
    **dict.fromkeys(("DAVIS240A", "DAVIS240B", "DAVIS240C"), (180, 240)),
    **dict.fromkeys(("DAVIS346A", "DAVIS346B", "DAVIS346C", "DAVIS346Cbsi"), (260, 346)),
    "DAVIS208": (192, 208),
    "DAVIS640": (480, 640),
    "DAVISHet640": (240, 320),
}
"""(H, W) by the name of the source in the file's header."""


@dataclass(frozen=True, eq=False)
class Run:
    """Packets that follow each other. start, stop: their bytes in the file.

    t_us: int64 (n,), words: uint32 (n,), of their n valid polarity events.
    """

    start: int
    stop: int
    t_us: Ints
    words: Array

    def between(self, start_us: int, stop_us: int) -> Run:
        """The run with those of its events that have start_us <= t < stop_us."""
        kept = (self.t_us >= start_us) & (self.t_us < stop_us)
        return Run(self.start, self.stop, self.t_us[kept], self.words[kept])


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """Which bytes of a recording hold which times. sensor: (H, W).

    runs: int64 (n, 4), each row a run of packets: its first byte and the one behind it, its least and largest time in
    us.
    """

    path: str
    sensor: tuple[int, int]
    runs: Ints

    def between(self, start_us: int, stop_us: int) -> Recording | None:
        """The events with start_us <= t < stop_us, None where there is none.

        Raises DatasetError if the file is damaged there.
        """
        found = self.runs[(self.runs[:, 3] >= start_us) & (self.runs[:, 2] < stop_us)]
        with opened_data(Path(self.path), MOST_RECORDING_BYTES) as file:
            parts = [run for first, last in found[:, :2].tolist() for run in _runs(self.path, file, first, last)]
        parts = [run.between(start_us, stop_us) for run in parts]
        return _recording(self.path, parts, self.sensor) if any(len(run.t_us) for run in parts) else None


def index_packets(path: str, header: Header, sensor: tuple[int, int]) -> PacketIndex:
    """Reads a recording once, a run of packets at a time. Raises DatasetError if it is damaged or has no event."""
    rows = [(run.start, run.stop, run.t_us.min(), run.t_us.max()) for run in _all_runs(path, header) if len(run.t_us)]
    if not rows:
        raise DatasetError(at(path, "events", "at least one", 0))
    return PacketIndex(path, sensor, np.array(rows, np.int64))


def read_aedat3(path: str, header: Header) -> Recording:
    """All events of a recording, on the sensor that the header names.

    Raises DatasetError if the file is damaged, is of a sensor that is not known, or has no event or too many.
    """
    sensor, runs, n_events = _sensor(path, header), [], 0
    for run in _all_runs(path, header):
        runs.append(run)
        n_events += len(run.t_us)
        if n_events > MOST_EVENTS:
            raise DatasetError(at(path, "events", f"at most {MOST_EVENTS}", "more"))
    return _recording(path, runs, sensor)


def _recording(path: str, runs: Sequence[Run], sensor: tuple[int, int]) -> Recording:
    t_us = np.concatenate([np.empty(0, np.int64), *(run.t_us for run in runs)])
    words = np.concatenate([np.empty(0, np.uint32), *(run.words for run in runs)])
    return checked(Path(path), t_us, words >> 17, words >> 2 & 0x7FFF, words >> 1 & 1 == 1, sensor)


def _sensor(path: str, header: Header) -> tuple[int, int]:
    """(H, W) of what the header names; a DVS128's where it names none."""
    sizes = set()
    for source in sorted(header.sources):
        if source not in SENSORS:
            raise DatasetError(at(path, "source", f"one of {', '.join(SENSORS)}", show(source)))
        sizes.add(SENSORS[source])
    if len(sizes) > 1:
        raise DatasetError(at(path, "sources", "of one sensor size", ", ".join(sorted(header.sources))))
    return next(iter(sizes), SENSORS["DVS128"])


def _all_runs(path: str, header: Header) -> Iterator[Run]:
    with opened_data(Path(path), MOST_RECORDING_BYTES) as file:
        yield from _runs(path, file, header.n_bytes, file.seek(0, 2))


def _runs(path: str, file: IO[bytes], start: int, stop: int) -> Iterator[Run]:
    """The packets of a part of the file; a run ends as soon as it has RUN_EVENTS."""
    bodies: list[bytes] = []
    overflows: list[int] = []
    counts: list[int] = []
    place, n_events = start, 0
    for after, overflow, events in _packets(path, file, start, stop):
        if events:
            bodies.append(events)
            overflows.append(overflow)
            counts.append(len(events) // EVENT_BYTES)
            n_events += counts[-1]
        if n_events >= RUN_EVENTS or after == stop:
            yield _run(place, after, bodies, overflows, counts)
            bodies, overflows, counts, place, n_events = [], [], [], after, 0


def _run(start: int, stop: int, bodies: Iterable[bytes], overflows: list[int], counts: list[int]) -> Run:
    pairs = np.frombuffer(b"".join(bodies), "<u4").reshape(-1, 2)
    t_us = pairs[:, 1] + np.repeat(np.array(overflows, np.int64) << 31, np.array(counts, np.int64))
    valid = pairs[:, 0] & 1 == 1
    return Run(start, stop, t_us[valid], pairs[:, 0][valid])


def _packets(path: str, file: IO[bytes], place: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    """Where each packet ends, its overflows, and its polarity events, none of a packet of others."""
    file.seek(place)
    while place < stop:
        head = file.read(min(PACKET_HEADER.size, stop - place))
        if len(head) < PACKET_HEADER.size:
            raise DatasetError(at(path, "packet header", f"{PACKET_HEADER.size} bytes", len(head)))
        kind, _, size, _, overflow, capacity, number, _ = PACKET_HEADER.unpack(head)
        place += PACKET_HEADER.size
        if size < 1 or not 0 <= number <= capacity or (kind == POLARITY_EVENT and size != EVENT_BYTES):
            wanted = "a packet's type and counts (polarity events have 8 bytes)"
            got = f"type {kind}, {number} of {capacity} events of {size} bytes"
            raise DatasetError(at(path, "packet header", wanted, got))
        n_events = number if kind == POLARITY_EVENT else 0
        if n_events > MOST_EVENTS:
            raise DatasetError(at(path, "packet", f"at most {MOST_EVENTS} events", n_events))
        events = file.read(n_events * EVENT_BYTES) if size * capacity <= stop - place else b""
        if size * capacity > stop - place or len(events) < n_events * EVENT_BYTES:  # the file may change as it is read
            raise DatasetError(at(path, "packet", f"{size * capacity} bytes of events", stop - place))
        place += size * capacity
        if len(events) < size * capacity:
            file.seek(place)
        yield place, overflow, events
