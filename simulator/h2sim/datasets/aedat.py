"""Recordings of iniVation's sensors, AEDAT 2.0, 3.1 and 4: a file's content says which it is, and not its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2sim.datasets.aedat3 import read_aedat3
from h2sim.datasets.aedat4 import read_aedat4
from h2sim.datasets.aedat_header import read_header
from h2sim.datasets.events import Recording, checked
from h2sim.datasets.files import MOST_EVENT_BYTES, data_bytes
from h2sim.errors import DatasetError, at

DVS128 = (128, 128)
SPECIAL = 1 << 15  # of a DVS128 address: a sync event, not a pixel's


def read_aedat(path: str) -> Recording:
    """The events of a recording: AEDAT 2.0 of a DVS128, 3.1, or 4. Raises DatasetError if the file is damaged.

    The first line names the version. A file without one is taken for 4 if it is called .aedat4, and else for 2.0.
    """
    header = read_header(path)
    version = header.version or ("4.0" if path.lower().endswith(".aedat4") else "2.0")
    if version == "2.0":
        return _version_2(path, data_bytes(Path(path), MOST_EVENT_BYTES)[header.n_bytes :])
    if version == "3.1":
        return read_aedat3(path, header)
    if version == "4.0":
        return read_aedat4(path)
    raise DatasetError(at(path, "AEDAT version", "2.0, 3.1 or 4.0", version))


def _version_2(path: str, data: bytes) -> Recording:
    """The events of version 2.0: big-endian pairs of an address and a time in us, 32 bits each.

    Of an address, bit 0 is 1 for OFF, bits 1-7 are x', bits 8-14 are y', and bit 15 marks what is no pixel's event. The
    sensor lay on its side when CIFAR10-DVS was recorded: the upright picture has x = 127 - y', y = 127 - x'. Other
    recordings are turned alike.
    """
    if len(data) % 8:
        raise DatasetError(at(path, "length", "a multiple of 8 bytes after the header, one event each", len(data)))
    address, time = np.frombuffer(data, ">u4").reshape(-1, 2).T.astype(np.int64)
    pixel = address & SPECIAL == 0
    address, time = address[pixel], time[pixel]
    if (address >> 16).any():
        raise DatasetError(at(path, "event address", "16 bits, those of a DVS128", hex(address.max())))
    return checked(Path(path), time, 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), address & 1 == 0, DVS128)
