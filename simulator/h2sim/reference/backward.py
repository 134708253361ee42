"""Backward Engine (section 3.2.3): the spatial part of ds, w^T * dm, on MAC PEs behind the Effectual finders.

Rows are channels of dm^{l+1} (the layer's outputs), columns channels of ds^l (its inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from h2sim.arch.schema import BackwardEngine, TileSize
from h2sim.arrays import Bytes, Float32s
from h2sim.reference.acc import AccTree
from h2sim.reference.finder import OutputFinder, PairFinder, Position, TagReader
from h2sim.reference.mac import MacPe
from h2sim.reference.result import Bench, EngineRun, Sweep, checked_bits, checked_values
from h2sim.shapes import ConvShape, FcShape, Tile, cut, groups_of, tiles_of


@dataclass(frozen=True)
class Operands:
    """What the array works on, with batch and timestep as one dimension of T*N samples.

    gradient_mask and gradient: (samples, Cout, Ho, Wo); window: (samples, Cin, H, W); weight: (Cout, Cin, kh, kw).
    """

    gradient_mask: Bytes
    window: Bytes
    gradient: Float32s
    weight: Float32s


class GroupPe:
    """One PE of a PE group: its finder works through an output ID buffer and feeds its MAC."""

    def __init__(
        self, finder: PairFinder, reader: TagReader, gradient: Float32s, weight: Float32s, bench: Bench
    ) -> None:
        self.finder = finder
        self.reader = reader
        self.gradient = gradient  # (Ho, Wo) of the row's channel
        self.weight = weight  # (kh, kw)
        self.mac = MacPe(bench.pe_array)

    def step(self) -> None:
        """One cycle: at most one valid pair is found and multiplied."""
        found = self.finder.step()
        if found is not None:
            pair = self.reader.decode(*found)
            self.mac.mac(pair.position, self.gradient[pair.output], self.weight[pair.tap])


class BackwardArray:
    """R x C groups of P PEs, with an O finder and an Acc per column. At a tile's end all groups wait for the last."""

    def __init__(self, engine: BackwardEngine, shape: ConvShape, operands: Operands, bench: Bench) -> None:
        self.engine, self.shape = engine, shape
        self.operands = operands
        self.bench = bench
        self.output_finder = OutputFinder(engine.parallelism)
        self.reader = TagReader(shape)
        self.acc = AccTree(engine.rows, bench.acc)

    def run_tile(self, bt: int, tile: Tile, rows: range, columns: range, psum: Float32s) -> None:
        """One tile of sample bt with one block of weights; its sums are added to psum (samples, Cin, H, W)."""
        buffers = {c: self.output_finder.deal(self.operands.window[bt, c], tile) for c in columns}
        shape = self.shape
        groups = {
            (r, c): [self._pe(bt, r, c, ids) for ids in buffers[c]]
            for r, c in product(rows, columns) if shape.alike(c, r)
        }  # fmt: skip
        busy = [pe for group in groups.values() for pe in group if not pe.finder.done]
        while busy:
            self.bench.clock.tick()
            for pe in busy:
                pe.step()
            busy = [pe for pe in busy if not pe.finder.done]
        for _ in range(self.engine.tile_sync_cycles):
            self.bench.clock.tick()
        for c in columns:  # overlaps with the next tile: takes no cycle of the array
            own = [r for r in rows if (r, c) in groups]
            for lane, positions in enumerate(buffers[c]):
                for y, x in positions:
                    outputs = [groups[r, c][lane].mac.output((y, x)) for r in own]
                    psum[bt, c, y, x] = self.acc.accumulate(psum[bt, c, y, x], outputs, first=own[0] - rows.start)

    def _pe(self, bt: int, row: int, column: int, positions: list[Position]) -> GroupPe:
        tag_of = partial(self.reader.tag, self.operands.gradient_mask[bt, row])
        finder = PairFinder(
            positions,
            tag_of,
            self.engine.empty_window_cycles,
            self.engine.mode != "dense",
            self.bench.pe_array,
        )
        gradient, weight = self.operands.gradient[bt, row], self.operands.weight[row, self.shape.tap_channel(column)]
        return GroupPe(finder, self.reader, gradient, weight, self.bench)


def backward_conv(
    engine: BackwardEngine,
    tile: TileSize,
    shape: ConvShape,
    grad_mask: Bytes,
    window_mask: Bytes,
    grad: Float32s | None = None,
    weight: Float32s | None = None,
) -> EngineRun:
    """Computes the spatial part of ds (T, N, Cin, H, W) of a convolution; it is 0 where the mode skips an output.

    grad_mask (dm~) and grad (dm^{l+1}): (T, N, Cout, Ho, Wo); window_mask (ds~): (T, N, Cin, H, W); weight: (Cout,
    Cin / groups, kh, kw). Without grad and weight only cycles and events are counted, and the values are 0. A mode
    without input sparsity takes grad_mask as all ones; one without output sparsity takes window_mask as all ones. The
    loops are passes of groups, column groups, input tiles and row groups, which make a grid iteration, and in it
    samples, the last timestep first.
    """
    operands = _operands(engine, shape, grad_mask, window_mask, grad, weight)
    psum = np.zeros(operands.window.shape, dtype=np.float32)
    bench, grad_unit = Bench(), Sweep(engine.parallelism)
    array = BackwardArray(engine, shape, operands, bench)
    one, tiles = shape.group, tiles_of(shape.in_height, shape.in_width, tile.height, tile.width)
    for ins, outs in shape.passes((one.out_channels, engine.rows), (one.in_channels, engine.columns)):
        for columns, at, rows in product(cut(ins, engine.columns), tiles, cut(outs, engine.rows)):
            bench.clock.begin_iteration()
            for bt in backward_in_time(shape):
                array.run_tile(bt, at, rows, columns, psum)
                grad_unit.take(bench.clock.now, at, rows.stop == outs.stop)
    return bench.finish(psum.reshape(window_mask.shape), grad_unit)


def backward_in_time(shape: ConvShape | FcShape) -> list[int]:
    """The samples (t * N + n) in the order in which Grad needs them: last timestep first."""
    return [t * shape.batch + n for t in reversed(range(shape.timesteps)) for n in range(shape.batch)]


def _operands(
    engine: BackwardEngine,
    shape: ConvShape,
    grad_mask: Bytes,
    window_mask: Bytes,
    grad: Float32s | None,
    weight: Float32s | None,
) -> Operands:
    """The operands, checked, with batch and timestep as one dimension; masks that the mode ignores are all ones."""
    s = shape
    out_map = (s.timesteps, s.batch, s.out_channels, s.out_height, s.out_width)
    in_map = (s.timesteps, s.batch, s.in_channels, s.in_height, s.in_width)
    kernels = (s.out_channels, s.group.in_channels, *s.kernel)
    gradient_bits = checked_bits("grad_mask", grad_mask, out_map)
    window_bits = checked_bits("window_mask", window_mask, in_map)
    if (grad is None) != (weight is None):
        raise ValueError("grad, weight: expected both or neither; got one")
    gradient = np.zeros(out_map, np.float32) if grad is None else checked_values("grad", grad, out_map)
    weights = np.zeros(kernels, np.float32) if weight is None else checked_values("weight", weight, kernels)
    if engine.mode in ("dense", "output_only"):
        gradient_bits = np.ones_like(gradient_bits)
    if engine.mode in ("dense", "input_only"):
        window_bits = np.ones_like(window_bits)
    return Operands(
        gradient_bits.reshape(s.samples, *out_map[2:]),
        window_bits.reshape(s.samples, *in_map[2:]),
        gradient.reshape(s.samples, *out_map[2:]),
        weights,
    )


def backward_fc(engine: BackwardEngine, shape: FcShape, grad: Float32s, weight: Float32s, steps: int = 1) -> EngineRun:
    """Computes the spatial part of ds (T, N, in) of a fully connected layer; dense, the finders are off.

    grad (dm): (T, N, out); weight: (out, in). The loops are column groups and row groups, which make a grid iteration,
    and in it samples, of which a group's P PEs take one each a cycle. steps: for how many timesteps Grad uses each.
    """
    s = shape
    gradient = checked_values("grad", grad, (s.timesteps, s.batch, s.out_features)).reshape(s.samples, s.out_features)
    weight = checked_values("weight", weight, (s.out_features, s.in_features))
    psum = np.zeros((s.samples, s.in_features), dtype=np.float32)
    bench, grad_unit = Bench(), Sweep(engine.parallelism)
    samples = backward_in_time(s)
    acc = AccTree(engine.rows, bench.acc)
    pe = MacPe(bench.pe_array)  # its multiplier keeps no state: one stands for all
    for columns in groups_of(s.in_features, engine.columns):
        for rows in groups_of(s.out_features, engine.rows):
            bench.clock.begin_iteration()
            for lanes in groups_of(s.samples, engine.parallelism):
                bench.clock.tick()
                for bt in samples[lanes.start : lanes.stop]:
                    for c in columns:
                        products = [pe.multiply(gradient[bt, r], weight[r, c]) for r in rows]
                        psum[bt, c] = acc.accumulate(psum[bt, c], products)
                grad_unit.take(bench.clock.now, Tile(0, 1, 0, 1), steps * len(lanes) * (rows.stop == s.out_features))
    return bench.finish(psum.reshape(s.timesteps, s.batch, s.in_features), grad_unit)
