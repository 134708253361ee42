"""Bytes of tiles of im2col, by the loading rules that machines of spikes share [A].

An iteration is (group of output channels g, tile of rows m, part of the reduction k). Weights of a group are loaded
once if half of their buffer holds them all, else with every iteration. Spikes of a tile are loaded with its first part
if half of theirs holds all it reads, else each part loads its own. Results leave with a tile's last part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from h2sim.activity import BufferTraffic
from h2sim.arch.schema import Buffer
from h2sim.arrays import Ints
from h2sim.memory.traffic import Traffic, bits_to_bytes, halves
from h2sim.rivals.stationary import Memories, weight_loads
from h2sim.shapes import ConvShape

READOUT_BYTES = 2  # of a potential that a readout gives


def inputs_of(shape: ConvShape) -> int:
    """Inputs of a neuron: columns of im2col."""
    return shape.in_channels * math.prod(shape.kernel)


def spread(total: int, parts: int) -> Ints:
    """Cuts total into so many integer parts that differ by at most 1, int64 (parts,)."""
    part = np.arange(parts, dtype=np.int64)
    return total * (part + 1) // parts - total * part // parts


def spike_loads(whole: Ints, each: Ints, buffer: Buffer) -> Ints:
    """int64 (tiles, parts): bytes that each part loads. whole (tiles,): of the whole tile; each (tiles, parts)."""
    fits = whole <= buffer.half_bytes
    found = np.where(fits[:, None], 0, each)
    found[fits, 0] = whole[fits]
    return found


def result_bytes(values: Ints, spiking: bool) -> Ints:
    """Bytes in which neurons' spikes, or a readout's potentials, leave."""
    return bits_to_bytes(values) if spiking else values * READOUT_BYTES


def tile_traffic(
    m: Memories, weights: Ints, spikes: Ints, results: Ints, *, read: tuple[int, int],
    more: Sequence[BufferTraffic] = (),
) -> Traffic:  # fmt: skip
    """The traffic of a layer.

    weights: bytes, (groups, parts); spikes: bytes as loaded, (tiles, parts), or (groups, tiles, parts) where groups
    load differently; results: bytes, (groups, tiles). read: bytes that the array reads of the buffers of spikes and of
    weights. more: other buffers' traffic.
    """
    size = (len(weights), results.shape[1], weights.shape[1])
    held = weight_loads(weights.sum(axis=1), size[1], m.weights[1]) > 0
    loaded = np.where(held[:, :, None], weights[:, None], 0)
    spikes = np.broadcast_to(spikes, size)
    writes = np.zeros(size, np.int64)
    writes[:, :, -1] = results
    pieces = np.maximum(halves(m.weights[1], loaded), halves(m.spikes[1], spikes))
    pieces[:, :, -1] = np.maximum(pieces[:, :, -1], halves(m.values[1], results))
    zero = np.zeros(size, np.int64)
    buffers = (
        BufferTraffic(m.spikes[0], read[0], int(spikes.sum())),
        BufferTraffic(m.weights[0], read[1], int(loaded.sum())),
        *more,
    )
    return Traffic(
        reads=loaded + spikes, writes=writes, gradient_reads=zero, gradient_writes=zero, pieces=pieces, buffers=buffers
    )
