"""Soma and Grad in the RTL's fixed point, in Python integers: what neuron_unit.py must give, bit for bit.

Where nothing is rounded they equal h2sim.reference.neuron, which a property test checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Array, Ints
from h2sim.rtl.neuron_unit import DECAY_FRACTION, SCALE_FRACTION


@dataclass(frozen=True, kw_only=True)
class FixedNeuron:
    """The parameters of a layer's neurons. threshold and window are integers in units of 2**-fraction_bits."""

    fraction_bits: int
    threshold: int
    window: tuple[int, int]
    decay: int  # of 2**-7
    surrogate_scale: int  # of 2**-4
    detach_reset: bool

    def registers(self) -> dict[str, int]:
        """The configuration registers of the neuron lanes."""
        low, high = self.window
        values = {"threshold": self.threshold, "window_low": low, "window_high": high, "decay": self.decay}
        return values | {"surrogate_scale": self.surrogate_scale, "detach_reset": int(self.detach_reset)}


def soma(x: Array, neuron: FixedNeuron) -> tuple[Ints, Ints, Ints]:
    """Spikes, membrane potentials and window mask of integer currents x, all (T, ...).

    Membrane potentials are integers in units of 2**-fraction_bits.
    """
    kept = np.zeros(x.shape[1:], np.int64)
    spikes, membranes, windows = (np.zeros(x.shape, np.int64) for _ in range(3))
    for t in range(x.shape[0]):
        membrane = ((kept * neuron.decay) >> DECAY_FRACTION) + (x[t].astype(np.int64) << neuron.fraction_bits)
        spikes[t], membranes[t] = membrane >= neuron.threshold, membrane
        windows[t] = (membrane > neuron.window[0]) & (membrane < neuron.window[1])
        kept = np.where(spikes[t], 0, membrane)
    return spikes, membranes, windows


def grad(spatial: Array, membrane: Array, spikes: Array, window: Array, neuron: FixedNeuron) -> Ints:
    """dm (T, ...), integers in units of 2**-fraction_bits, of the spatial part of ds, which is integers.

    membrane, spikes and window are those of the forward pass.
    """
    later = np.zeros(spatial.shape[1:], np.int64)
    dm = np.zeros(spatial.shape, np.int64)
    for t in reversed(range(spatial.shape[0])):
        carried = (later * neuron.decay) >> DECAY_FRACTION
        reset_term = 0 if neuron.detach_reset else (carried * membrane[t]) >> neuron.fraction_bits
        ds = (spatial[t].astype(np.int64) << neuron.fraction_bits) - reset_term
        fire = (ds * neuron.surrogate_scale) >> SCALE_FRACTION
        later = np.where(spikes[t], 0, carried) + np.where(window[t], fire, 0)
        dm[t] = later
    return dm
