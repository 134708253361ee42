"""The LIF neurons of a whole layer in one pass over memory: eq. 2.1-2.6, in the order of operations of h2sim.train.lif.

Arrays are float32 (T, K): T timesteps, K neurons of all samples. No operation is fused or reordered, so the results
equal those of plain torch bit for bit (but for the sign of zero).
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Float32s
from h2sim.kernels.jit import njit


@njit()
def forward(
    current: Float32s, decay: np.float32, threshold: np.float32, strict: bool, membrane: Float32s, spikes: Float32s
) -> None:
    """Fills membrane m and spikes s (0 or 1) from the current x.

    m[t] = decay * m[t-1] * (1 - s[t-1]) + x[t], m[0] = x[0]; s[t] = 1 if m[t] >= threshold, else 0. strict: only where
    m[t] > threshold.
    """
    one, zero = np.float32(1), np.float32(0)
    steps, neurons = current.shape
    for t in range(steps):
        for k in range(neurons):
            m = current[t, k]
            if t > 0:
                m += decay * membrane[t - 1, k] * (one - spikes[t - 1, k])
            membrane[t, k] = m
            spikes[t, k] = one if m > threshold or (m == threshold and not strict) else zero


@njit()
def backward(
    grad_spikes: Float32s,
    membrane: Float32s,
    spikes: Float32s,
    decay: np.float32,
    low: np.float32,
    high: np.float32,
    scale: np.float32,
    attached: np.float32,
    grad: Float32s,
) -> None:
    """Fills grad, the membrane gradient dm, from grad_spikes (dL/ds), membrane m and spikes s.

    dm[t] = decay * (1 - s[t]) * dm[t+1] + fire'(m[t]) * (dL/ds[t] - attached * decay * dm[t+1] * m[t]);
    dm after the last timestep is 0. fire'(m) = scale where low < m < high, else 0. attached: 1, or 0 where the
    gradient does not pass through the reset (detached).
    """
    one, zero = np.float32(1), np.float32(0)
    steps, neurons = membrane.shape
    for t in range(steps - 1, -1, -1):
        for k in range(neurons):
            m, ds = membrane[t, k], grad_spikes[t, k]
            surrogate = scale if low < m < high else zero
            if t == steps - 1:
                grad[t, k] = ds * surrogate
            else:
                leak = decay * grad[t + 1, k]
                grad[t, k] = leak * (one - spikes[t, k]) + (ds - attached * leak * m) * surrogate
