"""The encoding layer (analog input) on the Backward Engine's MACs (section 3.2.4): dense, finders off.

Rows are input channels, columns output channels; the P PEs of a group take P output positions at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from h2sim.arch.schema import BackwardEngine, TileSize
from h2sim.arrays import Float32s
from h2sim.reference.acc import AccTree
from h2sim.reference.mac import MacPe
from h2sim.reference.result import Bench, EngineRun, Sweep, checked_values
from h2sim.shapes import ConvShape, FcShape, Tile, cut, groups_of, tiles_of

Block = tuple[range, Tile, range, bool]  # column group, output tile, row group, whether it is the last of its block


def encode_forward(
    engine: BackwardEngine,
    tile: TileSize,
    shape: ConvShape,
    analog: Float32s,
    weight: Float32s,
    bias: Float32s | None,
) -> EngineRun:
    """Computes the current x (T, N, Cout, Ho, Wo) of an analog input (T, N, Cin, H, W).

    weight: (Cout, Cin / groups, kh, kw); bias: (Cout,) or None. The loops are passes of groups, column groups, output
    tiles and row groups, which make a grid iteration, and in it samples, each with a sync at its end. A PE stays at a
    position for kh*kw cycles, one kernel position (tap) a cycle, padding included.
    """
    s = shape
    padded = _padded(s, analog)
    weight = checked_values("weight", weight, (s.out_channels, s.group.in_channels, *s.kernel))
    psum = np.zeros((s.samples, s.out_channels, s.out_height, s.out_width), dtype=np.float32)
    if bias is not None:
        psum += checked_values("bias", bias, (s.out_channels,)).reshape(-1, 1, 1)
    bench, soma = Bench(), Sweep(engine.parallelism)
    acc = AccTree(engine.rows, bench.acc)
    for columns, at, rows, complete in _blocks(engine, tile, s):
        bench.clock.begin_iteration()
        positions = _positions(at)
        for bt in range(s.samples):
            pairs = [(r, c) for r in rows for c in columns if s.alike(r, c)]
            groups = {pair: [MacPe(bench.pe_array) for _ in range(engine.parallelism)] for pair in pairs}
            for lanes in groups_of(len(positions), engine.parallelism):
                for tap in np.ndindex(*s.kernel):
                    bench.clock.tick()
                    for lane, position in enumerate(positions[lanes.start : lanes.stop]):
                        at_input = _input_position(s, position, tap)
                        for (r, c), group in groups.items():
                            group[lane].mac(position, padded[(bt, r, *at_input)], weight[(c, s.tap_channel(r), *tap)])
            _sync(engine, bench)
            for i, position in enumerate(positions):
                for c in columns:
                    own = [r for r in rows if s.alike(r, c)]
                    outputs = [groups[r, c][i % engine.parallelism].output(position) for r in own]
                    at_psum = (bt, c, *position)
                    psum[at_psum] = acc.accumulate(psum[at_psum], outputs, first=own[0] - rows.start)
            soma.take(bench.clock.now, at, complete)
    return bench.finish(psum.reshape(s.timesteps, s.batch, *psum.shape[1:]), soma)


def encode_weight_gradient(
    engine: BackwardEngine, tile: TileSize, shape: ConvShape, analog: Float32s, grad: Float32s
) -> EngineRun:
    """Computes dw (Cout, Cin / groups, kh, kw) of analog input (T, N, Cin, H, W) and grad (dm, (T, N, Cout, Ho, Wo)).

    The loops are those of encode_forward, but with taps outside and positions inside. The P products of a group are
    added one after the other to one partial sum per tap, which Acc adds to dw at the end of the tile.
    """
    s = shape
    padded = _padded(s, analog)
    grad = checked_values("grad", grad, (s.timesteps, s.batch, s.out_channels, s.out_height, s.out_width))
    grad = grad.reshape(s.samples, *grad.shape[2:])
    dw = np.zeros((s.out_channels, s.group.in_channels, *s.kernel), dtype=np.float32)
    bench = Bench()
    acc = AccTree(1, bench.acc)  # every row has its own weights: nothing is summed over rows
    for columns, at, rows, _ in _blocks(engine, tile, s):
        bench.clock.begin_iteration()
        positions = _positions(at)
        for bt in range(s.samples):
            groups = {(r, c): MacPe(bench.pe_array) for r in rows for c in columns if s.alike(r, c)}
            for tap in np.ndindex(*s.kernel):
                for lanes in groups_of(len(positions), engine.parallelism):
                    bench.clock.tick()
                    for position in positions[lanes.start : lanes.stop]:
                        at_input = _input_position(s, position, tap)
                        for (r, c), group in groups.items():
                            group.mac(tap, grad[(bt, c, *position)], padded[(bt, r, *at_input)])
            _sync(engine, bench)
            for (r, c), group in groups.items():
                for tap in np.ndindex(*s.kernel):
                    at_dw = (c, s.tap_channel(r), *tap)
                    dw[at_dw] = acc.accumulate(dw[at_dw], [group.output(tap)])
    return bench.finish(dw)


def analog_fc_forward(
    engine: BackwardEngine, shape: FcShape, analog: Float32s, weight: Float32s, bias: Float32s | None
) -> EngineRun:
    """Computes the current x (T, N, out) of analog inputs (T, N, in); weight: (out, in), bias: (out,) or None.

    The loops are column groups and row groups, which make a grid iteration, and in it samples, P a cycle.
    """
    s = shape
    values = checked_values("analog", analog, (s.timesteps, s.batch, s.in_features)).reshape(s.samples, s.in_features)
    weight = checked_values("weight", weight, (s.out_features, s.in_features))
    psum = np.zeros((s.samples, s.out_features), dtype=np.float32)
    if bias is not None:
        psum += checked_values("bias", bias, (s.out_features,))
    bench, soma = Bench(), Sweep(engine.parallelism)
    acc, pe = AccTree(engine.rows, bench.acc), MacPe(bench.pe_array)  # its multiplier keeps no state
    for columns in groups_of(s.out_features, engine.columns):
        for rows in groups_of(s.in_features, engine.rows):
            bench.clock.begin_iteration()
            for lanes in groups_of(s.samples, engine.parallelism):
                bench.clock.tick()
                for bt, c in product(lanes, columns):
                    products = [pe.multiply(values[bt, r], weight[c, r]) for r in rows]
                    psum[bt, c] = acc.accumulate(psum[bt, c], products)
                soma.take(bench.clock.now, Tile(0, 1, 0, 1), len(lanes) * (rows.stop == s.in_features))
    return bench.finish(psum.reshape(s.timesteps, s.batch, s.out_features), soma)


def analog_fc_weight_gradient(engine: BackwardEngine, shape: FcShape, analog: Float32s, grad: Float32s) -> EngineRun:
    """Computes dw (out, in) of analog inputs (T, N, in) and grad (dm, (T, N, out)), with the same loops.

    The P products of a group are added one after the other to one partial sum, which Acc adds to dw.
    """
    s = shape
    values = checked_values("analog", analog, (s.timesteps, s.batch, s.in_features)).reshape(s.samples, s.in_features)
    gradient = checked_values("grad", grad, (s.timesteps, s.batch, s.out_features)).reshape(s.samples, s.out_features)
    dw = np.zeros((s.out_features, s.in_features), dtype=np.float32)
    bench = Bench()
    acc = AccTree(1, bench.acc)  # every row has its own weights: nothing is summed over rows
    for columns in groups_of(s.out_features, engine.columns):
        for rows in groups_of(s.in_features, engine.rows):
            bench.clock.begin_iteration()
            pes = {(r, c): MacPe(bench.pe_array) for r in rows for c in columns}
            for lanes in groups_of(s.samples, engine.parallelism):
                bench.clock.tick()
                for bt, ((r, c), pe) in product(lanes, pes.items()):
                    pe.mac((), gradient[bt, c], values[bt, r])
            for (r, c), pe in pes.items():
                dw[c, r] = acc.accumulate(dw[c, r], [pe.output(())])
    return bench.finish(dw)


def _blocks(engine: BackwardEngine, tile: TileSize, shape: ConvShape) -> Iterator[Block]:
    """The grid iterations in loop order; an output block is complete with the last row group of its pass."""
    one, tiles = shape.group, tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    for ins, outs in shape.passes((one.in_channels, engine.rows), (one.out_channels, engine.columns)):
        for columns, at, rows in product(cut(outs, engine.columns), tiles, cut(ins, engine.rows)):
            yield columns, at, rows, rows.stop == ins.stop


def _positions(tile: Tile) -> list[tuple[int, int]]:
    """The positions of a tile in raster order."""
    return [(y, x) for y in range(tile.y0, tile.y1) for x in range(tile.x0, tile.x1)]


def _input_position(shape: ConvShape, position: tuple[int, int], tap: tuple[int, ...]) -> tuple[int, int]:
    """The position of the padded input that an output position reads through a kernel position (tap)."""
    return position[0] * shape.stride[0] + tap[0], position[1] * shape.stride[1] + tap[1]


def _padded(shape: ConvShape, analog: Float32s) -> Float32s:
    """analog (T, N, Cin, H, W), padded with zeros: (samples, Cin, H + 2*ph, W + 2*pw)."""
    s = shape
    values = checked_values("analog", analog, (s.timesteps, s.batch, s.in_channels, s.in_height, s.in_width))
    (ph, pw), flat = s.padding, values.reshape(s.samples, s.in_channels, s.in_height, s.in_width)
    return np.pad(flat, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def _sync(engine: BackwardEngine, bench: Bench) -> None:
    """The cycles in which all PE groups meet at the end of a tile."""
    for _ in range(engine.tile_sync_cycles):
        bench.clock.tick()
