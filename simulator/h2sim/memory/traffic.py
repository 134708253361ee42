"""Bytes of every grid iteration: what an engine's buffers take from the external memories and give back.

The source says what stays on chip; how often the rest is fetched is assumed [A]. A grid iteration is one row group of
one tile of one column group. Arrays are int64 (column groups, tiles, row groups): the loop order of the grid, row
groups innermost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from h2sim.activity import BufferTraffic
from h2sim.arch.schema import Buffer
from h2sim.arrays import Bools, Ints

VALUE_BYTES = 2  # FP16


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """One job's bytes: to and from external memory per grid iteration, and through on-chip buffers in all.

    reads and writes are those of the feature memory (Mem 0 or 1), gradient_reads and gradient_writes those of Mem 2.
    pieces: into how many parts a grid iteration falls because its operands or results exceed one ping-pong half of
    their buffer; at least 1. completed: bytes of results that an iteration completes, if they are written later than in
    it; None: it completes what it writes. All are int64 (column groups, tiles, row groups).
    """

    reads: Ints
    writes: Ints
    gradient_reads: Ints
    gradient_writes: Ints
    pieces: Ints
    buffers: tuple[BufferTraffic, ...]
    completed: Ints | None = None

    @property
    def results(self) -> Ints:
        """Bytes that each iteration puts into the output buffer, int64 (column groups, tiles, row groups)."""
        return self.writes + self.gradient_writes if self.completed is None else self.completed

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        arrays = (self.reads, self.writes, self.gradient_reads, self.gradient_writes, self.pieces, self.completed)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def result_pieces(self) -> Ints:
        """How often each iteration swaps the halves of the output buffer: once, where results are written later."""
        return np.where(self.results == self.writes + self.gradient_writes, self.pieces, 1)

    def with_first(self, reads: int, writes: int, source: tuple[str, Buffer], output: tuple[str, Buffer]) -> Traffic:
        """The same traffic, whose first grid iteration also streams `reads` bytes in and `writes` bytes out."""
        moved = {"reads": self.reads.copy(), "writes": self.writes.copy(), "completed": self.results.copy()}
        pieces = self.pieces.copy()
        moved["reads"].flat[0] += reads
        moved["writes"].flat[0] += writes
        moved["completed"].flat[0] += writes
        needed = max(int(halves(source[1], np.array(reads))), int(halves(output[1], np.array(writes))))
        pieces.flat[0] = max(pieces.flat[0], needed)
        through = [BufferTraffic(source[0], reads, reads)] * (reads > 0) + [BufferTraffic(output[0], writes, writes)]
        return replace(self, **moved, pieces=pieces, buffers=_added(self.buffers, through))

    def __repr__(self) -> str:
        read = int(self.reads.sum() + self.gradient_reads.sum())
        written = int(self.writes.sum() + self.gradient_writes.sum())
        return f"Traffic({self.reads.size} iterations, {read} B read, {written} B written)"


def bits_to_bytes(bits: Ints) -> Ints:
    """Whole bytes that hold so many bits: ceil(bits / 8), element by element."""
    return -(-bits // 8)


def halves(buffer: Buffer, needed: Ints) -> Ints:
    """Parts into which `needed` bytes fall when a ping-pong half holds one part: max(1, ceil(needed / half))."""
    return np.maximum(1, -(-needed // buffer.half_bytes))


def bank_bytes(buffer: Buffer) -> int:
    """Bytes of one bank, in whole words."""
    word = buffer.word_bits // 8
    return -(-buffer.bytes // (buffer.banks * word)) * word


def _room(whole: int, block: int, stays: bool, buffer: Buffer) -> int:
    """What a half must hold of operands: a block, but all of them where they stay and one bank has room for them [A].

    A bank is the least that a machine's macros come in; that operands of many banks are read again for every column
    group costs less than the banks.
    """
    return whole if stays and whole <= bank_bytes(buffer) else block


@dataclass(frozen=True, kw_only=True)
class OutputStationary:
    """One layer on an output-stationary array (Forward and Backward Engine): operands stream, partial sums stay.

    Figure 3.8. Arrays are int64 bytes:
    operands (tiles, row groups): what a grid iteration streams, spikes or gradients; or (column groups, tiles, row
    groups), where column groups read other channels;
    weights (column groups, row groups): a block of weights;
    psums (column groups, tiles): partial sums of an output block, in the psum buffer;
    state (column groups, tiles): what Grad reads beside the operands, in equal parts over the block's row groups;
    results (column groups, tiles): what the last row group completes, and the iterations after it write.
    operands_stay: all operands stay on chip after the first column group, if they fit (FC layers). psum_updates: bytes
    of partial sums read over the layer, and as many written; None: every partial sum once per row group.
    """

    operands: Ints
    weights: Ints
    psums: Ints
    state: Ints
    results: Ints
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
        """The layer's traffic; each argument is a buffer with its name, `state` None for an engine without Grad.

        Weights of a column group are read once if half the weight buffer holds them, else once per tile. Partial sums
        that the psum buffer does not hold are written to memory and read back between row groups.

        "Outputs can take longer time (C/16 grid iterations) to be written" [G]: a block's results leave in equal parts,
        the first with the iteration that completes them, the others with those of the next block; those of the last
        block leave with its last iteration. Results and state that exceed a half of their buffer cannot wait: they move
        with the block's last iteration, in pieces [A].
        """
        n_columns, n_tiles = self.results.shape
        n_rows = self.operands.shape[-1]
        shape = (n_columns, n_tiles, n_rows)
        operands = np.broadcast_to(self.operands, shape)
        loaded_operands = operands.copy()
        if self.operands_stay and self.operands.sum() <= operand[1].half_bytes:
            loaded_operands[1:] = 0
        loaded_weights = np.broadcast_to(self.weights[:, None, :], shape).copy()
        if self.weights.sum(axis=1).max() <= weight[1].half_bytes:
            loaded_weights[:, 1:] = 0  # the whole column group's weights are there already
        reads, writes = loaded_operands + loaded_weights, np.zeros(shape, np.int64)
        spilled = np.where(self.psums > psum[1].bytes, self.psums, 0)[:, :, None]
        reads[:, :, 1:] += spilled
        writes[:, :, :-1] += spilled
        completed = writes.copy()
        completed[:, :, -1] += self.results
        waits = (self.results <= output[1].half_bytes) & (not spilled.any())
        writes += _written_later(self.results, waits, n_rows)
        pieces = np.maximum(
            halves(operand[1], operands),
            halves(weight[1], np.broadcast_to(self.weights[:, None, :], shape)),
        )
        pieces[:, :, -1] = np.maximum(pieces[:, :, -1], halves(output[1], self.results))
        if state:
            fits = self.state <= state[1].half_bytes
            reads += np.where(fits[:, :, None], _in_parts(self.state, n_rows), 0)
            reads[:, :, -1] += np.where(fits, 0, self.state)
            pieces[:, :, -1] = np.maximum(pieces[:, :, -1], halves(state[1], self.state))
        updates = int(self.psums.sum()) * n_rows if self.psum_updates is None else self.psum_updates
        results = int(self.results.sum())
        buffers = [
            BufferTraffic(operand[0], int(operands.sum()), int(loaded_operands.sum())),
            BufferTraffic(weight[0], int(self.weights.sum()) * n_tiles, int(loaded_weights.sum())),
            BufferTraffic(psum[0], updates, updates),
            BufferTraffic(output[0], results, results),
        ]
        if state:
            through = BufferTraffic(state[0], int(self.state.sum()), int(self.state.sum()))
            buffers = list(_added(buffers, [through]))
        zero = np.zeros(shape, np.int64)
        return Traffic(
            reads=reads,
            writes=writes,
            gradient_reads=zero,
            gradient_writes=zero,
            pieces=pieces,
            buffers=tuple(buffers),
            completed=completed,
        )

    def needs(
        self,
        operand: tuple[str, Buffer],
        weight: tuple[str, Buffer],
        psum: tuple[str, Buffer],
        state: tuple[str, Buffer] | None,
        output: tuple[str, Buffer],
    ) -> dict[str, int]:
        """Bytes that a half of each buffer must hold, by its name, so that `traffic` moves all once and in one piece.

        The arguments are those of `traffic`. Weights: of a column group, where several tiles read them, else a block's.
        """
        several = self.results.shape[1] > 1
        weights = self.weights.sum(axis=1) if several else self.weights
        operands = _room(int(self.operands.sum()), int(self.operands.max()), self.operands_stay, operand[1])
        held = [(operand[0], operands), (weight[0], int(weights.max())), (psum[0], int(self.psums.max()))]
        held += [(state[0], int(self.state.max()))] if state else []
        return most([*held, (output[0], int(self.results.max()))])


def most(held: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The largest number beside each name."""
    found: dict[str, int] = {}
    for name, n_bytes in held:
        found[name] = max(n_bytes, found.get(name, 0))
    return found


def _added(buffers: Sequence[BufferTraffic], more: Sequence[BufferTraffic]) -> tuple[BufferTraffic, ...]:
    """The bytes through each buffer, those of `more` added, in the order in which buffers first appear."""
    sums: dict[str, BufferTraffic] = {}
    for b in (*buffers, *more):
        old = sums.get(b.buffer, BufferTraffic(b.buffer, 0, 0))
        sums[b.buffer] = BufferTraffic(b.buffer, old.read_bytes + b.read_bytes, old.write_bytes + b.write_bytes)
    return tuple(sums.values())


def _in_parts(totals: Ints, parts: int) -> Ints:
    """Cuts totals, int64 (...), into integer parts that differ by at most 1: int64 (..., parts)."""
    part = np.arange(parts)
    cut: Ints = totals[..., None] * (part + 1) // parts - totals[..., None] * part // parts
    return cut


def _written_later(results: Ints, waits: Bools, n_rows: int) -> Ints:
    """Bytes that each iteration writes, int64 (column groups, tiles, row groups); see OutputStationary.traffic.

    results and waits (column groups, tiles): a block's bytes, and whether they may leave with the block after it.
    """
    blocks, later = results.ravel(), waits.ravel().copy()
    later[-1:] = False
    shares = np.where(later[:, None], _in_parts(blocks, n_rows), 0)
    written = np.zeros((len(blocks), n_rows), np.int64)
    written[:, -1] = np.where(later, shares[:, 0], blocks)
    written[1:, :-1] = shares[:-1, 1:]
    return written.reshape(*results.shape, n_rows)


@dataclass(frozen=True, kw_only=True)
class GradientStationary:
    """One layer's weight gradient: dm sits in the LUTs, spikes stream, dw stays on chip (section 3.2.2).

    Arrays are int64 bytes:
    gradients (column groups, tiles): dm;
    operands (tiles,): spikes, or an analog input, of all channels; or (column groups, tiles), where column groups read
    other channels;
    operand_reads, of the same shape: what the array reads of them from their buffer;
    weight_gradients (column groups,): dw.
    updates: bytes of dw that accumulation reads from its buffer over the layer, and as many written. operands_stay: all
    operands stay on chip after the first column group, if they fit. blocks: into how many blocks of input features an
    iteration may fall, each of them with its share of operands and dw (FC layers).
    """

    gradients: Ints
    operands: Ints
    operand_reads: Ints
    weight_gradients: Ints
    updates: int
    operands_stay: bool = False
    blocks: int = 1

    def traffic(
        self, gradient: tuple[str, Buffer], operand: tuple[str, Buffer], result: tuple[str, Buffer], accumulate: bool
    ) -> Traffic:
        """The layer's traffic; each of the first three arguments is a buffer with its name.

        accumulate: dw is added to what Mem 2 holds, so it is read first. A dw that half its buffer does not hold is
        read and written for every tile.
        """
        n_columns, n_tiles = self.gradients.shape
        shape = (n_columns, n_tiles, 1)
        loaded = np.broadcast_to(self.operands, (n_columns, n_tiles)).copy()
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
            BufferTraffic(operand[0], int(np.broadcast_to(self.operand_reads, loaded.shape).sum()), int(loaded.sum())),
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

    def needs(
        self, gradient: tuple[str, Buffer], operand: tuple[str, Buffer], result: tuple[str, Buffer]
    ) -> dict[str, int]:
        """Bytes that a half of each buffer must hold, by its name, so that `traffic` moves dw once, and an iteration
        falls into no more than `blocks` pieces. The arguments are those of `traffic`."""
        block = -(-int(self.operands.max()) // self.blocks)
        operands = _room(int(self.operands.sum()), block, self.operands_stay, operand[1])
        dw = -(-int(self.weight_gradients.max()) // self.blocks)
        return most([(gradient[0], int(self.gradients.max())), (operand[0], operands), (result[0], dw)])


def neuron_stream(reads: Ints, writes: Ints, source: tuple[str, Buffer] | None, output: tuple[str, Buffer]) -> Traffic:
    """The traffic of a layer that runs in the Soma or Grad unit alone (pool, add).

    reads and writes: bytes of each tile, int64 (tiles,); source and output: a buffer with its name.
    """
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
