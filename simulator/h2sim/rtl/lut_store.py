"""Where the sums of a LUT engine go: the addresses of the partial sums or weight gradients, and Soma's sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth import Cat, Module, Mux, Signal, Value

from h2sim.rtl.neuron_unit import Sweep
from h2sim.rtl.primitives import COUNT_BITS, delay, packed

if TYPE_CHECKING:
    from h2sim.rtl.lut_engine import LutEngine


def gradient_store(engine: LutEngine, m: Module) -> dict[str, Value]:
    """What the columns are told of a window whose sum goes to the weight gradients: the signals of LutColumn."""
    stream, later = engine.stream_nest, engine.store_cycles
    shared = packed([stream.index["column_group"], stream.index["offset_group"]])
    m.d.comb += [
        engine.results_valid.eq(delay(m, engine.streaming, later + 2)),
        engine.results_shared.eq(delay(m, shared, later + 2)),
        engine.done.eq(delay(m, engine.final, later + 3)),
    ]
    first = stream.index["sample"] + stream.index["step_group"] + stream.index["segment_y"] + stream.index["plane"]
    first = (first + stream.index["segment_x"] + stream.index["tile_y"] + stream.index["tile_x"]) == 0
    return {
        "store": delay(m, engine.streaming, later),
        "begins": delay(m, first, later),
        "address": delay(m, stream.index["offset_group"][: engine.parameters.word_bits], later),
        "plane": delay(m, stream.index["plane"][: engine.parameters.plane_bits], later),
        "bias": 0,
    }


def soma_store(engine: LutEngine, m: Module) -> dict[str, Value]:
    """What the columns are told of a window whose sum goes to Soma: the signals of LutColumn.

    A plane's sums are added to the words of the planes before it, so each plane of a group of lanes begins at the
    group's first word again.
    """
    p, stream, later = engine.parameters, engine.stream_nest, engine.store_cycles
    word, group_word, phase = Signal(p.word_bits), Signal(p.word_bits), Signal(range(max(2, p.parallelism)))
    ring = Signal(8)
    first_part = (stream.index["row_group"] == 0) & (stream.index["plane"] == 0)
    first_part &= ~engine.buffer_mode | (stream.index["x"] == 0)
    x_last = stream.index["x"] + 1 == stream.limits["x"]
    last_part = stream.index["row_group"] + 1 == engine.row_groups
    window_done = engine.streaming & (~engine.buffer_mode | x_last)
    plane_done = engine.streaming & stream.last["y"]
    group_done = engine.streaming & stream.last["plane"]
    block_done = engine.stream_last & last_part
    with m.If(engine.stream_last):
        m.d.sync += [word.eq(0), group_word.eq(0)]
    with m.Elif(group_done):
        m.d.sync += [word.eq(word + 1), group_word.eq(word + 1)]
    with m.Elif(plane_done):
        m.d.sync += word.eq(group_word)
    with m.Elif(window_done):
        m.d.sync += word.eq(word + 1)
    with m.If(plane_done):
        m.d.sync += phase.eq(0)
    with m.Elif(window_done):
        m.d.sync += phase.eq(Mux(phase == p.parallelism - 1, 0, phase + 1))
    with m.If(block_done):
        m.d.sync += ring.eq(Mux(ring == p.widths.psum_blocks - 1, 0, ring + 1))
    group_last = stream.index["lane_group"] + 1 == engine.lane_groups
    samples = Mux(group_last, engine.last_lanes, p.parallelism)
    completed = Mux(group_done & last_part, samples, 0)
    m.d.comb += engine.bias_shared.eq(delay(m, stream.index["column_group"], later))
    swept = _sweep(engine, m, delay(m, completed, later + 1), delay(m, block_done, later + 1))
    return swept | {
        "store": delay(m, engine.streaming, later),
        "begins": delay(m, first_part, later),
        "address": delay(m, Cat(word, ring)[: p.address_bits], later),
        "plane": delay(m, stream.index["plane"][: p.plane_bits], later),
        "phase": delay(m, phase, later),
    }


def _sweep(engine: LutEngine, m: Module, completed: Value, block_done: Value) -> dict[str, Value]:
    """Soma's sweep over the samples whose sums are complete (neuron_unit): what words and states it reads."""
    p = engine.parameters
    loops = {"column_group": engine.column_groups, "tile_y": engine.tiles_y, "tile_x": engine.tiles_x}
    loops |= {"step": engine.timesteps, "sample": engine.batch}
    m.submodules.sweep = sweep = Sweep(loops, p.tile, p.parallelism, p.state_words)
    index, last = sweep.nest.index, sweep.nest.last
    group, lane = Signal(p.word_bits), Signal(range(max(2, p.parallelism)))
    ring, lag, block_swept = Signal(8), Signal(COUNT_BITS), Signal()
    m.d.comb += [
        block_swept.eq(sweep.item & last["step"]),
        sweep.height.eq(Mux(index["tile_y"] + 1 == engine.tiles_y, engine.edge_height, engine.height)),
        sweep.width.eq(Mux(index["tile_x"] + 1 == engine.tiles_x, engine.edge_width, engine.width)),
        sweep.completed.eq(completed),
        engine.overrun.eq(engine.streaming & (lag >= p.widths.psum_blocks)),
        engine.results_valid.eq(delay(m, sweep.item, 1 + p.soma_cycles)),
        engine.results_shared.eq(delay(m, packed([*index.values()]), 1 + p.soma_cycles)),
        engine.done.eq(delay(m, sweep.item & last["column_group"], 2 + p.soma_cycles)),
    ]
    m.d.sync += lag.eq(lag + block_done - block_swept)
    lane_last = lane == p.parallelism - 1
    with m.If(block_swept):
        m.d.sync += [group.eq(0), lane.eq(0), ring.eq(Mux(ring == p.widths.psum_blocks - 1, 0, ring + 1))]
    with m.Elif(sweep.sample_last):
        m.d.sync += [lane.eq(Mux(lane_last, 0, lane + 1)), group.eq(Mux(lane_last, group + sweep.positions, group))]
    word = Signal(p.word_bits)
    m.d.comb += word.eq(group + index["item"] * p.parallelism)
    return {
        "sweep_phase": lane,  # (lane + position) mod P of an item's first position
        "sweep_address": Cat(word, ring),
        "item": sweep.item,
        "first_step": sweep.initial,
        "state_address": sweep.address,
    }
