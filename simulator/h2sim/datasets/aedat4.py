"""AEDAT 4: the package aedat decodes it, after a look at what that would believe unseen."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.datasets.events import Recording, checked
from h2sim.datasets.files import MOST_EVENTS, MOST_RECORDING_BYTES, check_data_file
from h2sim.datasets.frames import Unpacked
from h2sim.errors import DatasetError, at
from h2sim.io.reading import MIB

MAGIC = b"#!AER-DAT4.0\r\n"
PACKET_START_BYTES = 8
MOST_PACKET_BYTES = 256 * MIB  # unpacked, 16 for an event; sensors write some thousand events a packet


def _check_aedat4(path: str) -> None:
    """Raises DatasetError for what the decoder would not name: a file that cannot be read, a part longer than it.

    The decoder makes room for the header and for each packet before it reads them, and unpacks a packet whole. The
    header is a length and a flatbuffer; a packet is its stream, its length and as many bytes.
    """
    check_data_file(Path(path), MOST_RECORDING_BYTES)
    size, place = Path(path).stat().st_size, len(MAGIC)
    with Path(path).open("rb") as file:
        if file.read(place) != MAGIC:
            return
        header = file.read(_length(path, "header", file.read(4), size - place - 4))
        place += 4 + len(header)
        _check_streams(path, header)
        end = _packets_end(header, size)
        while place != end and size - place >= PACKET_START_BYTES:
            file.seek(place)
            start = file.read(PACKET_START_BYTES)
            place += PACKET_START_BYTES
            length = _length(path, "packet", start[4:], size - place)
            if Unpacked(file, place, place + length, MOST_PACKET_BYTES).walk().too_large:
                raise DatasetError(at(path, "packet", f"at most {MOST_PACKET_BYTES} bytes when unpacked", "more"))
            place += length


def _length(path: str, what: str, stated: bytes, left: int) -> int:
    declared = int.from_bytes(stated, "little")
    if declared > left:
        raise DatasetError(at(path, what, f"{declared} bytes, as it says", max(left, 0)))
    return declared


def _packets_end(header: bytes, size: int) -> int:
    """Where the packets end: the second field of the header's flatbuffer, else the end of the file."""
    try:
        (end,) = struct.unpack_from("<q", header, _field(header, 1))
    except struct.error:
        return size
    return int(end) if end > 0 else size


def _check_streams(path: str, header: bytes) -> None:
    """Raises DatasetError unless the header's description of its streams, its third field, is text in UTF-8.

    The decoder takes it for that unseen, and ends the process where it is not.
    """
    try:
        place = _field(header, 2)
        start = place + struct.unpack_from("<I", header, place)[0]
        (length,) = struct.unpack_from("<I", header, start)
        header[start + 4 : start + 4 + length].decode("utf-8")
    except struct.error:
        return
    except UnicodeDecodeError:
        raise DatasetError(at(path, "header", "a description of the streams in UTF-8", "other bytes")) from None


def _field(header: bytes, number: int) -> int:
    """Where a field of the header's flatbuffer stands. Raises struct.error where there is none."""
    (root,) = struct.unpack_from("<I", header, 0)
    layout = root - struct.unpack_from("<i", header, root)[0]
    extent, _ = struct.unpack_from("<2H", header, layout) if layout >= 0 else (0, 0)
    field = struct.unpack_from("<H", header, layout + 4 + 2 * number)[0] if extent >= 6 + 2 * number else 0
    if not field:
        raise struct.error("no such field")
    return int(root + field)


def _packets(path: str, decoder: Any, streams: Any) -> list[Any]:
    """The packets of events; no more of them than memory can be expected to hold, whatever they were packed into."""
    packets, n_events = [], 0
    for packet in decoder:
        if packet["stream_id"] in streams:
            packets.append(packet["events"])
            n_events += len(packets[-1])
            if n_events > MOST_EVENTS:
                raise DatasetError(at(path, "events", f"at most {MOST_EVENTS}", "more"))
    return packets


@contextmanager
def _no_panic_shown() -> Iterator[None]:
    """A block in which nothing reaches the process's standard error: the compiled decoder writes its panics there."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def read_aedat4(path: str) -> Recording:
    """The events of an .aedat4 file, on the sensor size that it states.

    Raises DatasetError if the file is damaged, has no events, or the package aedat is not installed.
    """
    try:
        import aedat
    except ModuleNotFoundError:
        raise DatasetError(at(path, "reading .aedat4", "the package aedat (pip install aedat)", "none")) from None
    _check_aedat4(path)
    try:
        with _no_panic_shown():
            decoder = aedat.Decoder(path)
            streams = {number: s for number, s in decoder.id_to_stream().items() if s["type"] == "events"}
            packets = _packets(path, decoder, streams)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except DatasetError:
        raise
    except BaseException as error:  # damage can make the compiled decoder panic, which is no Exception
        reason = " ".join(str(error).split())
        raise DatasetError(at(path, "content", "a whole AEDAT 4 file", reason)) from None
    if len(streams) != 1:
        raise DatasetError(at(path, "event streams", "one", len(streams)))
    (stream,) = streams.values()
    sensor = (stream["height"], stream["width"])
    if not packets:
        raise DatasetError(at(path, "events", "at least one", 0))
    events = np.concatenate(packets)
    return checked(Path(path), events["t"], events["x"], events["y"], events["on"], sensor)
