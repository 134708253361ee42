"""The encoding layer (analog input) on the Backward Engine's MACs (section 3.2.4): dense, finders off.

Rows are input channels, columns output channels; the P PEs of a group take P output positions at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from h2sim.arch.schema import BackwardEngine, TileSize
from h2sim.reference.acc import AccTree
from h2sim.reference.mac import MacPe
from h2sim.reference.result import Bench, EngineRun, Sweep, checked_values
from h2sim.shapes import ConvShape, Tile, groups_of, tiles_of

Block = tuple[range, Tile, range]  # column group, output tile, row group


def encode_forward(
    engine: BackwardEngine,
    tile: TileSize,
    shape: ConvShape,
    analog: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
) -> EngineRun:
    """The current x (T, N, Cout, Ho, Wo) of analog (T, N, Cin, H, W); weight (Cout, Cin, kh, kw), bias (Cout,).

    A grid iteration is one (column group, output tile, row group), in that order; samples pass inside, each
    with a sync at its end. A PE keeps its position for kh*kw cycles, one tap per cycle, padding included.
    """
    s = shape
    padded = _padded(s, analog)
    weight = checked_values("weight", weight, (s.out_channels, s.in_channels, *s.kernel))
    psum = np.zeros((s.samples, s.out_channels, s.out_height, s.out_width), dtype=np.float32)
    if bias is not None:
        psum += checked_values("bias", bias, (s.out_channels,)).reshape(-1, 1, 1)
    bench, soma = Bench(), Sweep(engine.parallelism)
    acc = AccTree(engine.rows, bench.acc)
    for columns, at, rows in _blocks(engine, tile, s):
        bench.clock.begin_iteration()
        positions = _positions(at)
        for bt in range(s.samples):
            groups = {(r, c): [MacPe(bench.pe_array) for _ in range(engine.parallelism)] for r in rows for c in columns}
            for lanes in groups_of(len(positions), engine.parallelism):
                for tap in np.ndindex(*s.kernel):
                    bench.clock.tick()
                    for lane, position in enumerate(positions[lanes.start : lanes.stop]):
                        at_input = _input_position(s, position, tap)
                        for (r, c), group in groups.items():
                            group[lane].mac(position, padded[(bt, r, *at_input)], weight[(c, r, *tap)])
            _sync(engine, bench)
            for i, position in enumerate(positions):
                for c in columns:
                    outputs = [groups[r, c][i % engine.parallelism].output(position) for r in rows]
                    psum[(bt, c, *position)] = acc.accumulate(psum[(bt, c, *position)], outputs)
            soma.take(bench.clock.now, at, rows.stop == s.in_channels)
    return bench.finish(psum.reshape(s.timesteps, s.batch, *psum.shape[1:]), soma)


def encode_weight_gradient(
    engine: BackwardEngine, tile: TileSize, shape: ConvShape, analog: np.ndarray, grad: np.ndarray
) -> EngineRun:
    """dw (Cout, Cin, kh, kw) of analog (T, N, Cin, H, W) and dm grad (T, N, Cout, Ho, Wo).

    Loops as in encode_forward, but taps pass outside and positions inside: the P products of a group are
    chained into one partial sum per tap, which Acc adds to dw at the end of the tile.
    """
    s = shape
    padded = _padded(s, analog)
    grad = checked_values("grad", grad, (s.timesteps, s.batch, s.out_channels, s.out_height, s.out_width))
    grad = grad.reshape(s.samples, *grad.shape[2:])
    dw = np.zeros((s.out_channels, s.in_channels, *s.kernel), dtype=np.float32)
    bench = Bench()
    acc = AccTree(1, bench.acc)  # every row has its own weights: nothing is summed over rows
    for columns, at, rows in _blocks(engine, tile, s):
        bench.clock.begin_iteration()
        positions = _positions(at)
        for bt in range(s.samples):
            groups = {(r, c): MacPe(bench.pe_array) for r in rows for c in columns}
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
                    dw[(c, r, *tap)] = acc.accumulate(dw[(c, r, *tap)], [group.output(tap)])
    return bench.finish(dw)


def _blocks(engine: BackwardEngine, tile: TileSize, shape: ConvShape) -> Iterator[Block]:
    """The grid iterations in loop order."""
    for columns in groups_of(shape.out_channels, engine.columns):
        for at in tiles_of(shape.out_height, shape.out_width, tile.height, tile.width):
            for rows in groups_of(shape.in_channels, engine.rows):
                yield columns, at, rows


def _positions(tile: Tile) -> list[tuple[int, int]]:
    """The positions of a tile in raster order."""
    return [(y, x) for y in range(tile.y0, tile.y1) for x in range(tile.x0, tile.x1)]


def _input_position(shape: ConvShape, position: tuple[int, int], tap: tuple[int, ...]) -> tuple[int, int]:
    """Where in the padded input an output position reads through a tap."""
    return position[0] * shape.stride[0] + tap[0], position[1] * shape.stride[1] + tap[1]


def _padded(shape: ConvShape, analog: np.ndarray) -> np.ndarray:
    """analog (T, N, Cin, H, W) as (samples, Cin, H + 2*ph, W + 2*pw)."""
    s = shape
    values = checked_values("analog", analog, (s.timesteps, s.batch, s.in_channels, s.in_height, s.in_width))
    (ph, pw), flat = s.padding, values.reshape(s.samples, s.in_channels, s.in_height, s.in_width)
    return np.pad(flat, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def _sync(engine: BackwardEngine, bench: Bench) -> None:
    """The cycles in which all PE groups meet at the end of a tile."""
    for _ in range(engine.tile_sync_cycles):
        bench.clock.tick()
