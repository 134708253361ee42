"""Events of a dynamic vision sensor, and the binary frames that a spiking network reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h2sim.arrays import Bools, Float32s, Ints
from h2sim.errors import DatasetError, at

OFF, ON = 0, 1
LAST_US = 1 << 62  # times up to here can be added and subtracted in 64 bits
SOURCE_BIN_US = 5000  # table 5.6: time bin of N-MNIST and CIFAR10-DVS


@dataclass(frozen=True, eq=False)
class Recording:
    """The n events of one file.

    t_us: int64 (n,), times in us; x, y: int64 (n,), pixels, all on the sensor; on: bool (n,), whether the pixel got
    brighter; sensor: (H, W).
    """

    t_us: Ints
    x: Ints
    y: Ints
    on: Bools
    sensor: tuple[int, int]


def checked(path: Path, t_us: Ints, x: Ints, y: Ints, on: Bools, sensor: tuple[int, int]) -> Recording:
    """A Recording. Raises DatasetError, which names the file, if it has no event or one outside the sensor."""
    if not len(t_us):
        raise DatasetError(at(str(path), "events", "at least one", 0))
    for axis, values, extent in (("x", x, sensor[1]), ("y", y, sensor[0])):
        if values.max() >= extent or values.min() < 0:
            wrong = values.max() if values.max() >= extent else values.min()
            raise DatasetError(at(str(path), f"{axis} of an event", f"0..{extent - 1}", int(wrong)))
    if t_us.min() < 0 or t_us.max() >= LAST_US:
        wrong = t_us.min() if t_us.min() < 0 else t_us.max()
        raise DatasetError(at(str(path), "time of an event", "0 to 2^62 us", int(wrong)))
    return Recording(t_us.astype(np.int64), x.astype(np.int64), y.astype(np.int64), on.astype(bool), sensor)


def frames(
    recording: Recording, size: tuple[int, int], timesteps: int, bin_us: int, start_us: int | None = None
) -> Float32s:
    """Frames, float32 (T, 2, H, W): 1 where at least one event of that polarity falls into the cell, else 0.

    Frame k holds the events with start + k * bin_us <= t < start + (k + 1) * bin_us; start is start_us, or the time
    of the first event. Channel 0 is OFF events, channel 1 ON events. A pixel x goes to floor(x * W / sensor W), y
    likewise. T and time bin: section 5.4 and table 5.6 of the source.
    """
    start = recording.t_us.min() if start_us is None else start_us
    step = (recording.t_us - start) // bin_us
    inside = (step >= 0) & (step < timesteps)
    (height, width), (rows, columns) = recording.sensor, size
    x, y = recording.x[inside] * columns // width, recording.y[inside] * rows // height
    out = np.zeros((timesteps, 2, rows, columns), np.float32)
    out[step[inside], np.where(recording.on[inside], ON, OFF), y, x] = 1
    return out


@dataclass(frozen=True, eq=False)
class Recordings:
    """Reads event samples, float32 (n, T, 2, H, W), from files when they are asked for.

    Sample i is cut from the file paths[file_of[i]], from start_us[i] on, or from the first event on without start_us.
    """

    paths: tuple[str, ...]
    read: Callable[[str], Recording]
    size: tuple[int, int]
    timesteps: int
    bin_us: int
    file_of: Ints
    start_us: Ints | None = None

    def __call__(self, indices: Ints) -> Float32s:
        out = np.empty((len(indices), self.timesteps, 2, *self.size), np.float32)
        for at_row, i in enumerate(indices):
            start = None if self.start_us is None else int(self.start_us[i])
            recording = self.read(self.paths[self.file_of[i]])
            out[at_row] = frames(recording, self.size, self.timesteps, self.bin_us, start)
        return out


def bins(bin_us: int) -> str:
    """How a data set's name says its time bin: '5 ms bins'."""
    return f"{bin_us / 1000:g} ms bins"
