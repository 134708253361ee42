"""AEDAT files: the recordings of iniVation's sensors, versions 2.0 (DVS128), 3.1 and 4."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.datasets.events import Recording, checked
from h2sim.datasets.files import MOST_EVENT_BYTES, check_data_file, data_bytes
from h2sim.datasets.frames import Unpacked
from h2sim.errors import DatasetError, at
from h2sim.io.reading import GIB, MIB

DVS128 = (128, 128)
AEDAT4_MAGIC = b"#!AER-DAT4.0\r\n"
MOST_AEDAT4_BYTES, PACKET_START_BYTES = GIB, 8
MOST_PACKET_BYTES = 256 * MIB  # unpacked, 16 for an event; sensors write some thousand events a packet
MOST_EVENTS = 1 << 25  # of an .aedat4 file, 40 bytes each in memory
SPECIAL = 1 << 15  # of a DVS128 address: a sync event, not a pixel's
POLARITY_EVENT, PACKET_HEADER_BYTES = 1, 28
PACKET_HEADER = np.dtype(
    [("type", "<i2"), ("source", "<i2")]
    + [(name, "<i4") for name in ("size", "time_offset", "overflow", "capacity", "number", "valid")]
)


def read_aedat(path: str) -> Recording:
    """The events of a recording, .aedat4 or .aedat (of a DVS128). Raises DatasetError if the file is damaged.

    The first lines of an .aedat file start with '#' and name its version. A file without one is taken for 2.0.
    """
    if path.endswith(".aedat4"):
        return read_aedat4(path)
    data = data_bytes(Path(path), MOST_EVENT_BYTES)
    version, start = _version_and_start(data)
    if version == "2.0":
        return _version_2(path, data[start:])
    if version == "3.1":
        return _version_3(path, data[start:])
    raise DatasetError(at(path, "AEDAT version", "2.0 or 3.1", version))


def _version_and_start(data: bytes) -> tuple[str, int]:
    version, start = "2.0", 0
    while data.startswith(b"#", start):
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start:end].strip()
        if line.startswith(b"#!AER-DAT"):
            version = line[len(b"#!AER-DAT") :].decode("latin1")
        start = end
        if line == b"#!END-HEADER":
            break
    return version, start


def _version_2(path: str, data: bytes) -> Recording:
    """The events of version 2.0: big-endian pairs of an address and a time in us, 32 bits each.

    Of an address, bit 0 is 1 for OFF, bits 1-7 are x', bits 8-14 are y', and bit 15 marks what is no pixel's event. The
    sensor lay on its side when CIFAR10-DVS was recorded: the upright picture has x = 127 - y', y = 127 - x'.
    """
    if len(data) % 8:
        raise DatasetError(at(path, "length", "a multiple of 8 bytes after the header, one event each", len(data)))
    address, time = np.frombuffer(data, ">u4").reshape(-1, 2).T.astype(np.int64)
    pixel = address & SPECIAL == 0
    address, time = address[pixel], time[pixel]
    if (address >> 16).any():
        raise DatasetError(at(path, "event address", "16 bits, those of a DVS128", hex(address.max())))
    return checked(Path(path), time, 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), address & 1 == 0, DVS128)


def _version_3(path: str, data: bytes) -> Recording:
    """The events of version 3.1: packets of a 28-byte header and events, of which the valid polarity events count.

    A polarity event is a little-endian word (bit 0 valid, bit 1 ON, bits 2-16 y, bits 17-31 x) and a time in us. The
    time has 31 bits; the number of overflows in the packet's header gives the bits above.
    """
    parts, start = [], 0
    while start < len(data):
        header = _packet_header(path, data, start)
        start += PACKET_HEADER_BYTES
        if header["type"] == POLARITY_EVENT:
            words = np.frombuffer(data, "<u4", 2 * int(header["number"]), start).reshape(-1, 2).astype(np.int64)
            words[:, 1] += int(header["overflow"]) << 31
            parts.append(words[words[:, 0] & 1 == 1])
        start += int(header["capacity"]) * int(header["size"])
    word, time = np.concatenate([np.empty((0, 2), np.int64), *parts]).T
    return checked(Path(path), time, word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1 == 1, DVS128)


def _packet_header(path: str, data: bytes, start: int) -> np.void:
    left = len(data) - start - PACKET_HEADER_BYTES
    if left < 0:
        raise DatasetError(at(path, "packet header", f"{PACKET_HEADER_BYTES} bytes", len(data) - start))
    header: np.void = np.frombuffer(data, PACKET_HEADER, 1, start)[0]
    size, number, capacity = (int(header[name]) for name in ("size", "number", "capacity"))
    if size < 1 or not 0 <= number <= capacity or (header["type"] == POLARITY_EVENT and size != 8):
        got = f"type {header['type']}, {number} of {capacity} events of {size} bytes"
        raise DatasetError(at(path, "packet header", "a packet's type and counts (polarity events have 8 bytes)", got))
    if size * capacity > left:
        raise DatasetError(at(path, "packet", f"{size * capacity} bytes of events", left))
    return header


def _check_aedat4(path: str) -> None:
    """Raises DatasetError for what the decoder would not name: a file that cannot be read, a part longer than it.

    The decoder makes room for the header and for each packet before it reads them, and unpacks a packet whole. The
    header is a length and a flatbuffer; a packet is its stream, its length and as many bytes.
    """
    check_data_file(Path(path), MOST_AEDAT4_BYTES)
    size, place = Path(path).stat().st_size, len(AEDAT4_MAGIC)
    with Path(path).open("rb") as file:
        if file.read(place) != AEDAT4_MAGIC:
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
