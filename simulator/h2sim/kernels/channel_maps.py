"""Maps summed over their channels, and sums over the windows of a convolution, compiled.

A convolution connects every input channel with every output channel, so what happens at a pair of positions is a
product of two such sums.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Bytes, Ints
from h2sim.kernels.jit import njit


def channel_counts(packed: Bytes, chw: tuple[int, int, int]) -> Ints:
    """Set bits of all channels at each position: int64 (S, H, W). packed: uint8 (S, bytes) of bits (C, H, W)."""
    _, height, width = chw
    counts = np.zeros((len(packed), height * width), np.int64)
    count_channels(packed, counts)
    return counts.reshape(-1, height, width)


@njit()
def count_channels(packed: Bytes, counts: Ints) -> None:
    """Adds to counts, int64 (S, H * W), the set bits of all channels; see channel_counts."""
    positions = counts.shape[1]
    for s in range(packed.shape[0]):
        for b in range(packed.shape[1]):
            value = packed[s, b]
            if value:
                for i in range(8):
                    if value & (128 >> i):
                        counts[s, (8 * b + i) % positions] += 1


def sums_of_fed(
    outputs: Ints, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Ints:
    """For each input position the sum of the values at the outputs that it feeds, tap by tap: int64 (S, H, W).

    outputs: int64 (S, Ho, Wo); size: (H, W). Of ones: how many (output position, tap) pairs read an input position.
    """
    found = np.zeros((len(outputs), *size), np.int64)
    sum_fed(outputs, kernel, stride, padding, found)
    return found


@njit()
def sum_fed(
    outputs: Ints, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], found: Ints
) -> None:
    """Adds to found, int64 (S, H, W); see sums_of_fed."""
    for s in range(outputs.shape[0]):
        for oy in range(outputs.shape[1]):
            for ox in range(outputs.shape[2]):
                value = outputs[s, oy, ox]
                if value:
                    for ky in range(kernel[0]):
                        y = oy * stride[0] + ky - padding[0]
                        for kx in range(kernel[1]):
                            x = ox * stride[1] + kx - padding[1]
                            if 0 <= y < found.shape[1] and 0 <= x < found.shape[2]:
                                found[s, y, x] += value
