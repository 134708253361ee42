"""What a packet of Zstandard or LZ4 frames can unpack to at most, found from its blocks' headers without unpacking.

A frame of some kilobytes can hold gigabytes. A frame may state its size, but need not, and need not be right: every
block says how many bytes of the packet it takes, and what it holds has a bound.

Zstandard: RFC 8878, section 3.1.1. LZ4: its frame format, version 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

ZSTD, LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
SKIPPABLE = b"\x2a\x4d\x18"  # the last three bytes of its magic, after 0x50 to 0x5f
ZSTD_BLOCK_BYTES = 128 * 1024  # a compressed block holds no more
LZ4_RATIO = 255  # bytes that one byte of a compressed block stands for, at most
MOST_BLOCKS = 1_000_000


@dataclass
class Unpacked:
    """Walks the frames of a file from `place` to `end`; n_bytes is what those seen so far hold at most.

    most_bytes: where the walk ends, for more is not allowed. What is no frame, or is cut off, ends it too: no decoder
    gets beyond that.
    """

    file: IO[bytes]
    place: int
    end: int
    most_bytes: int
    n_bytes: int = 0
    n_blocks: int = 0

    @property
    def too_large(self) -> bool:
        """Whether more than most_bytes may come out, or out of more blocks than a packet has."""
        return self.n_bytes > self.most_bytes or self.n_blocks > MOST_BLOCKS

    def walk(self) -> Unpacked:
        """Walks on to the end, or until it is too much."""
        while not self.too_large and self._frame(self._take(4)):
            pass
        return self

    def _frame(self, magic: bytes) -> bool:
        if magic == ZSTD:
            return self._zstd()
        if magic == LZ4:
            return self._lz4()
        if magic[1:] == SKIPPABLE and magic[0] >> 4 == 5:
            self.n_blocks += 1
            return self._skip(self._number(4))
        return False

    def _zstd(self) -> bool:
        flags = self._number(1)
        if flags < 0:
            return False
        single = flags >> 5 & 1
        size_bytes = (single, 2, 4, 8)[flags >> 6]
        header_bytes = (1 - single) + (0, 1, 2, 4)[flags & 3] + size_bytes
        if not self._skip(header_bytes):
            return False
        while not self.too_large:
            block = self._number(3)
            kind, size = block >> 1 & 3, block >> 3
            if block < 0 or kind == 3:
                return False
            self.n_blocks += 1
            self.n_bytes += ZSTD_BLOCK_BYTES if kind == 2 else size  # kind 0: as it is, 1: one byte so often
            if not self._skip(1 if kind == 1 else size):
                return False
            if block & 1:
                return self._skip(4 if flags & 4 else 0)
        return False

    def _lz4(self) -> bool:
        flags, sizes = self._number(1), self._number(1)
        if flags < 0 or sizes < 0 or not self._skip((8 if flags & 8 else 0) + (4 if flags & 1 else 0) + 1):
            return False
        largest = 1 << (8 + 2 * (sizes >> 4 & 7))
        while not self.too_large:
            block = self._number(4)
            if block <= 0:  # cut off, or the frame's end
                return block == 0 and self._skip(4 if flags & 4 else 0)
            size, stored = block & 0x7FFFFFFF, block >> 31
            self.n_blocks += 1
            self.n_bytes += size if stored else min(largest, LZ4_RATIO * size)
            if not self._skip(size + (4 if flags & 16 else 0)):
                return False
        return False

    def _take(self, n: int) -> bytes:
        if self.end - self.place < n:
            return b""
        self.file.seek(self.place)
        self.place += n
        return self.file.read(n)

    def _number(self, n: int) -> int:
        """The next n bytes as a little-endian number; -1 where there are fewer."""
        found = self._take(n)
        return int.from_bytes(found, "little") if len(found) == n else -1

    def _skip(self, n: int) -> bool:
        """Moves on by n bytes; returns whether there are as many."""
        self.place += max(n, 0)
        return n >= 0 and self.place <= self.end
