"""Weight Update Engine (section 3.2.2): dw = sum over t of dm (x) s, on LUT PEs, cycle by cycle.

Rows are timesteps, columns channels of dm. The LUTs hold sums of gradients, the spikes address them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np

from h2sim.arch.schema import TileSize, WeightUpdateEngine
from h2sim.arrays import Array, Bytes, Float32s
from h2sim.reference.acc import AccTree
from h2sim.reference.array import Job, LutArray, Segments, address_of
from h2sim.reference.lut import WeightBufferPe
from h2sim.reference.result import Bench, EngineRun, checked_counts, checked_values, plane
from h2sim.shapes import ConvShape, FcShape, Tile, cut, groups_of, tiles_of


def weight_update_conv(
    engine: WeightUpdateEngine, tile: TileSize, shape: ConvShape, spikes: Array, grad: Float32s, planes: int = 1
) -> EngineRun:
    """Computes dw (Cout, Cin / groups, kh, kw) of spikes or counts k and of grad (dm, (T, N, Cout, Ho, Wo)).

    spikes: (T, N, Cin, H, W). A grid iteration is one column group of one pass of groups with one output tile. In it,
    for every sample, R timesteps, row of the tile and segment of n*v gradients, the LUTs are programmed and then
    addressed with the spikes of every pair of input channel and kernel position, P pairs a cycle, plane after plane of
    k. A column reads the spikes of its own group alone.
    """
    s, one = shape, shape.group
    counts = checked_counts("spikes", spikes, (s.timesteps, s.batch, s.in_channels, s.in_height, s.in_width), planes)
    grad = checked_values("grad", grad, (s.timesteps, s.batch, s.out_channels, s.out_height, s.out_width))
    (kh, kw), (ph, pw) = s.kernel, s.padding
    whole = np.pad(counts, ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    by_plane = [plane(whole, b) for b in range(planes)]
    dw = np.zeros((s.out_channels, one.in_channels, kh, kw), dtype=np.float32)
    bench = Bench()
    array = LutArray(engine, bench)

    def addresses(
        padded: Bytes, n: int, rows: range, y: int, subs: list[range], pair: tuple[int, int, int]
    ) -> list[list[int]]:
        """For every timestep the addresses of its sub-LUTs: the spikes that belong to the segment's gradients."""
        ci, ky, kx = pair
        y_in = y * s.stride[0] + ky
        at = [[x * s.stride[1] + kx for x in sub] for sub in subs]
        return [[address_of(padded[t, n, ci, y_in, xs]) for xs in at] for t in rows]

    def offsets(ins: range, columns: range, n: int, rows: range, y: int, subs: list[range]) -> Iterator[None]:
        """Every cycle the array takes P pairs of input channel and kernel position."""
        for b, turn in product(range(planes), _turns(engine, s.kernel, ins)):
            for ci, ky, kx in turn:
                spike_addresses = addresses(by_plane[b], n, rows, y, subs, (ci, ky, kx))
                for i, c in enumerate(columns):
                    if s.alike(ci, c):
                        at_dw = (c, s.tap_channel(ci), ky, kx)
                        dw[at_dw] = array.accumulate(spike_addresses, i, dw[at_dw], b)
            yield

    jobs: list[Job] = []
    iteration = 0
    tiles = tiles_of(s.out_height, s.out_width, tile.height, tile.width)
    for ins, outs in s.passes((0, 0), (one.out_channels, engine.columns)):
        for columns, at in product(cut(outs, engine.columns), tiles):
            for n, rows, y, subs in _segments(engine, s, at):
                operands = [[_split(grad[t, n, c, y], subs) for c in columns] for t in rows]
                jobs.append(Job(iteration, operands, partial(offsets, ins, columns, n, rows, y, subs)))
            iteration += 1
    array.run(jobs)
    return bench.finish(dw)


def _turns(engine: WeightUpdateEngine, kernel: tuple[int, int], channels: range) -> list[list[tuple[int, int, int]]]:
    """The pairs of input channel and kernel position, as (channel, ky, kx), that the lanes take in each cycle."""
    taps = list(product(range(kernel[0]), range(kernel[1])))
    if engine.lanes == "channels":
        return [[(ci, ky, kx) for ci in lanes] for ky, kx in taps for lanes in cut(channels, engine.parallelism)]
    pairs = [(ci, ky, kx) for ci in channels for ky, kx in taps]
    return [pairs[lanes.start : lanes.stop] for lanes in groups_of(len(pairs), engine.parallelism)]


def _segments(engine: WeightUpdateEngine, shape: ConvShape, at: Tile) -> Iterator[tuple[int, range, int, list[range]]]:
    """The segments of a tile in the order of a grid iteration.

    Each is (sample, timesteps that the PE rows hold, row of the map, map columns of each sub-LUT in use).
    """
    v = engine.sub_lut_inputs
    for n in range(shape.batch):
        for rows in groups_of(shape.timesteps, engine.rows):
            for y in range(at.y0, at.y1):
                for segment in groups_of(at.width, engine.sub_luts * v):
                    xs = range(at.x0 + segment.start, at.x0 + segment.stop)
                    yield n, rows, y, [xs[sub.start : sub.stop] for sub in groups_of(len(xs), v)]


def _split(grad_row: Float32s, sub_segments: list[range]) -> Segments:
    """The gradients (Wo,) of one row of the map, cut into those of each sub-LUT in use."""
    return [grad_row[sub.start : sub.stop] for sub in sub_segments]


def weight_update_fc(
    engine: WeightUpdateEngine, shape: FcShape, spikes: Array, grad: Float32s, planes: int = 1
) -> EngineRun:
    """Computes dw (out, in) of spikes or counts k (T, N, in) and grad (dm, (T, N, out)).

    A grid iteration is one column group. In it, for every sample and R timesteps, one cycle loads a gradient into every
    PE. Then P input features a cycle make the PEs send it, or 0 where there is no spike, plane after plane of k. With
    `lut: false` the gradient lies in a register.
    """
    s = shape
    counts = checked_counts("spikes", spikes, (s.timesteps, s.batch, s.in_features), planes)
    by_plane = [plane(counts, b) for b in range(planes)]
    grad = checked_values("grad", grad, (s.timesteps, s.batch, s.out_features))
    dw = np.zeros((s.out_features, s.in_features), dtype=np.float32)
    bench = Bench()
    acc = AccTree(engine.rows, bench.acc)
    for columns in groups_of(s.out_features, engine.columns):
        bench.clock.begin_iteration()
        for n in range(s.batch):
            for rows in groups_of(s.timesteps, engine.rows):
                pes = [[WeightBufferPe(1, engine.lut, bench.pe_array) for _ in columns] for _ in rows]
                bench.clock.tick()
                for pe_row, t in zip(pes, rows, strict=True):
                    for pe, c in zip(pe_row, columns, strict=True):
                        pe.store(0, grad[t, n, c])
                for b, lanes in product(range(planes), groups_of(s.in_features, engine.parallelism)):
                    bench.clock.tick()
                    for i, (j, c) in product(lanes, list(enumerate(columns))):
                        bits = by_plane[b][:, n, i : i + 1]
                        sent = [row[j].send(0, bits[t]) for row, t in zip(pes, rows, strict=True)]
                        dw[c, i] = acc.accumulate(dw[c, i], sent, b)
    return bench.finish(dw)
