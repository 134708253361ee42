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
from h2sim.errors import BaselineError, at
from h2sim.memory.schedule import MOST_PIECES
from h2sim.memory.traffic import Traffic, bits_to_bytes, halves
from h2sim.rivals.machine import ClockedMachine
from h2sim.rivals.stationary import Memories, one_memory, weight_loads
from h2sim.shapes import ConvShape
from h2sim.trace import Layer

READOUT_BYTES = 2  # of a potential that a readout gives


def refuse_more(machine: ClockedMachine, layer: Layer, what: str, number: int, most: int = MOST_PIECES) -> None:
    """Raises BaselineError for so many of something in a layer that they would not fit in this computer's memory."""
    if number > most:
        wanted = f"{what} of which a layer has at most {most:,}"
        raise BaselineError(at(machine.name, "array", wanted, f"{number:,} in {layer.name}"))


def inputs_of(shape: ConvShape) -> int:
    """Inputs of a neuron: columns of im2col."""
    return shape.in_channels * math.prod(shape.kernel)


def in_range(shape: ConvShape) -> Ints:
    """Positions of the input that each output position reads, int64 (L,)."""
    sides = zip((shape.out_height, shape.out_width), (shape.in_height, shape.in_width), shape.kernel, shape.stride,
                shape.padding, strict=True)  # fmt: skip
    down, across = (_taps(*side) for side in sides)
    return np.multiply.outer(down, across).ravel()


def _taps(outputs: int, inputs: int, kernel: int, stride: int, padding: int) -> Ints:
    """The same along one side."""
    first = np.arange(outputs, dtype=np.int64) * stride - padding
    found: Ints = np.maximum(0, np.minimum(first + kernel, inputs) - np.maximum(first, 0))
    return found


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
    buffers = (
        BufferTraffic(m.spikes[0], read[0], int(spikes.sum())),
        BufferTraffic(m.weights[0], read[1], int(loaded.sum())),
        *more,
    )
    return one_memory(loaded + spikes, writes, pieces, buffers)
