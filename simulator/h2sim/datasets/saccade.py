"""saccade-mnist: events that a simulated sensor sees of real MNIST digits on three saccades. It is not N-MNIST."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from h2sim.datasets.base import Dataset, Options, Read, Split
from h2sim.datasets.events import OFF, ON

SENSOR, DIGIT = 34, 28
MOVEMENT_US, STEP_US = 300_000, 5_000  # three saccades of 100 ms, as in N-MNIST; the pictures the sensor compares
CORNERS = ((3.0, -3.0), (-3.0, 0.0), (3.0, 3.0), (3.0, -3.0))  # (down, right) of the digit from the middle, in pixels
THRESHOLD = 0.25  # change of log intensity that makes an event
DARK = 0.1  # added to intensities 0..1, so that black has a logarithm


@dataclass(frozen=True, eq=False)
class Saccades:
    """Reads binary frames (n, T, 2, H, W) of moving digits; channel 0 holds OFF events, channel 1 ON events."""

    read: Read
    size: tuple[int, int]
    timesteps: int
    bin_us: float

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return at_size(saccade_frames(self.read(indices)[:, 0], self.timesteps, self.bin_us), self.size)


def of_digits(name: str, digits: Dataset, options: Options) -> Dataset:
    """The synthetic events of a data set of 28 x 28 digits; the name says which.

    Without a time bin the T frames divide the whole movement, else they show its first T time bins.
    """
    size, bin_us = options.size or (SENSOR, SENSOR), options.bin_us or MOVEMENT_US / options.timesteps

    def seen(split: Split) -> Split:
        return Split(split.labels, split.rows, Saccades(split.read, size, options.timesteps, bin_us))

    recorded = f"{name} (synthetic events of {digits.name}, {bin_us / 1000:.6g} ms bins)"
    return Dataset(
        name=recorded,
        kind="events",
        shape=(2, *size),
        classes=digits.classes,
        train=seen(digits.train),
        test=seen(digits.test),
    )


def saccade_frames(images: np.ndarray, timesteps: int, bin_us: float) -> np.ndarray:
    """Frames (n, T, 2, 34, 34) float32, 0 or 1, of images (n, 28, 28) in [0, 1].

    Each pixel keeps a reference log intensity. Where a new picture's differs by the threshold or more, an event fires
    and the reference follows by whole thresholds; what is left counts towards the next event.
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
    """Where the digit is (down, right, in pixels from the middle) after this part (0..1) of the movement."""
    along = min(max(progress, 0.0), 1.0) * (len(CORNERS) - 1)
    leg = min(int(along), len(CORNERS) - 2)
    (y0, x0), (y1, x1) = CORNERS[leg : leg + 2]
    return y0 + (along - leg) * (y1 - y0), x0 + (along - leg) * (x1 - x0)


def _log_intensity(padded: np.ndarray, progress: float) -> np.ndarray:
    """log intensity (n, 34, 34) of the digit at its place, between pixels by bilinear interpolation."""
    down, right = offset(progress)
    y, x = math.floor(down), math.floor(right)
    part_y, part_x = np.float32(down - y), np.float32(right - x)
    rows = (1 - part_y) * _rows(padded, y) + part_y * _rows(padded, y + 1)
    columns = rows.swapaxes(-1, -2)
    seen = (1 - part_x) * _rows(columns, x) + part_x * _rows(columns, x + 1)
    return np.log(seen.swapaxes(-1, -2) + np.float32(DARK))


def _rows(padded: np.ndarray, shift: int) -> np.ndarray:
    """The 34 rows that the sensor sees of a digit moved down by `shift`, -3..4."""
    start = (SENSOR - DIGIT) // 2 + 1 - shift
    return padded[:, start : start + SENSOR]


def at_size(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frames (..., 34, 34) on another grid: an event at x goes to floor(x * W / 34), y likewise."""
    if size == frames.shape[-2:]:
        return frames
    return _scaled(_scaled(frames, size[0]).swapaxes(-1, -2), size[1]).swapaxes(-1, -2)


def _scaled(frames: np.ndarray, rows: int) -> np.ndarray:
    before = frames.shape[-2]
    out = np.zeros((*frames.shape[:-2], rows, frames.shape[-1]), frames.dtype)
    for y in range(before):
        to = y * rows // before
        out[..., to, :] = np.maximum(out[..., to, :], frames[..., y, :])
    return out
