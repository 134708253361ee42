"""Bit-packed masks: numpy.packbits over the flattened (C, H, W) neurons, most significant bit first."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Array, Bytes


def packed_bytes(neurons: int) -> int:
    """Bytes that hold one mask of `neurons` bits."""
    return -(-neurons // 8)


def unpack(packed: Bytes, neurons: int) -> Bytes:
    """Unpacks a mask: uint8 (T, N, neurons) of 0 and 1 from packed uint8 (T, N, bytes)."""
    return np.unpackbits(packed, axis=-1, count=neurons)


def pack(bits: Array) -> Bytes:
    """Packs a mask: uint8 (T, N, bytes) from (T, N, neurons); whatever is not 0 is a set bit."""
    return np.packbits(bits.astype(bool), axis=-1)


def popcount(packed: Bytes) -> int:
    """The number of set bits of a packed mask."""
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def padding_is_zero(packed: Bytes, neurons: int) -> bool:
    """Whether the unused bits behind the last neuron are 0, as the format asks."""
    rest = packed.shape[-1] * 8 - neurons
    return rest == 0 or not np.any(packed[..., -1] & np.uint8((1 << rest) - 1))
