"""The LIF neuron of a whole layer, one pass over memory: eq. 2.1-2.6, in the order of operations of h2sim.train.lif.

Arrays are float32 (T, K), K neurons of all samples. No operation is contracted or reordered, so the results are the
plain torch ones bit for bit (up to the sign of zero).
"""

from __future__ import annotations

import numpy as np

from h2sim.kernels.jit import njit


@njit()
def forward(current, decay, threshold, membrane, spikes):
    """Fills membrane m and spikes s (0 or 1): m[t] = decay*m[t-1]*(1 - s[t-1]) + x[t], s[t] = m[t] >= threshold."""
    one, zero = np.float32(1), np.float32(0)
    steps, neurons = current.shape
    for t in range(steps):
        for k in range(neurons):
            m = current[t, k]
            if t > 0:
                m += decay * membrane[t - 1, k] * (one - spikes[t - 1, k])
            membrane[t, k] = m
            spikes[t, k] = one if m >= threshold else zero


@njit()
def backward(grad_spikes, membrane, spikes, decay, low, high, scale, attached, grad):
    """Fills grad, dm[t] = decay*(1 - s[t])*dm[t+1] + fire'(m[t])*(dL/ds[t] - attached*decay*dm[t+1]*m[t]).

    fire' is scale where low < m < high; attached is 1, or 0 for a reset that the gradient leaves out.
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
