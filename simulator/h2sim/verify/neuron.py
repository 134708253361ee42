"""Soma and Grad units (figures 3.3c and 3.6), vectorised over neurons: float32, one operation at a time.

Arrays are (T, N, C, H, W) or (T, N, F). The stepped twins are h2sim.reference.neuron's soma and grad.
"""

from __future__ import annotations

import numpy as np

from h2sim.trace import Neuron


def soma(x: np.ndarray, neuron: Neuron) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Membrane potential, spikes and window mask of currents x (eq. 2.1, 2.2, 3.1).

    reset: zero m[t] = a*m[t-1]*(1-s[t-1]) + x[t]; subtract m[t] = a*(m[t-1] - th*s[t-1]) + x[t]; none leaves m.
    """
    decay, threshold = np.float32(neuron.decay), np.float32(neuron.threshold)
    low, high = (np.float32(v) for v in neuron.window)
    membrane = np.empty_like(x, dtype=np.float32)
    spikes = np.empty(x.shape, np.uint8)
    kept = np.zeros_like(membrane[0])
    for t in range(x.shape[0]):
        membrane[t] = decay * kept + x[t]
        spikes[t] = membrane[t] >= threshold
        kept = _after_reset(membrane[t], spikes[t], threshold, neuron.reset)
    return spikes, membrane, ((low < membrane) & (membrane < high)).astype(np.uint8)


def _after_reset(membrane: np.ndarray, spikes: np.ndarray, threshold: np.float32, reset: str) -> np.ndarray:
    if reset == "zero":
        return membrane * (np.float32(1) - spikes)
    if reset == "subtract":
        return membrane - threshold * spikes
    return membrane


def grad(
    spatial: np.ndarray, membrane: np.ndarray, spikes: np.ndarray, window: np.ndarray, neuron: Neuron
) -> np.ndarray:
    """Membrane gradient dm of the spatial part of ds, backwards in time (eq. 2.4, 2.5), float32.

    detach_reset leaves out the reset's own gradient (the -a*m[t] term, or -a*th for reset 'subtract').
    """
    decay, scale = np.float32(neuron.decay), np.float32(neuron.surrogate_scale)
    dm = np.empty_like(spatial, dtype=np.float32)
    later = np.zeros_like(dm[0])
    for t in reversed(range(spatial.shape[0])):
        ds = spatial[t] + later * _reset_gradient(membrane[t], neuron)
        carried = later * decay
        if neuron.reset == "zero":
            carried = carried * (np.float32(1) - spikes[t])
        dm[t] = carried + ds * (scale * window[t])
        later = dm[t]
    return dm


def _reset_gradient(membrane: np.ndarray, neuron: Neuron) -> np.ndarray | np.float32:
    """How the reset after a spike moves the next membrane potential."""
    if neuron.detach_reset or neuron.reset == "none":
        return np.float32(0)
    decay = np.float32(neuron.decay)
    return -decay * membrane if neuron.reset == "zero" else -decay * np.float32(neuron.threshold)


Size2 = tuple[int, int]  # (vertical, horizontal)


def average_pool(x: np.ndarray, kernel: Size2, stride: Size2, padding: Size2) -> np.ndarray:
    """Average over kernel windows of (T, N, C, H, W); padding counts as zeros, as in PyTorch's default."""
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    out_height, out_width = (padded.shape[3] - kh) // sh + 1, (padded.shape[4] - kw) // sw + 1
    total = np.zeros((*x.shape[:3], out_height, out_width), np.float32)
    for y in range(kh):
        for k in range(kw):
            view = padded[..., y : y + sh * out_height : sh, k : k + sw * out_width : sw]
            total += view[..., :out_height, :out_width]
    return total / np.float32(kh * kw)


def spread_pool(dx: np.ndarray, shape: tuple[int, ...], kernel: Size2, stride: Size2, padding: Size2) -> np.ndarray:
    """The transpose of average_pool: gradient (T, N, C, H_out, W_out) to the pooled input's `shape`."""
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    out_height, out_width = dx.shape[3:]
    padded = np.zeros((*shape[:3], shape[3] + 2 * ph, shape[4] + 2 * pw), np.float32)
    share = dx / np.float32(kh * kw)
    for y in range(kh):
        for k in range(kw):
            view = padded[..., y : y + sh * out_height : sh, k : k + sw * out_width : sw]
            view[..., :out_height, :out_width] += share
    return padded[..., ph : ph + shape[3], pw : pw + shape[4]]
