"""saccade-mnist: events that a simulated sensor sees of real MNIST digits on three saccades. It is not N-MNIST."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Float32s, Floats, Ints
from h2sim.datasets.base import Dataset, Options, Read, Split, chw
from h2sim.datasets.events import OFF, ON

SENSOR, DIGIT = 34, 28
MOVEMENT_US, STEP_US = 300_000, 5_000  # three saccades of 100 ms, as in N-MNIST; the pictures the sensor compares
CORNERS = ((3.0, -3.0), (-3.0, 0.0), (3.0, 3.0), (3.0, -3.0))  # (down, right) of the digit from the middle, in pixels
THRESHOLD = 0.25  # change of log intensity that makes an event
DARK = 0.1  # added to intensities 0..1, so that black has a logarithm


@dataclass(frozen=True, eq=False)
class Saccades:
    """Reads frames, float32 (n, T, 2, H, W) of 0 and 1, of moving digits: channel 0 is OFF events, channel 1 ON."""

    read: Read
    size: tuple[int, int]
    timesteps: int
    bin_us: float

    def __call__(self, indices: Ints) -> Float32s:
        return at_size(saccade_frames(self.read(indices)[:, 0], self.timesteps, self.bin_us), self.size)


def of_digits(name: str, digits: Dataset, options: Options) -> Dataset:
    """The synthetic events of `digits`, a data set of 28 x 28 digits, which the new data set's name tells.

    With a time bin, the T frames show the first T time bins of the movement. Without one, they divide all of it.
    """
    size, bin_us = options.size or (SENSOR, SENSOR), options.bin_us or MOVEMENT_US / options.timesteps

    def seen(split: Split) -> Split:
        return Split(split.labels, split.rows, Saccades(split.read, size, options.timesteps, bin_us))

    recorded = f"{name} (synthetic events of {digits.name}, {bin_us / 1000:.6g} ms bins)"
    return Dataset(
        name=recorded,
        kind="events",
        shape=chw(2, size),
        classes=digits.classes,
        train=seen(digits.train),
        test=seen(digits.test),
    )


def saccade_frames(images: Float32s, timesteps: int, bin_us: float) -> Float32s:
    """Frames, float32 (n, T, 2, 34, 34) of 0 and 1, of images (n, 28, 28) in [0, 1] that move before the sensor.

    Each pixel keeps a reference log intensity. Where that of a new picture differs from it by the threshold or more, an
    event fires, and the reference moves by whole thresholds. What is left counts towards the next event.
    """
    steps = max(1, math.ceil(bin_us / STEP_US))
    pad = SENSOR - DIGIT + 1
    padded = np.pad(images.astype(np.float32), ((0, 0), (pad, pad), (pad, pad)))
    reference = _log_intensity(padded, 0.0)
    out = np.zeros((len(images), timesteps, 2, SENSOR, SENSOR), np.float32)
    for step in range(timesteps * steps):
        change = _log_intensity(padded, (step + 1) * bin_us / steps / MOVEMENT_US) - reference
        thresholds = np.trunc(change / np.float32(THRESHOLD))
        reference += thresholds * np.float32(THRESHOLD)
        frame = out[:, step // steps]
        frame[:, ON] = np.maximum(frame[:, ON], thresholds > 0)
        frame[:, OFF] = np.maximum(frame[:, OFF], thresholds < 0)
    return out


def offset(progress: float) -> tuple[float, float]:
    """The place of the digit after a part of the movement, 0 to 1: (down, right) of the middle, in pixels."""
    along = min(max(progress, 0.0), 1.0) * (len(CORNERS) - 1)
    leg = min(int(along), len(CORNERS) - 2)
    (y0, x0), (y1, x1) = CORNERS[leg : leg + 2]
    return y0 + (along - leg) * (y1 - y0), x0 + (along - leg) * (x1 - x0)


def _log_intensity(padded: Float32s, progress: float) -> Float32s:
    """Log intensity, (n, 34, 34), of the digits at their place; bilinear between pixels."""
    down, right = offset(progress)
    y, x = math.floor(down), math.floor(right)
    part_y, part_x = np.float32(down - y), np.float32(right - x)
    rows = (1 - part_y) * _rows(padded, y) + part_y * _rows(padded, y + 1)
    columns = rows.swapaxes(-1, -2)
    seen = (1 - part_x) * _rows(columns, x) + part_x * _rows(columns, x + 1)
    return np.log(seen.swapaxes(-1, -2) + np.float32(DARK))


def _rows(padded: Floats, shift: int) -> Floats:
    """The 34 rows that the sensor sees of a digit that moved down by `shift` pixels, -3 to 4."""
    start = (SENSOR - DIGIT) // 2 + 1 - shift
    return padded[:, start : start + SENSOR]


def at_size(frames: Float32s, size: tuple[int, int]) -> Float32s:
    """Frames (..., 34, 34) on a grid of `size` (H, W): an event at x goes to floor(x * W / 34), at y likewise."""
    if size == frames.shape[-2:]:
        return frames
    return _scaled(_scaled(frames, size[0]).swapaxes(-1, -2), size[1]).swapaxes(-1, -2)


def _scaled(frames: Float32s, rows: int) -> Float32s:
    before = frames.shape[-2]
    out = np.zeros((*frames.shape[:-2], rows, frames.shape[-1]), frames.dtype)
    for y in range(before):
        to = y * rows // before
        out[..., to, :] = np.maximum(out[..., to, :], frames[..., y, :])
    return out
