"""Soma and Grad units (figures 3.3c and 3.6), vectorised over neurons: float32, one operation at a time.

Arrays are (T, N, C, H, W) or (T, N, F). The stepped twins are h2sim.reference.neuron's soma and grad.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Bytes, Float32s, Floats
from h2sim.trace import Neuron


def soma(x: Float32s, neuron: Neuron) -> tuple[Bytes, Float32s, Bytes]:
    """Spikes, membrane potentials and window mask of currents x (eq. 2.1, 2.2, 3.1).

    With decay a and threshold th, by reset: 'zero' m[t] = a*m[t-1]*(1-s[t-1]) + x[t]; 'subtract'
    m[t] = a*(m[t-1] - th*s[t-1]) + x[t]; 'subtract-after-leak' m[t] = a*m[t-1] + x[t] - th*s[t-1]; 'none'
    m[t] = a*m[t-1] + x[t].
    """
    decay, threshold = np.float32(neuron.decay), np.float32(neuron.threshold)
    low, high = (np.float32(v) for v in neuron.window)
    membrane = np.empty_like(x, dtype=np.float32)
    spikes = np.empty(x.shape, np.uint8)
    kept = np.zeros_like(membrane[0])
    for t in range(x.shape[0]):
        membrane[t] = decay * kept + x[t]
        if t and neuron.reset == "subtract-after-leak":
            membrane[t] -= threshold * spikes[t - 1].astype(np.float32)
        spikes[t] = membrane[t] > threshold if neuron.fires_at == "greater" else membrane[t] >= threshold
        kept = _after_reset(membrane[t], spikes[t], threshold, neuron.reset)
    return spikes, membrane, ((low < membrane) & (membrane < high)).astype(np.uint8)


def _after_reset(membrane: Float32s, spikes: Bytes, threshold: np.float32, reset: str) -> Floats:
    if reset == "zero":
        return membrane * (1 - spikes).astype(np.float32)
    if reset == "subtract":
        return membrane - threshold * spikes.astype(np.float32)
    return membrane


def grad(spatial: Float32s, membrane: Float32s, spikes: Bytes, window: Bytes, neuron: Neuron) -> Float32s:
    """Membrane gradient dm, float32, from the spatial part of ds, the last timestep first (eq. 2.4, 2.5).

    With neuron.detach_reset the gradient does not pass through the reset: the term -a*m[t] (for reset 'subtract'
    -a*th, for 'subtract-after-leak' -th) is left out.
    """
    decay, fire = np.float32(neuron.decay), slope(membrane, window, neuron)
    dm = np.empty_like(spatial, dtype=np.float32)
    later = np.zeros_like(dm[0])
    for t in reversed(range(spatial.shape[0])):
        ds = spatial[t] + later * _reset_gradient(membrane[t], neuron)
        carried = later * decay
        if neuron.reset == "zero":
            carried = carried * (1 - spikes[t]).astype(np.float32)
        dm[t] = carried + ds * fire[t]
        later = dm[t]
    return dm


def slope(membrane: Float32s, window: Bytes, neuron: Neuron) -> Float32s:
    """fire'(m), float32: a rectangle (eq. 2.6), or the triangle of trace.model.Surrogate."""
    inside: Float32s = window.astype(np.float32)
    if neuron.surrogate is None:
        return np.float32(neuron.surrogate_scale) * inside
    threshold, one = np.float32(neuron.threshold), np.float32(1)
    height = np.maximum(np.float32(0), one - np.abs(membrane / threshold - one))
    found: Float32s = np.float32(neuron.surrogate.scale) * height / threshold * inside
    return found


def _reset_gradient(membrane: Float32s, neuron: Neuron) -> Float32s | np.float32:
    """d m[t+1] / d s[t] through the reset: what one more spike adds to the next membrane potential."""
    if neuron.detach_reset or neuron.reset == "none":
        return np.float32(0)
    decay, threshold = np.float32(neuron.decay), np.float32(neuron.threshold)
    if neuron.reset == "subtract-after-leak":
        return -threshold
    return -decay * membrane if neuron.reset == "zero" else -decay * threshold
