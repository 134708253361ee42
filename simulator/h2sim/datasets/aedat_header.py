"""The lines of text before the events of an AEDAT file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from h2sim.datasets.files import MOST_RECORDING_BYTES, opened_data
from h2sim.errors import DatasetError, at
from h2sim.io.reading import MIB

VERSION, SOURCE, END = b"#!AER-DAT", b"#Source", b"#!END-HEADER"
MOST_HEADER_BYTES = 4 * MIB  # jAER writes all its settings into it


@dataclass(frozen=True)
class Header:
    """What the lines say, each of which begins with '#'.

    version: such as 3.1, None where no line names it. n_bytes: of all lines; the rest of the file follows. sources: the
    sensors of version 3.1, such as DVS128, as the file spells them.
    """

    version: str | None
    n_bytes: int
    sources: frozenset[str]


def read_header(path: str) -> Header:
    """The header of a file of any version, empty where it has none. Raises DatasetError if it cannot be read."""
    version, n_bytes, sources = None, 0, set()
    with opened_data(Path(path), MOST_RECORDING_BYTES) as file:
        while (line := file.readline(MOST_HEADER_BYTES)).startswith(b"#"):
            n_bytes += len(line)
            if n_bytes > MOST_HEADER_BYTES:
                raise DatasetError(at(path, "header", f"at most {MOST_HEADER_BYTES} bytes", "more"))
            line = line.strip()
            if line.startswith(VERSION):
                version = line[len(VERSION) :].decode("latin1")
            if line.startswith(SOURCE):  # `#-Source` is what it was recorded from once
                sources.add(line.partition(b":")[2].strip().decode("latin1"))
            if line == END or version == "4.0":  # numbers follow, and the first may look like '#'
                break
    return Header(version, n_bytes, frozenset(sources))
