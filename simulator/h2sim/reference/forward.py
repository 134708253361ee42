"""Forward Engine (section 3.2.1): the current x = w * s + b, on LUT PEs, cycle by cycle.

Rows are input channels (for kernels larger than the LUTs: sub-kernels of them), columns output channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from h2sim.arch.schema import ForwardEngine, TileSize
from h2sim.arrays import Array, Bytes, Float32s
from h2sim.reference.acc import AccTree
from h2sim.reference.array import Job, LutArray, Segments, address_of
from h2sim.reference.lut import WeightBufferPe
from h2sim.reference.result import Bench, EngineRun, Sweep, checked_counts, checked_values, plane
from h2sim.shapes import ConvShape, FcShape, Tile, cut, groups_of, tiles_of


@dataclass(frozen=True)
class ArrayRow:
    """What one row of the PE array works on: a sub-kernel of at most n x v weights of one input channel.

    n: sub-LUTs of a PE, v: weights of a sub-LUT.
    """

    channel: int
    kernel_rows: range
    kernel_columns: range

    def segments(self, shape: ConvShape, weight: Float32s, column: int) -> Segments:
        """The operands of this row's PE in the column of an output channel; none if that is of another group."""
        if not shape.alike(self.channel, column):
            return []
        kernel = weight[column, shape.tap_channel(self.channel)]
        return [kernel[ky, list(self.kernel_columns)] for ky in self.kernel_rows]

    def addresses(self, padded: Bytes, y: int, x: int) -> list[int]:
        """One address per sub-LUT in use, for the window whose corner is (y, x) in the padded spikes (Cin, H, W)."""
        return [
            address_of(padded[self.channel, y + ky, [x + kx for kx in self.kernel_columns]]) for ky in self.kernel_rows
        ]


def array_rows(engine: ForwardEngine, kernel: tuple[int, int], channels: range) -> list[ArrayRow]:
    """The rows that input channels need: channel after channel, a channel's sub-kernels in raster order."""
    return [
        ArrayRow(channel, kernel_rows, kernel_columns)
        for channel in channels
        for kernel_rows in groups_of(kernel[0], engine.sub_luts)
        for kernel_columns in groups_of(kernel[1], engine.sub_lut_inputs)
    ]


def forward_conv(
    engine: ForwardEngine,
    tile: TileSize,
    shape: ConvShape,
    spikes: Array,
    weight: Float32s,
    bias: Float32s | None,
    planes: int = 1,
) -> EngineRun:
    """Computes the current x (T, N, Cout, Ho, Wo) of a convolution of spikes or counts k (T, N, Cin, H, W).

    weight: (Cout, Cin / groups, kh, kw); bias: (Cout,) or None. The loops are passes of groups, column groups, output
    tiles and row groups, which make a grid iteration, and in it batch x timestep, P samples at a time; these pass plane
    after plane of k.
    """
    s = shape
    counts = checked_counts("spikes", spikes, (s.timesteps, s.batch, s.in_channels, s.in_height, s.in_width), planes)
    weight = checked_values("weight", weight, (s.out_channels, s.group.in_channels, *s.kernel))
    (ph, pw), flat = s.padding, counts.reshape(s.samples, s.in_channels, s.in_height, s.in_width)
    whole = np.pad(flat, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    by_plane = [plane(whole, b) for b in range(planes)]
    psum = _psum_buffer((s.samples, s.out_channels, s.out_height, s.out_width), bias)
    bench = Bench()
    array, soma = LutArray(engine, bench), Sweep(engine.parallelism)

    def windows(columns: range, at: Tile, rows: list[ArrayRow], complete: bool) -> Iterator[None]:
        """Every cycle a PE takes one window on each lane: lanes are samples, windows pass in raster order."""
        for lanes in lane_turns(engine, s):
            for b, (y, x) in product(range(planes), _positions(at)):
                for bt in lanes:
                    corner = y * s.stride[0], x * s.stride[1]
                    addresses = [row.addresses(by_plane[b][bt], *corner) for row in rows]
                    for i, c in enumerate(columns):
                        psum[bt, c, y, x] = array.accumulate(addresses, i, psum[bt, c, y, x], b)
                yield
            soma.take(bench.clock.now, at, len(lanes) * complete)

    jobs: list[Job] = []
    tiles = tiles_of(s.out_height, s.out_width, tile.height, tile.width)
    for ins, outs in conv_passes(engine, s):
        all_rows = array_rows(engine, s.kernel, ins)
        for columns, at in product(cut(outs, engine.columns), tiles):
            for group in groups_of(len(all_rows), engine.rows):
                rows = [all_rows[r] for r in group]
                operands = [[row.segments(s, weight, c) for c in columns] for row in rows]
                complete = group.stop == len(all_rows)
                jobs.append(Job(len(jobs), operands, partial(windows, columns, at, rows, complete)))
    array.run(jobs)
    return bench.finish(psum.reshape(s.timesteps, s.batch, s.out_channels, s.out_height, s.out_width), soma)


def conv_passes(engine: ForwardEngine, shape: ConvShape) -> list[tuple[range, range]]:
    """The groups of channels that lie in the array at once: see ConvShape.passes."""
    one = shape.group
    rows = len(array_rows(engine, shape.kernel, range(one.in_channels)))
    return shape.passes((rows, engine.rows), (one.out_channels, engine.columns))


def _positions(at: Tile) -> list[tuple[int, int]]:
    """The positions of a tile in raster order."""
    return [(y, x) for y in range(at.y0, at.y1) for x in range(at.x0, at.x1)]


def forward_fc(
    engine: ForwardEngine, shape: FcShape, spikes: Array, weight: Float32s, bias: Float32s | None, planes: int = 1
) -> EngineRun:
    """Computes the current x (T, N, out) of a fully connected layer of spikes or counts k (T, N, in).

    weight: (out, in); bias: (out,) or None. Sub-LUTs serve as plain weight buffers. A grid iteration is one column
    group with one group of R*n*z features. First its weights are loaded, one entry of every sub-LUT a cycle; then
    samples, P at a time, pass all entries, plane after plane of k. With `lut: false` a PE has n*v weight registers
    instead of n sub-LUTs of z entries. `lut_double_buffered` changes nothing here.
    """
    s = shape
    counts = checked_counts("spikes", spikes, (s.timesteps, s.batch, s.in_features), planes)
    by_plane = [plane(counts, b).reshape(s.samples, s.in_features) for b in range(planes)]
    weight = checked_values("weight", weight, (s.out_features, s.in_features))
    psum = _psum_buffer((s.samples, s.out_features), bias)
    bench, soma = Bench(), Sweep(engine.parallelism)
    words = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    entries = engine.sub_lut_size if engine.lut else 1
    for columns in groups_of(s.out_features, engine.columns):
        for features in groups_of(s.in_features, engine.rows * words * entries):
            bench.clock.begin_iteration()
            array = FcArray(engine, words, entries, len(columns), bench)
            array.load(weight[columns.start : columns.stop, features.start : features.stop])
            for lanes in lane_turns(engine, s):
                for b in range(planes):
                    array.pass_entries(by_plane[b][:, features.start : features.stop], lanes, columns, psum, b)
                soma.take(bench.clock.now, Tile(0, 1, 0, 1), len(lanes) * (features.stop == s.in_features))
    return bench.finish(psum.reshape(s.timesteps, s.batch, s.out_features), soma)


def lane_turns(engine: ForwardEngine, shape: ConvShape | FcShape) -> list[range]:
    """The samples (t * N + n) that the lanes take in each turn, P at most."""
    if engine.lanes == "batch_time":
        return groups_of(shape.samples, engine.parallelism)
    return [
        range(t * shape.batch + turn.start, t * shape.batch + turn.stop)
        for t in range(shape.timesteps)
        for turn in groups_of(shape.batch, engine.parallelism)
    ]


class FcArray:
    """The PE array as weight buffers. Every PE has `words` buffers (words) of so many entries.

    Feature i of a group lies at entry i // (R*words) of word i mod (R*words) of a column. Word w of the PE in row r is
    the column's word r*words + w.
    """

    def __init__(self, engine: ForwardEngine, words: int, entries: int, n_columns: int, bench: Bench) -> None:
        self.words = words
        self.row_words = engine.rows * words
        self.pes = [
            [WeightBufferPe(entries, engine.lut, bench.pe_array) for _ in range(n_columns)] for _ in range(engine.rows)
        ]
        self.acc = AccTree(engine.rows, bench.acc)
        self.clock = bench.clock
        self.entries_used = 0

    def load(self, weight: Float32s) -> None:
        """Stores weight (columns, features), every cycle one entry of every word of every PE."""
        for chunk in groups_of(weight.shape[1], self.row_words):
            self.clock.tick()
            for feature in chunk:
                row = (feature - chunk.start) // self.words
                for column, pe in enumerate(self.pes[row]):
                    pe.store(self.entries_used, weight[column, feature])
            self.entries_used += 1

    def pass_entries(self, spikes: Bytes, lanes: range, columns: range, psum: Float32s, plane: int) -> None:
        """The samples `lanes` of a plane (samples, features) pass all entries, one a cycle; psum: (samples, out)."""
        for entry in range(self.entries_used):
            self.clock.tick()
            at_entry = spikes[:, entry * self.row_words : (entry + 1) * self.row_words]
            for bt in lanes:
                by_row = [at_entry[bt, r.start : r.stop] for r in groups_of(at_entry.shape[1], self.words)]
                for i, c in enumerate(columns):
                    outputs = self._column_outputs(i, entry, by_row)
                    psum[bt, c] = self.acc.accumulate(psum[bt, c], outputs, plane)

    def _column_outputs(self, column: int, entry: int, by_row: Sequence[Bytes]) -> list[np.float32]:
        present = [row[column] for row in self.pes if row[column].holds(entry)]
        return [pe.send(entry, spikes) for pe, spikes in zip(present, by_row, strict=True)]


def _psum_buffer(shape: tuple[int, ...], bias: Float32s | None) -> Float32s:
    """Partial sums (samples, channels, ...) that start at their channel's bias, or at 0."""
    psum = np.zeros(shape, dtype=np.float32)
    if bias is not None:
        psum += checked_values("bias", bias, (shape[1],)).reshape(-1, *[1] * (len(shape) - 2))
    return psum
