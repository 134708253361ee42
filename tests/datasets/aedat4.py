"""AEDAT 4 files, written byte by byte: no package here writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

NODES = """<dv version="2.0"><node name="outInfo" path="/outInfo/"><node name="0" path="/outInfo/0/">\
<attr key="compression" type="string">NONE</attr><attr key="originalModuleName" type="string">c</attr>\
<attr key="originalOutputName" type="string">events</attr><attr key="typeDescription" type="string">events</attr>\
<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/outInfo/0/info/">\
<attr key="sizeX" type="int">16</attr><attr key="sizeY" type="int">12</attr>\
<attr key="source" type="string">DVX</attr></node></node></node></dv>"""
PACKINGS = {"none": 0, "lz4": 1, "zstd": 3}
KIB = 1024


def file(packing: str, *packets: bytes) -> bytes:
    """A file of one stream of events, 16 x 12 pixels; packets as they are packed."""
    nodes = NODES.encode()
    layout = struct.pack("<5H", 10, 20, 4, 8, 16) + bytes(2)  # of the table behind it: sizes, then where its fields are
    table = struct.pack("<iiqI", len(layout), PACKINGS[packing], -1, 4)
    header = struct.pack("<I", 24) + b"IOHE" + bytes(4) + layout + table
    header += struct.pack("<I", len(nodes)) + nodes + b"\0"
    parts = b"".join(struct.pack("<2I", 0, len(packet)) + packet for packet in packets)
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header + parts


def events(found: Sequence[tuple[int, int, int, bool]]) -> bytes:
    """A packet of events (t, x, y, on), not packed."""
    body = struct.pack("<I", 16) + b"EVTS" + struct.pack("<3H", 6, 8, 4) + bytes(2) + struct.pack("<iI", 8, 4)
    body += struct.pack("<I", len(found)) + b"".join(struct.pack("<qhhB3x", *event) for event in found)
    return struct.pack("<I", len(body)) + body


def zstd(*blocks: tuple[int, bytes, int], size: int | None = None) -> bytes:
    """A frame of blocks (kind, content, size); it states its own size where one is given."""
    head = b"\x28\xb5\x2f\xfd" + (b"\0\x58" if size is None else b"\x80\x58" + struct.pack("<I", size))
    last = len(blocks) - 1
    return head + b"".join(
        (int(n == last) | kind << 1 | length << 3).to_bytes(3, "little") + content
        for n, (kind, content, length) in enumerate(blocks)
    )


def stored(content: bytes) -> tuple[int, bytes, int]:
    return 0, content, len(content)


def repeated(length: int = 128 * KIB) -> tuple[int, bytes, int]:
    return 1, b"\0", length


def lz4(*blocks: tuple[bool, bytes]) -> bytes:
    """A frame of blocks (stored, content) of at most 4 MiB, without sums; only its header has one, of one byte."""
    body = b"".join(struct.pack("<I", len(content) | kept << 31) + content for kept, content in blocks)
    return b"\x04\x22\x4d\x18\x60\x70\x73" + body + bytes(4)
