"""How far two float32 computations of the same value may differ, and values that carry that with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from h2sim.arrays import Array, Float32s, Float64s

UNIT = 2.0**-24  # float32 rounding
Checked = tuple[Float32s, Float64s]  # values and the tolerance of each


def summation_tolerance(terms: int, magnitude: Array) -> Float64s:
    """How far two sums of the same float32 values can differ that add them in different orders.

    terms: how many values; magnitude: the sum of their absolute values, of any shape.
    """
    return 8.0 * math.sqrt(max(terms, 1)) * UNIT * magnitude.astype(np.float64)


def sum_of(arrays: Sequence[Array]) -> Array:
    """The element-wise sum of one or more arrays."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total
