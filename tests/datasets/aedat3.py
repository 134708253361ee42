"""AEDAT 3.1 files, written byte by byte as iniVation's page of the format says."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

Event = tuple[int, int, int, bool]  # t_us, x, y, on
OVERFLOW_US = 1 << 31
HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
GESTURE_HEADER = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-07-29 16:11:25 (TZ-0700)\r\n"
    b"#!END-HEADER\r\n"
)


def packet(events: Sequence[Event], kind=1, overflow=0, size=8, spare=0, valid=1) -> bytes:
    """A packet of events of 31-bit times; `spare` is room for events that it does not hold."""
    count = len(events)
    header = struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, count + spare, count, count)
    return header + b"".join(struct.pack("<II", x << 17 | y << 2 | on << 1 | valid, t) for t, x, y, on in events)


def packets(events: Sequence[Event], at_most=3) -> bytes:
    """Packets of so many events, a new one where the 31 bits of the time overflow."""
    out, kept = b"", list(events)
    while kept:
        overflow = kept[0][0] // OVERFLOW_US
        n = next((n for n, event in enumerate(kept) if event[0] // OVERFLOW_US != overflow or n == at_most), len(kept))
        out += packet([(t % OVERFLOW_US, x, y, on) for t, x, y, on in kept[:n]], overflow=overflow)
        kept = kept[n:]
    return out


def table(rows: Sequence[tuple[int, int, int]]) -> str:
    """A table of (class, start, end), as DVS128 Gesture has it."""
    return "".join(f"{','.join(map(str, row))}\n" for row in (("class", "startTime_usec", "endTime_usec"), *rows))


def write_gestures(
    folder: Path, train: dict[str, tuple[Sequence[Event], Sequence[tuple[int, int, int]]]], test: dict
) -> Path:
    """DVS128 Gesture's files: by the trial's name its events and the rows of its table."""
    folder.mkdir(parents=True, exist_ok=True)
    for listed, trials in (("train", train), ("test", test)):
        (folder / f"trials_to_{listed}.txt").write_text("".join(f"{name}.aedat\n" for name in trials))
        for name, (events, rows) in trials.items():
            (folder / f"{name}.aedat").write_bytes(GESTURE_HEADER + packets(events))
            (folder / f"{name}_labels.csv").write_text(table(rows))
    return folder
