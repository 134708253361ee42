"""The FP16 MAC unit of the Backward Engine (figure 3.6 c)."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from h2sim.reference.acc import ZERO
from h2sim.reference.result import Tally


class MacPe:
    """One multiplier, one adder and a partial-sum buffer of its own; the PEs of a group share the weight buffer."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.psum: dict[Hashable, np.float32] = {}

    def mac(self, key: Hashable, gradient: np.float32, weight: np.float32) -> None:
        """psum[key] += gradient * weight: reads both operands and the partial sum, writes the partial sum."""
        self.psum[key] = self.psum.get(key, ZERO) + gradient * weight
        self.tally.fp16_multiply += 1
        self.tally.fp16_add += 1
        self.tally.register_access += 4

    def multiply(self, gradient: np.float32, weight: np.float32) -> np.float32:
        """The product alone, for FC layers, in which only Acc adds."""
        self.tally.fp16_multiply += 1
        self.tally.register_access += 2
        return gradient * weight

    def output(self, key: Hashable) -> np.float32:
        """What the PE sends to Acc for one partial sum; 0 where no pair was found."""
        return self.psum.get(key, ZERO)
