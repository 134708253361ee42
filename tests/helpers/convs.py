"""Traces of one layer of interest, whose bits are given: a 1x1 layer below it, then the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2sim.shapes import ConvShape
from h2sim.trace import Trace, load_trace, write_trace
from tests.helpers.traces import parts

NAME = "conv2"


def packed(bits: np.ndarray) -> np.ndarray:
    """(T, N, ...) of 0 and 1 as a trace holds it."""
    return np.packbits(bits.reshape(*bits.shape[:2], -1).astype(np.uint8), axis=-1)


def conv_trace(path: Path, shape: ConvShape, spikes: np.ndarray, window: np.ndarray, grads: np.ndarray) -> Trace:
    """The trace of a convolution NAME that reads neurons with `spikes` and `window` and has `grads` at its outputs."""
    chw = (shape.in_channels, shape.in_height, shape.in_width)
    meta, members = parts(f"{chw[0]}C1-{shape.out_channels}C1", chw, shape.timesteps, shape.batch)
    out = (shape.out_channels, shape.out_height, shape.out_width)
    layer: dict[str, Any] = meta["layers"][1]
    layer.update(out_shape=out, kernel=shape.kernel, stride=shape.stride, padding=shape.padding)
    first = meta["layers"][0]["name"]
    assert layer["name"] == NAME
    zeros = np.zeros((shape.timesteps, shape.batch, *out), np.uint8)
    members |= {f"{first}.spikes": packed(spikes), f"{first}.window": packed(window), f"{NAME}.grad": packed(grads)}
    members |= {f"{NAME}.{kind}": packed(zeros) for kind in ("spikes", "window") if f"{NAME}.{kind}" in members}
    write_trace(path, meta, members)
    return load_trace(path)


def drawn(rng: np.random.Generator, shape: ConvShape, density: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent bits: spikes and window (T, N, C, H, W), gradients (T, N, O, Ho, Wo)."""
    inputs = (shape.timesteps, shape.batch, shape.in_channels, shape.in_height, shape.in_width)
    outputs = (shape.timesteps, shape.batch, shape.out_channels, shape.out_height, shape.out_width)
    return tuple((rng.random(size) < density).astype(np.uint8) for size in (inputs, inputs, outputs))  # type: ignore[return-value]


def shape_for(timesteps: int, batch: int, channels: tuple[int, int], size: tuple[int, int], kernel: int, stride: int,
              padding: int) -> ConvShape:  # fmt: skip
    """The convolution with its output size worked out."""
    out = [(edge + 2 * padding - kernel) // stride + 1 for edge in size]
    return ConvShape.of(
        (timesteps, batch), (channels[0], *size), (channels[1], out[0], out[1]),
        (kernel, kernel), (stride, stride), (padding, padding),
    )  # fmt: skip
