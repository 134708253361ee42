"""Forward Engine and Weight Update Engine (figures 3.2 and 3.4): a LUT PE array, Acc below each column, Soma.

Both are one machine: it programs the LUTs with the operands of a job, streams the job's windows, and takes the next.
Counts pass one bit plane after the other, lowest first, each as windows of spikes: once a plane the lanes of a Forward
Engine's turn take all positions, and the Weight Update Engine's take all offsets.
They differ in what their loops count (`JOB_LOOPS`, `STREAM_LOOPS`) and in what lies behind Acc: Soma, or the weight
gradients.
"""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from h2sim.rtl.lut_column import LutColumn
from h2sim.rtl.lut_pe import LutPe
from h2sim.rtl.lut_store import gradient_store, soma_store
from h2sim.rtl.neuron_unit import neuron_config
from h2sim.rtl.parameters import LutParameters
from h2sim.rtl.primitives import (
    COUNT_BITS,
    LoopNest,
    PingPong,
    Placement,
    ReadPort,
    Unit,
    WritePort,
    delay,
    lanes_of,
    packed,
)

JOB_LOOPS = {
    "forward": ("column_group", "tile_y", "tile_x", "row_group"),
    "weight_update": ("column_group", "tile_y", "tile_x", "sample", "step_group", "segment_y", "segment_x"),
}
STREAM_LOOPS = {"forward": ("lane_group", "plane", "y", "x"), "weight_update": ("plane", "offset_group")}
STATUS = ("computing", "iteration_end", "done", "overrun", "adder_conflict")
INSIDE_ITERATION = {"forward": None, "weight_update": "sample"}  # the outermost loop inside a grid iteration
SWEEP_LOOPS = ("column_group", "tile_y", "tile_x", "step", "sample", "item")
ENTRIES = ("entries", "edge_entries")
TILES = ("column_groups", "tiles_y", "tiles_x", "height", "edge_height")
CONFIG = {
    "forward": (
        *TILES,
        "width",
        "edge_width",
        "row_groups",
        "lane_groups",
        "last_lanes",
        "batch",
        "timesteps",
        *ENTRIES,
    ),
    "weight_update": (*TILES, "batch", "step_groups", "offset_groups", "entries", "segments", "edge_segments"),
}


class LutEngine(Unit):
    """A whole LUT engine. `start` begins a layer and `done` ends it; configuration registers must not change meanwhile.

    `computing` is high in compute cycles, `iteration_end` in the last one of a grid iteration. `overrun` says that Soma
    has fallen behind by more than the partial-sum buffer holds; it must stay 0. `adder_conflict` is high in cycles in
    which programming adds while windows are in the Acc tree: then it cannot use the tree's adders.
    """

    def __init__(self, parameters: LutParameters, placement: Placement | None = None) -> None:
        self.parameters = p = parameters
        self.placement = placement or Placement(as_instances=False)
        self.job_loops, self.stream_loops = JOB_LOOPS[p.name], STREAM_LOOPS[p.name]
        self.ports: list[ReadPort | WritePort] = [
            ReadPort(
                name="operands",
                lanes=p.rows * p.columns * p.sub_luts,
                width=p.operand_bits,
                shared=(*self.job_loops, "operand"),
            ),
            ReadPort(
                name="spikes",
                lanes=p.rows * p.parallelism,
                width=p.spike_bits,
                shared=self.job_loops + self.stream_loops,
            ),
        ]
        if p.neurons:
            width = p.sum_bits + p.widths.state_bits + 2
            self.ports += [ReadPort(name="bias", lanes=p.columns, width=p.sum_bits, shared=("column_group",))]
            self.ports += [WritePort("results", p.columns * p.parallelism, width, SWEEP_LOOPS)]
        else:
            shared = ("column_group", "offset_group")
            self.ports += [WritePort("results", p.columns * p.parallelism, p.sum_bits, shared)]
        self.halves = ("operands", "spikes")
        self.config = {name: In(COUNT_BITS) for name in (*CONFIG[p.name], "planes")} | {"buffer_mode": In(1)}
        self.config |= neuron_config(p.widths) if p.neurons else {}
        members: dict[str, object] = {name: Out(1) for name in STATUS} | {"start": In(1)}
        for half in self.halves:
            members |= {f"{half}_filled": In(1), f"{half}_released": Out(1)}
        for port in self.ports:
            members |= port.members()
        super().__init__(f"{p.name}_engine", members | self.config)

    @property
    def store_cycles(self) -> int:
        """Cycles from a window's address to its sum's address in the partial-sum buffer; it is added a cycle later."""
        return self.parameters.tree_cycles + self.parameters.add_cycles - 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.program_nest = self.program_nest = LoopNest(self._job_limits(m, "program"))
        m.submodules.stream_nest = self.stream_nest = LoopNest(self._job_limits(m, "stream") | self._stream_limits(m))
        self._connect_edges(m)
        self._control(m)
        self._array(m)
        return m

    # loops

    def _job_limits(self, m: Module, nest: str) -> dict[str, Value]:
        fixed = {"column_group": self.column_groups, "tile_y": self.tiles_y, "tile_x": self.tiles_x}
        if self.parameters.neurons:
            return fixed | {"row_group": self.row_groups}
        edges = {name: Signal(COUNT_BITS, name=f"{nest}_{name}_limit") for name in ("segment_y", "segment_x")}
        return fixed | {"sample": self.batch, "step_group": self.step_groups} | edges

    def _stream_limits(self, m: Module) -> dict[str, Value]:
        if not self.parameters.neurons:
            return {"plane": self.planes, "offset_group": self.offset_groups}
        outer = {"lane_group": self.lane_groups, "plane": self.planes}
        return outer | {name: Signal(COUNT_BITS, name=f"{name}_limit") for name in "yx"}

    def _connect_edges(self, m: Module) -> None:
        """Connects the loop limits that differ in the last tile of a row or column of tiles."""
        for nest in (self.program_nest, self.stream_nest):
            index, limits = nest.index, nest.limits
            at_edge_y, at_edge_x = index["tile_y"] + 1 == self.tiles_y, index["tile_x"] + 1 == self.tiles_x
            height = Mux(at_edge_y, self.edge_height, self.height)
            if not self.parameters.neurons:
                segments = Mux(at_edge_x, self.edge_segments, self.segments)
                m.d.comb += [limits["segment_y"].eq(height), limits["segment_x"].eq(segments)]
            elif "y" in limits:
                width = Mux(at_edge_x, self.edge_width, self.width)
                m.d.comb += [limits["y"].eq(height), limits["x"].eq(Mux(self.buffer_mode, self._entries(nest), width))]

    def _entries(self, nest: LoopNest) -> Value:
        """How many entries a job programs, one a cycle: all, or in FC layers those that hold weights."""
        if not self.parameters.neurons:
            return self.entries
        return Mux(nest.index["row_group"] + 1 == self.row_groups, self.edge_entries, self.entries)

    # control

    def _control(self, m: Module) -> None:
        """The control registers: programming, waiting (programmed while the array is busy), streaming, jobs left."""
        program, stream, outermost = self.program_nest, self.stream_nest, self.job_loops[0]
        inside = INSIDE_ITERATION[self.parameters.name]
        self.hidden = ~self.buffer_mode if self.parameters.double_buffered else 0
        self.programming, self.streaming, self.entry, self.bank = Signal(), Signal(), Signal(COUNT_BITS), Signal()
        self.program_last, self.stream_last, self.swap, self.final = Signal(), Signal(), Signal(), Signal()
        waiting, started, jobs_left = Signal(), Signal(), Signal()
        program_ends = program.last[inside] if inside else 1
        self.stream_ends = stream.last[inside] if inside else 1
        operands_ready = self._half(m, "operands", self.program_last, program_ends)
        spikes_ready = self._half(m, "spikes", self.stream_last, self.stream_ends)
        begin = self._begin(m, jobs_left & ~(self.program_last & program.last[outermost]), operands_ready)
        m.d.comb += [
            self.program_last.eq(self.programming & (self.entry + 1 == self._entries(program))),
            self.stream_last.eq(self.streaming & stream.last[self.stream_loops[0]]),
            self.swap.eq((self.program_last | waiting) & (~self.streaming | self.stream_last) & spikes_ready),
            self.final.eq(self.streaming & stream.last[outermost]),
            program.advance.eq(self.program_last),
            stream.advance.eq(self.streaming),
            self.computing.eq(self.programming | self.streaming),
            self.iteration_end.eq(self._iteration_end(m, started)),
        ]
        m.d.sync += [
            waiting.eq((self.program_last | waiting) & ~self.swap),
            self.programming.eq(begin | (self.programming & ~self.program_last)),
            self.streaming.eq(self.swap | (self.streaming & ~self.stream_last)),
            self.entry.eq(Mux(self.programming & ~self.program_last, self.entry + 1, 0)),
            jobs_left.eq(self.start | (jobs_left & ~(self.program_last & program.last[outermost]))),
            started.eq((started | self.stream_last) & ~self.start),
            self.bank.eq(self.bank ^ (self.swap & self.hidden)),
        ]

    def _half(self, m: Module, name: str, job_last: Value, ends: Value) -> Value:
        """Whether the data of the next job are in a half of one operand's buffers."""
        m.submodules[f"{name}_halves"] = halves = PingPong()
        released, next_is_new, new = getattr(self, f"{name}_released"), Signal(name=f"{name}_next_is_new"), Signal()
        filled = getattr(self, f"{name}_filled")
        m.d.comb += [
            released.eq(job_last & ends),
            halves.filled.eq(filled),
            halves.released.eq(released),
            new.eq(Mux(job_last, ends, next_is_new)),
        ]
        m.d.sync += next_is_new.eq(new | self.start)
        return ~new | (halves.level + filled > released)

    def _begin(self, m: Module, more: Value, ready: Value) -> Value:
        """High when the programming of a job begins: when the job before has streamed, or, if hidden, has begun to."""
        owed, wanted = Signal(), Signal()
        m.d.comb += wanted.eq(self.start | (Mux(self.hidden, self.swap, self.stream_last) & more) | owed)
        m.d.sync += owed.eq(wanted & ~ready)
        return wanted & ready

    def _iteration_end(self, m: Module, started: Value) -> Value:
        ended, ends = Signal(), Signal()
        m.d.comb += ends.eq(Mux(self.stream_last, self.stream_ends, ended))
        m.d.sync += ended.eq(ends)
        moves_on = self.swap & (started | self.stream_last) & ends
        return Mux(self.hidden, moves_on | self.final, self.stream_last & self.stream_ends)

    # data path

    def _array(self, m: Module) -> None:
        p, stream, program = self.parameters, self.stream_nest, self.program_nest
        tops = Array([0 if e == 0 else e.bit_length() - 1 for e in range(p.entries)])
        operand = Mux(self.buffer_mode, self.entry, tops[self.entry[: p.inputs]])
        m.d.comb += [
            self.operands_shared.eq(packed([*program.index.values(), operand])),
            self.spikes_shared.eq(packed([*stream.index.values()])),
        ]
        read_entry = stream.index["x"][: p.inputs] if p.neurons else 0
        common = {
            "buffer_mode": self.buffer_mode,
            "write": delay(m, self.programming, 1),
            "write_bank": delay(m, self.bank ^ (self.hidden & 1), 1),
            "entry": delay(m, self.entry[: p.inputs], 1),
            "read_bank": delay(m, self.bank, 1),
            "read_entry": delay(m, read_entry, 1) if p.neurons else 0,
        }
        spikes = lanes_of(self.spikes_data, p.parallelism * p.spike_bits)
        operands = lanes_of(self.operands_data, p.sub_luts * p.operand_bits)
        store = soma_store(self, m) if p.neurons else gradient_store(self, m)
        results = []
        for c in range(p.columns):
            sums = []
            for r in range(p.rows):
                pe = self.placement.place(m, f"pe_{r}_{c}", LutPe(p))
                own = {"spikes": spikes[r], "operands": operands[r * p.columns + c]}
                m.d.comb += [getattr(pe, name).eq(value) for name, value in (common | own).items()]
                sums.append(pe.sums)
            column = self.placement.place(m, f"column_{c}", LutColumn(p))
            m.d.comb += column.sums.eq(Cat(*sums))
            m.d.comb += [getattr(column, name).eq(value) for name, value in store.items()]
            if p.neurons:
                m.d.comb += column.bias.eq(lanes_of(self.bias_data, p.sum_bits)[c])
                m.d.comb += [getattr(column, n).eq(getattr(self, n)) for n in neuron_config(p.widths)]
            results.append(column.neurons if p.neurons else column.totals)
        m.d.comb += self.results_data.eq(Cat(*results))
        self._watch_adders(m)

    def _watch_adders(self, m: Module) -> None:
        """Drives `adder_conflict`: programming adds in a cycle in which windows are in the Acc tree."""
        p = self.parameters
        adds = Array([e & (e - 1) != 0 for e in range(p.entries)])[self.entry[: p.inputs]]
        in_flight = [self.streaming]
        for _ in range(p.tree_cycles + p.add_cycles):
            in_flight.append(delay(m, in_flight[-1], 1))
        conflict = delay(m, self.programming & adds & ~self.buffer_mode, 1)
        m.d.comb += self.adder_conflict.eq(conflict & Cat(*in_flight[1 + p.add_cycles - 1 + p.read_cycles :]).any())
