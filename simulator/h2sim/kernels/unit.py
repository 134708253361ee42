"""Batch norm and LIF neurons of a layer over all timesteps, row by row: no map but x is kept (eq. 2.1-2.6, 4.2).

x, spikes and gradients are memory as it lies, float32. A row is a run of elements side by side, of one sample: the
places of a channel, or the channels of a place. starts: where each row begins at t = 0; channels: the channel of its
first element; along: 1 if the channel grows along the row, else 0; wide: elements of a row; step: elements from one
timestep to the next. norm: float32 (4, C), what stands in NORM. neuron: float32, what stands in NEURON.

Operations stand in the order of h2sim.neuron; none is fused or reordered.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Float32s, Floats, Ints
from h2sim.kernels.jit import njit

NORM = ("mean", "scale", "offset", "inverse")  # y = (x - mean) * scale + offset; xh = (x - mean) * inverse
# fires_from: the least m that fires. attached: 1, or 0 where no gradient passes through the reset. zeroed: 1 if a spike
# puts m to 0. before, after: what a spike takes off m before or after the leak. triangle: 1, or 0 for a rectangle.
NEURON = (
    "decay", "fires_from", "threshold", "low", "high", "scale", "attached", "zeroed", "before", "after", "triangle",
)  # fmt: skip
ONE, ZERO = np.float32(1), np.float32(0)


@njit(inline="always")
def _normalise(y: Float32s, x: Float32s, start: int, wide: int, norm: Float32s) -> None:
    """y of one row at one timestep; norm: (4, wide), of the row's elements."""
    for k in range(wide):
        y[k] = (x[start + k] - norm[0, k]) * norm[1, k] + norm[2, k]


@njit(inline="always")
def _run(m: Float32s, before_m: Float32s, y: Float32s, wide: int, neuron: Float32s) -> None:
    """m of one row, of m of the timestep before; m may be that same array."""
    decay, fires_from, zeroed, before, after = neuron[0], neuron[1], neuron[7], neuron[8], neuron[9]
    for k in range(wide):
        held = before_m[k]
        s = ONE if held >= fires_from else ZERO
        m[k] = y[k] + decay * (held * (ONE - zeroed * s) - before * s) - after * s


@njit(inline="always")
def _of_row(rows: Float32s, norm: Float32s, first: int, along: int, wide: int) -> None:
    """Fills rows (n, wide) with what norm (n, C) has for the elements of a row."""
    for i in range(len(rows)):
        for k in range(wide):
            rows[i, k] = norm[i, first + along * k]


@njit()
def spikes(
    x: Float32s,
    x_starts: Ints,
    x_step: int,
    s: Float32s,
    s_starts: Ints,
    s_step: int,
    steps: int,
    wide: int,
    channels: Ints,
    along: int,
    norm: Float32s,
    neuron: Float32s,
) -> None:
    """Fills s, 0 or 1, from x (algorithm 1)."""
    m, y, own = np.empty(wide, np.float32), np.empty(wide, np.float32), np.empty((4, wide), np.float32)
    fires_from = neuron[1]
    for row in range(len(x_starts)):
        _of_row(own, norm, channels[row], along, wide)
        for t in range(steps):
            if t == 0:
                _normalise(m, x, x_starts[row], wide, own)
            else:
                _normalise(y, x, x_starts[row] + t * x_step, wide, own)
                _run(m, m, y, wide, neuron)
            start = s_starts[row] + t * s_step
            for k in range(wide):
                s[start + k] = ONE if m[k] >= fires_from else ZERO


@njit(inline="always")
def _membranes(
    m: Float32s, y: Float32s, x: Float32s, start: int, step: int, wide: int, norm: Float32s, neuron: Float32s
) -> None:
    """Fills m (T, wide) of one row."""
    for t in range(len(m)):
        if t == 0:
            _normalise(m[0], x, start, wide, norm)
        else:
            _normalise(y, x, start + t * step, wide, norm)
            _run(m[t], m[t - 1], y, wide, neuron)


@njit(inline="always")
def _back(later: Float32s, grad: Float32s, start: int, m: Float32s, wide: int, neuron: Float32s) -> None:
    """Turns later, dm[t+1] of a row, into dm[t] (eq. 2.4-2.6)."""
    decay, fires_from, threshold, low, high, scale = neuron[0], neuron[1], neuron[2], neuron[3], neuron[4], neuron[5]
    attached, zeroed, before, after, triangle = neuron[6], neuron[7], neuron[8], neuron[9], neuron[10]
    for k in range(wide):
        if triangle == ZERO:
            slope = scale if (m[k] > low) & (m[k] < high) else ZERO
        else:
            slope = scale * max(ZERO, ONE - abs(m[k] / threshold - ONE)) / threshold
        leak = decay * later[k]
        drop = leak * (zeroed * m[k] + before) + after * later[k]
        s = ONE if m[k] >= fires_from else ZERO
        later[k] = leak * (ONE - zeroed * s) + (grad[start + k] - attached * drop) * slope


@njit()
def sums(
    x: Float32s,
    x_starts: Ints,
    x_step: int,
    grad: Float32s,
    grad_starts: Ints,
    grad_step: int,
    steps: int,
    wide: int,
    channels: Ints,
    along: int,
    norm: Float32s,
    neuron: Float32s,
    out: Floats,
) -> None:
    """Adds to out (2, C), float64, the sums of dy and of dy * xh (algorithm 2; eq. 4.5, 4.6); grad is dL/ds."""
    m, y, own = np.empty((steps, wide), np.float32), np.empty(wide, np.float32), np.empty((4, wide), np.float32)
    later, kept = np.empty(wide, np.float32), np.empty((2, wide))
    for row in range(len(x_starts)):
        _of_row(own, norm, channels[row], along, wide)
        _membranes(m, y, x, x_starts[row], x_step, wide, own, neuron)
        later[:], kept[:] = 0, 0
        for t in range(steps - 1, -1, -1):
            _back(later, grad, grad_starts[row] + t * grad_step, m[t], wide, neuron)
            start = x_starts[row] + t * x_step
            for k in range(wide):
                kept[0, k] += later[k]
                kept[1, k] += later[k] * ((x[start + k] - own[0, k]) * own[3, k])
        for k in range(wide):
            out[0, channels[row] + along * k] += kept[0, k]
            out[1, channels[row] + along * k] += kept[1, k]


@njit()
def backward(
    x: Float32s,
    x_starts: Ints,
    x_step: int,
    grad: Float32s,
    grad_starts: Ints,
    grad_step: int,
    steps: int,
    wide: int,
    channels: Ints,
    along: int,
    norm: Float32s,
    neuron: Float32s,
    means: Float32s,
) -> None:
    """Puts dx in the place of grad, which is dL/ds (algorithm 3; eq. 4.3).

    dx = scale * (dy - means[0] - xh * means[1]); means: (2, C), of dy and dy * xh, or 0.
    """
    m, y, own = np.empty((steps, wide), np.float32), np.empty(wide, np.float32), np.empty((4, wide), np.float32)
    later, mean = np.empty(wide, np.float32), np.empty((2, wide), np.float32)
    for row in range(len(x_starts)):
        _of_row(own, norm, channels[row], along, wide)
        _of_row(mean, means, channels[row], along, wide)
        _membranes(m, y, x, x_starts[row], x_step, wide, own, neuron)
        later[:] = 0
        for t in range(steps - 1, -1, -1):
            start, to = x_starts[row] + t * x_step, grad_starts[row] + t * grad_step
            _back(later, grad, to, m[t], wide, neuron)
            for k in range(wide):
                xh = (x[start + k] - own[0, k]) * own[3, k]
                grad[to + k] = own[1, k] * (later[k] - mean[0, k] - xh * mean[1, k])


@njit()
def moments(
    x: Float32s, x_starts: Ints, x_step: int, steps: int, wide: int, channels: Ints, along: int, n: int, out: Floats
) -> None:
    """Fills out (2, C), float64: each channel's mean, and the sum of squares about it. n: elements of a channel."""
    kept = np.empty(wide)
    out[:] = 0
    for of_squares in range(2):
        for row in range(len(x_starts)):
            kept[:] = 0
            for t in range(steps):
                start = x_starts[row] + t * x_step
                for k in range(wide):
                    value = x[start + k] - out[0, channels[row] + along * k] if of_squares else float(x[start + k])
                    kept[k] += value * value if of_squares else value
            for k in range(wide):
                out[of_squares, channels[row] + along * k] += kept[k]
        if not of_squares:
            out[0] /= n
