"""Soma unit (figure 3.3 c, eq. 2.1-2.3, 3.1) and Grad unit (eq. 2.4-2.6, 3.2), and the pooling in both."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from h2sim.arrays import Bytes, Float32s, Floats
from h2sim.reference.acc import ZERO
from h2sim.reference.result import checked_bits, checked_values

Reset = Literal["zero", "subtract", "subtract-after-leak", "none"]
FiresAt = Literal["greater_equal", "greater"]
Size2 = tuple[int, int]  # (vertical, horizontal)


class Soma:
    """The LIF neurons of a layer: their membrane potentials and last spikes, updated once per timestep."""

    def __init__(
        self,
        shape: tuple[int, ...],
        threshold: float,
        decay: float,
        window: tuple[float, float],
        reset: Reset,
        fires_at: FiresAt = "greater_equal",
    ):
        self.fires = np.greater if fires_at == "greater" else np.greater_equal
        self.threshold = np.float32(threshold)
        self.decay = np.float32(decay)
        self.window = (np.float32(window[0]), np.float32(window[1]))
        self.reset = reset
        self.membrane: Floats = np.zeros(shape, dtype=np.float32)
        self.spikes = np.zeros(shape, dtype=np.uint8)

    def step(self, x: Float32s) -> tuple[Bytes, Floats, Bytes]:
        """One timestep: from its current x to its spikes s, membrane potentials m and window mask ds~."""
        self.membrane = self.decay * self._kept() + x
        if self.reset == "subtract-after-leak":
            self.membrane = self.membrane - self.threshold * self.spikes.astype(np.float32)
        self.spikes = self.fires(self.membrane, self.threshold).astype(np.uint8)
        low, high = self.window
        inside = (low < self.membrane) & (self.membrane < high)
        return self.spikes, self.membrane, inside.astype(np.uint8)

    def _kept(self) -> Floats:
        """What the reset leaves of m[t-1], before the decay."""
        if self.reset == "zero":
            return np.where(self.spikes, ZERO, self.membrane)
        if self.reset == "subtract":
            return self.membrane - self.threshold * self.spikes.astype(np.float32)
        return self.membrane


def soma(
    x: Float32s,
    threshold: float,
    decay: float,
    window: tuple[float, float],
    reset: Reset,
    fires_at: FiresAt = "greater_equal",
) -> tuple[Bytes, Float32s, Bytes]:
    """Spikes s (uint8), membrane potentials m (float32) and window mask ds~ (uint8) of currents x, all (T, N, ...).

    fires_at: a neuron fires where m >= threshold (eq. 2.3), or with "greater" where m > threshold. reset after a spike:
    "zero" forgets m (eq. 2.2), "subtract" takes the threshold off it before the leak, "subtract-after-leak" after it,
    "none" keeps it.
    """
    x = checked_values("x", x, np.shape(x))
    unit = Soma(x.shape[1:], threshold, decay, window, _checked_reset(reset), fires_at)
    steps = [unit.step(x_t) for x_t in x]
    spikes, membrane, inside = (np.stack(maps) for maps in zip(*steps, strict=True))
    return spikes, membrane, inside


class Grad:
    """The gradients of a layer's neurons, updated once per timestep, the last timestep first."""

    def __init__(
        self,
        shape: tuple[int, ...],
        decay: float,
        surrogate_scale: float,
        reset: Reset,
        reset_height: float | None,
        peak: float | None = None,
    ):
        self.decay = np.float32(decay)
        self.surrogate_scale = np.float32(surrogate_scale)
        self.peak = peak  # the triangle's threshold; None: a rectangle
        self.reset = reset
        self.reset_height = reset_height  # None: m itself ("zero"); else what a spike takes off m
        self.dm_next: Floats = np.zeros(shape, dtype=np.float32)

    def step(self, ds_spatial: Float32s, membrane: Float32s, spikes: Bytes, inside: Bytes) -> Floats:
        """dm[t] from dm[t+1] and what belongs to timestep t; phase 1 gives ds, phase 2 dm (section 3.2.3)."""
        dropped = membrane if self.reset_height is None else np.float32(self.reset_height)
        leak = np.float32(1.0) if self.reset == "subtract-after-leak" else self.decay
        ds = self.dm_next * (-leak * dropped) + ds_spatial
        kept = (1 - spikes).astype(np.float32) if self.reset == "zero" else np.float32(1.0)
        self.dm_next = self.dm_next * self.decay * kept + ds * self._fire(membrane, inside)
        return self.dm_next

    def _fire(self, membrane: Float32s, inside: Bytes) -> Floats:
        """fire'(m): surrogate_scale in the window, or a triangle that is surrogate_scale / peak high at its peak."""
        if self.peak is None:
            return self.surrogate_scale * inside.astype(np.float32)
        one, peak = np.float32(1), np.float32(self.peak)
        height: Floats = np.maximum(ZERO, one - np.abs(membrane / peak - one))
        return self.surrogate_scale * height / peak * inside.astype(np.float32)


def grad(
    ds_spatial: Float32s,
    membrane: Float32s,
    spikes: Bytes,
    window_mask: Bytes,
    decay: float,
    surrogate_scale: float,
    reset: Reset,
    detach_reset: bool,
    threshold: float | None = None,
    triangle: bool = False,
) -> Float32s:
    """Membrane gradients dm, float32 (T, N, ...), of ds_spatial, the part of ds that the Backward Engine computes.

    All arrays have one shape. detach_reset: the gradient does not pass through the reset, so the term -alpha*m of
    eq. 2.4 is left out. triangle: fire'(m) = surrogate_scale * max(0, 1 - |m/threshold - 1|) / threshold, in place of
    surrogate_scale in the window. threshold is needed only for it and for a subtracting reset without detach_reset;
    raises ValueError where it is missing there, for an unknown reset, and for arrays of other shapes or masks that hold
    more than 0 and 1.
    """
    if triangle and threshold is None:
        raise ValueError("threshold: expected a value for a triangle; got None")
    shape = np.shape(ds_spatial)
    ds_spatial = checked_values("ds_spatial", ds_spatial, shape)
    membrane = checked_values("membrane", membrane, shape)
    spikes = checked_bits("spikes", spikes, shape)
    window_mask = checked_bits("window_mask", window_mask, shape)
    height = _reset_height(_checked_reset(reset), detach_reset, threshold)
    unit = Grad(shape[1:], decay, surrogate_scale, reset, height, threshold if triangle else None)
    dm = np.zeros(shape, dtype=np.float32)
    for t in reversed(range(shape[0])):
        dm[t] = unit.step(ds_spatial[t], membrane[t], spikes[t], window_mask[t])
    return dm


def _reset_height(reset: Reset, detach_reset: bool, threshold: float | None) -> float | None:
    """How much one more spike would lower m, as far as the gradient passes through the reset; None: by m itself."""
    if detach_reset or reset == "none":
        return 0.0
    if reset == "zero":
        return None
    if threshold is None:
        raise ValueError(f"threshold: expected a value for reset {reset!r} without detach_reset; got None")
    return threshold


def _checked_reset(reset: Reset) -> Reset:
    if reset not in get_args(Reset):
        raise ValueError(f"reset: expected one of {', '.join(get_args(Reset))}; got {reset!r}")
    return reset


def average_pool(spikes: Bytes, kernel: Size2, stride: Size2, padding: Size2) -> Float32s:
    """Current (T, N, C, Ho, Wo) of a pool layer: sums of spikes (T, N, C, H, W) / (kh*kw), padding as zeros."""
    *lead, height, width = np.shape(spikes)
    padded = np.pad(checked_bits("spikes", spikes, np.shape(spikes)), [(0, 0)] * len(lead) + [(p, p) for p in padding])
    out = [(size + 2 * p - k) // s + 1 for size, p, k, s in zip((height, width), padding, kernel, stride, strict=True)]
    current = np.zeros((*lead, *out), dtype=np.float32)
    share = np.float32(kernel[0] * kernel[1])
    for y, x in np.ndindex(*out):
        y0, x0 = y * stride[0], x * stride[1]
        n_spikes = padded[..., y0 : y0 + kernel[0], x0 : x0 + kernel[1]].sum(axis=(-2, -1))
        current[..., y, x] = n_spikes.astype(np.float32) / share
    return current


def average_pool_transpose(grad: Float32s, kernel: Size2, stride: Size2, padding: Size2, in_size: Size2) -> Float32s:
    """The gradient (T, N, C, H, W) of what a pool layer reads, from its dm (T, N, C, Ho, Wo); in_size is (H, W)."""
    grad = checked_values("grad", grad, np.shape(grad))
    below = np.zeros((*grad.shape[:-2], in_size[0] + 2 * padding[0], in_size[1] + 2 * padding[1]), dtype=np.float32)
    share = np.float32(kernel[0] * kernel[1])
    for y, x in np.ndindex(*grad.shape[-2:]):
        y0, x0 = y * stride[0], x * stride[1]
        below[..., y0 : y0 + kernel[0], x0 : x0 + kernel[1]] += (grad[..., y, x] / share)[..., None, None]
    return below[..., padding[0] : padding[0] + in_size[0], padding[1] : padding[1] + in_size[1]]
