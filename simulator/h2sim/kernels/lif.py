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
    current: Float32s,
    decay: np.float32,
    threshold: np.float32,
    strict: bool,
    zeroed: np.float32,
    before: np.float32,
    after: np.float32,
    membrane: Float32s,
    spikes: Float32s,
) -> None:
    """Fills membrane m and spikes s (0 or 1) from the current x.

    m[t] = decay * r[t-1] + x[t] - after * threshold * s[t-1], r = m * (1 - zeroed * s) - before * threshold * s,
    m[0] = x[0]; s[t] = 1 if m[t] >= threshold, else 0. strict: only where m[t] > threshold. Of zeroed, before and after
    one is 1 and says what the reset does; all 0: no reset.
    """
    one, zero = np.float32(1), np.float32(0)
    before, after = before * threshold, after * threshold
    steps, neurons = current.shape
    for t in range(steps):
        for k in range(neurons):
            m = current[t, k]
            if t > 0:
                s = spikes[t - 1, k]
                m = m + decay * (membrane[t - 1, k] * (one - zeroed * s) - before * s) - after * s
            membrane[t, k] = m
            spikes[t, k] = one if m > threshold or (m == threshold and not strict) else zero


@njit()
def backward(
    grad_spikes: Float32s,
    membrane: Float32s,
    spikes: Float32s,
    decay: np.float32,
    threshold: np.float32,
    low: np.float32,
    high: np.float32,
    scale: np.float32,
    triangle: bool,
    attached: np.float32,
    zeroed: np.float32,
    before: np.float32,
    after: np.float32,
    grad: Float32s,
) -> None:
    """Fills grad, the membrane gradient dm, from grad_spikes (dL/ds), membrane m and spikes s.

    dm[t] = decay * (1 - zeroed * s[t]) * dm[t+1] + fire'(m[t]) * (dL/ds[t] - attached * drop[t]), where
    drop[t] = decay * dm[t+1] * (zeroed * m[t] + before * threshold) + after * threshold * dm[t+1]; dm after the last
    timestep is 0. fire'(m) = scale where low < m < high, else 0; triangle: scale * max(0, 1 - |m/threshold - 1|) /
    threshold. attached: 1, or 0 where the gradient does not pass through the reset (detached).
    """
    one, zero = np.float32(1), np.float32(0)
    before, after = before * threshold, after * threshold
    steps, neurons = membrane.shape
    for t in range(steps - 1, -1, -1):
        for k in range(neurons):
            m, ds = membrane[t, k], grad_spikes[t, k]
            if triangle:
                surrogate = scale * max(zero, one - abs(m / threshold - one)) / threshold
            else:
                surrogate = scale if low < m < high else zero
            if t == steps - 1:
                grad[t, k] = ds * surrogate
            else:
                later = grad[t + 1, k]
                leak = decay * later
                drop = leak * (zeroed * m + before) + after * later
                grad[t, k] = leak * (one - zeroed * spikes[t, k]) + (ds - attached * drop) * surrogate
