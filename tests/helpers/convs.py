"""Traces of one layer of interest, whose bits are given: a 1x1 layer below it, then the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from h2sim.energy import load_energy_table
from h2sim.rivals.machine import RivalMachine
from h2sim.rivals.registry import run_rival
from h2sim.rivals.rows import Row
from h2sim.shapes import ConvShape
from h2sim.trace import Trace, load_trace, write_trace
from tests.helpers.traces import parts

NAME, TABLE = "conv2", load_energy_table("28nm")


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


def layer_x(path: Path) -> Trace:
    """Layer X of the specifications of rivals: 2 timesteps, 2 channels of 3x3, a 3x3 kernel, 5 outputs, 6 spikes."""
    shape = shape_for(2, 1, (2, 5), (3, 3), 3, 1, 1)
    spikes = np.zeros((2, 1, 2, 3, 3), np.uint8)
    for t, c, y, x in ((0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 2, 2), (1, 0, 1, 1), (1, 1, 1, 1), (1, 1, 0, 2)):
        spikes[t, 0, c, y, x] = 1
    return conv_trace(path, shape, spikes, np.zeros_like(spikes), np.zeros((2, 1, 5, 3, 3), np.uint8))


def plain_rows(shape: ConvShape, spikes: np.ndarray) -> np.ndarray:
    """Rows of im2col of one sample, 0 or 1 (L, T, K_in), by plain indexing; spikes (T, C, H, W)."""
    (ph, pw), (sh, sw), (kh, kw) = shape.padding, shape.stride, shape.kernel
    wide = np.pad(spikes, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    return np.array([
        [wide[t, :, oy * sh : oy * sh + kh, ox * sw : ox * sw + kw].ravel() for t in range(shape.timesteps)]
        for oy in range(shape.out_height) for ox in range(shape.out_width)
    ])  # fmt: skip


def any_shape(most_steps: int) -> st.SearchStrategy[ConvShape]:
    """Small convolutions: kernels 1, 3, 5, stride 1 and 2, padding 0 to 2, 1 to 3 samples."""
    return st.builds(
        shape_for,
        st.integers(1, most_steps), st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 5)),
        st.tuples(st.integers(5, 6), st.integers(5, 6)), st.sampled_from([1, 3, 5]), st.integers(1, 2),
        st.integers(0, 2),
    )  # fmt: skip


def array_of(machine: Any, **changed: Any) -> Any:
    """A rival with another array."""
    return machine.model_copy(update={"array": machine.array.model_copy(update=changed)})


def row_of(machine: RivalMachine, trace: Trace, **options: Any) -> Row:
    """The forward row of NAME on a rival."""
    return next(row for row in run_rival(machine, trace, TABLE, **options).to_rows() if row.layer == NAME)


def fc_trace(path: Path, spikes: np.ndarray, outputs: int) -> Trace:
    """The trace of a fully connected layer alone that reads the input; spikes 0 or 1 (T, N, F)."""
    steps, batch, features = spikes.shape
    meta, members = parts(f"{outputs}FC", (features, 1, 1), steps, batch)
    write_trace(path, meta, members | {"input.spikes": packed(spikes)})
    return load_trace(path)
