"""Bytes of every grid iteration: what an engine's buffers take from the external memories and give back.

The table of model.md section 3 ("Bytes of a grid iteration", [A] but for what stays on chip). Arrays are int64
(column groups, tiles, row groups), the loop order of the grid, row groups innermost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.activity import BufferTraffic
from h2sim.arch.schema import Buffer

VALUE_BYTES = 2  # FP16


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """External-memory bytes per grid iteration and the whole layer's on-chip buffer traffic.

    reads / writes go to the feature memory (Mem 0 or 1), gradient_* to Mem 2. pieces: into how many parts an
    iteration falls because its operands or results exceed one ping-pong half of their buffer.
    """

    reads: np.ndarray
    writes: np.ndarray
    gradient_reads: np.ndarray
    gradient_writes: np.ndarray
    pieces: np.ndarray
    buffers: tuple[BufferTraffic, ...]


def bits_to_bytes(bits: np.ndarray) -> np.ndarray:
    """Whole bytes that hold `bits` bits."""
    return -(-bits // 8)


def halves(buffer: Buffer, needed: np.ndarray) -> np.ndarray:
    """Parts into which `needed` bytes fall when a ping-pong half takes one part at a time; at least 1."""
    return np.maximum(1, -(-needed // buffer.half_bytes))


@dataclass(frozen=True, kw_only=True)
class OutputStationary:
    """One layer on an output-stationary array (FE, BE): operands stream, partial sums stay (figure 3.8).

    operands: bytes (tiles, row groups); weights: bytes of a weight block (column groups, row groups);
    psums: bytes (column groups, tiles); state: bytes read per output tile set (column groups, tiles), for Grad;
    results: bytes written when a reduction is complete (column groups, tiles); operands_stay: all operands are
    held on chip after the first column group (FC layers whose input fits). psum_updates: bytes of partial sums read
    (and as many written) over the layer; None: every psum once per row group.
    """

    operands: np.ndarray
    weights: np.ndarray
    psums: np.ndarray
    state: np.ndarray
    results: np.ndarray
    operands_stay: bool = False
    psum_updates: int | None = None

    def traffic(
        self,
        operand: tuple[str, Buffer],
        weight: tuple[str, Buffer],
        psum: tuple[str, Buffer],
        state: tuple[str, Buffer] | None,
        output: tuple[str, Buffer],
    ) -> Traffic:
        """The traffic through the named buffers of an engine."""
        n_columns, n_tiles = self.results.shape
        n_rows = self.operands.shape[1]
        shape = (n_columns, n_tiles, n_rows)
        loaded_operands = np.broadcast_to(self.operands[None], shape).copy()
        if self.operands_stay and self.operands.sum() <= operand[1].half_bytes:
            loaded_operands[1:] = 0
        loaded_weights = np.broadcast_to(self.weights[:, None, :], shape).copy()
        if self.weights.sum(axis=1).max() <= weight[1].half_bytes:
            loaded_weights[:, 1:] = 0  # the whole column group's weights are there already
        reads, writes = loaded_operands + loaded_weights, np.zeros(shape, np.int64)
        reads[:, :, 0] += self.state
        writes[:, :, -1] += self.results
        spilled = np.where(self.psums > psum[1].bytes, self.psums, 0)[:, :, None]
        reads[:, :, 1:] += spilled
        writes[:, :, :-1] += spilled
        pieces = np.maximum(
            halves(operand[1], np.broadcast_to(self.operands[None], shape)),
            halves(weight[1], np.broadcast_to(self.weights[:, None, :], shape)),
        )
        pieces[:, :, -1] = np.maximum(pieces[:, :, -1], halves(output[1], self.results))
        if state:
            pieces[:, :, 0] = np.maximum(pieces[:, :, 0], halves(state[1], self.state))
        updates = int(self.psums.sum()) * n_rows if self.psum_updates is None else self.psum_updates
        results = int(self.results.sum())
        buffers = [
            BufferTraffic(operand[0], int(self.operands.sum()) * n_columns, int(loaded_operands.sum())),
            BufferTraffic(weight[0], int(self.weights.sum()) * n_tiles, int(loaded_weights.sum())),
            BufferTraffic(psum[0], updates, updates),
            BufferTraffic(output[0], results, results),
        ]
        if state:
            buffers.append(BufferTraffic(state[0], int(self.state.sum()), int(self.state.sum())))
        zero = np.zeros(shape, np.int64)
        return Traffic(
            reads=reads, writes=writes, gradient_reads=zero, gradient_writes=zero, pieces=pieces, buffers=tuple(buffers)
        )


@dataclass(frozen=True, kw_only=True)
class GradientStationary:
    """One layer's weight gradient: dm sits in the LUTs, spikes stream, dw stays on chip (section 3.2.2).

    gradients: bytes of dm (column groups, tiles); operands: bytes of spikes or inputs (tiles,), all channels;
    operand_reads: bytes the array reads of them (tiles,); weight_gradients: bytes of dw (column groups,);
    updates: bytes read (and as many written) by accumulation into dw over the layer.
    """

    gradients: np.ndarray
    operands: np.ndarray
    operand_reads: np.ndarray
    weight_gradients: np.ndarray
    updates: int
    operands_stay: bool = False

    def traffic(
        self, gradient: tuple[str, Buffer], operand: tuple[str, Buffer], result: tuple[str, Buffer], accumulate: bool
    ) -> Traffic:
        """The traffic through the named buffers; accumulate: dw is added to what Mem 2 holds."""
        n_columns, n_tiles = self.gradients.shape
        shape = (n_columns, n_tiles, 1)
        loaded = np.broadcast_to(self.operands[None], (n_columns, n_tiles)).copy()
        if self.operands_stay and self.operands.sum() <= operand[1].half_bytes:
            loaded[1:] = 0
        dw = self.weight_gradients[:, None]
        written, read = np.zeros((2, n_columns, n_tiles), np.int64)
        if self.weight_gradients.max() <= result[1].half_bytes or n_tiles == 1:
            written[:, -1:], read[:, :1] = dw, dw if accumulate else 0
        else:  # dw does not fit: read and written per pass
            written[:] = dw
            read[:] = dw
            read[:, :1] = dw if accumulate else 0
        pieces = np.maximum(halves(gradient[1], self.gradients), halves(operand[1], loaded))
        pieces = np.maximum(pieces, halves(result[1], np.maximum(written, read)))
        dm, dw_out, dw_in = int(self.gradients.sum()), int(written.sum()), int(read.sum())
        buffers = (
            BufferTraffic(gradient[0], dm, dm),
            BufferTraffic(operand[0], int(self.operand_reads.sum()) * n_columns, int(loaded.sum())),
            BufferTraffic(result[0], self.updates + dw_out, self.updates + dw_in),
        )
        zero = np.zeros(shape, np.int64)
        return Traffic(
            reads=(self.gradients + loaded).reshape(shape),
            writes=zero,
            gradient_reads=read.reshape(shape),
            gradient_writes=written.reshape(shape),
            pieces=pieces.reshape(shape),
            buffers=buffers,
        )


def neuron_stream(
    reads: np.ndarray, writes: np.ndarray, source: tuple[str, Buffer] | None, output: tuple[str, Buffer]
) -> Traffic:
    """A layer that runs in the Soma or Grad unit alone (pool, add): bytes per tile in and out, (tiles,)."""
    pieces = halves(output[1], writes)
    buffers = [BufferTraffic(output[0], int(writes.sum()), int(writes.sum()))]
    if source:
        pieces = np.maximum(pieces, halves(source[1], reads))
        buffers.append(BufferTraffic(source[0], int(reads.sum()), int(reads.sum())))
    shape = (1, len(writes), 1)
    zero = np.zeros(shape, np.int64)
    return Traffic(
        reads=reads.reshape(shape),
        writes=writes.reshape(shape),
        gradient_reads=zero,
        gradient_writes=zero,
        pieces=pieces.reshape(shape),
        buffers=tuple(buffers),
    )
