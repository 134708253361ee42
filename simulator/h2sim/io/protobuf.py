"""Protocol Buffers on the wire: the four kinds of fields that a trace needs, as bytes that are joined to messages.

The encoding is that of protobuf.dev/programming-guides/encoding: a tag (field number and wire type), then the value.
"""

from __future__ import annotations

import struct

_VARINT, _FIXED64, _BLOCK = 0, 1, 2  # wire types


def varint(value: int) -> bytes:
    """A whole number from 0 on, seven bits to a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """A field of type uint32, uint64, bool, an enum, or an int64 that is not negative."""
    return varint(field << 3 | _VARINT) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    """A field of type fixed64."""
    return varint(field << 3 | _FIXED64) + struct.pack("<Q", value)


def double(field: int, value: float) -> bytes:
    """A field of type double."""
    return varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def block(field: int, value: bytes | str) -> bytes:
    """A field of type string or bytes, or a message inside another."""
    content = value.encode("utf-8") if isinstance(value, str) else value
    return varint(field << 3 | _BLOCK) + varint(len(content)) + content
