"""Backward Engine (figure 3.6): O finders, groups of PEs behind I-and-O finders, Acc, Grad (and Soma for encoding).

An encoding layer runs on it as a convolution whose tags are all ones. An FC layer does not use the finders.
"""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from h2sim.rtl.backward_column import BackwardColumn
from h2sim.rtl.group_pe import COORDINATE_BITS
from h2sim.rtl.lut_engine import STATUS, SWEEP_LOOPS, TILES
from h2sim.rtl.neuron_unit import Sweep, neuron_config
from h2sim.rtl.output_finder import OutputFinder
from h2sim.rtl.parameters import BackwardParameters
from h2sim.rtl.pe_group import PeGroup
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

CONFIG = (*TILES, "width", "edge_width", "row_groups", "samples", "lane_groups", "last_lanes", "batch", "timesteps")
STRIDES = ("stride_y", "stride_x")
SWITCHES = ("use_window", "use_gradient", "direct", "encode")


class BackwardEngine(Unit):
    """The whole Backward Engine, with the ports and status of LutEngine. The last timestep's samples come first.

    A tile is over when every group has registered that it is idle and the AND of these over the array is seen. In that
    cycle the window masks of the next tile are loaded. Its first pairs come two cycles later: find, read the tag.
    """

    def __init__(self, parameters: BackwardParameters, placement: Placement | None = None) -> None:
        self.parameters = p = parameters
        self.placement = placement or Placement(as_instances=False)
        lanes, state_bits = p.columns * p.parallelism, p.widths.state_bits + 2
        tile, block = ("tile_y", "tile_x", "sample", "row_group"), ("column_group", "row_group")
        position, tap = (("y", COORDINATE_BITS), ("x", COORDINATE_BITS)), (("tap", p.tap_bits),)
        self.ports: list[ReadPort | WritePort] = [
            ReadPort(
                name="window", lanes=p.columns, width=p.positions, shared=("column_group", "tile_y", "tile_x", "sample")
            ),
            ReadPort(name="states", lanes=lanes, width=state_bits, shared=SWEEP_LOOPS),
            WritePort("results", lanes, p.sum_bits + state_bits, SWEEP_LOOPS),
        ]
        for r in range(p.rows):  # a row shares its gradients, the PEs of a group their weights
            self.ports += [
                ReadPort(
                    name=f"tags_{r}",
                    lanes=lanes,
                    width=2 * p.taps,
                    shared=tile,
                    own=(("id", p.id_bits),),
                    sharers=lanes,
                ),
                ReadPort(
                    name=f"gradients_{r}", lanes=lanes, width=p.operand_bits, shared=tile, own=position, sharers=lanes
                ),
                ReadPort(
                    name=f"weights_{r}", lanes=lanes, width=p.operand_bits, shared=block, own=tap, sharers=p.parallelism
                ),
            ]
        self.halves = ("tiles",)
        self.config = {name: In(COUNT_BITS) for name in CONFIG + STRIDES} | {name: In(1) for name in SWITCHES}
        self.config |= neuron_config(p.widths)
        members: dict[str, object] = {name: Out(1) for name in STATUS} | {"start": In(1)}
        members |= {"tiles_filled": In(1), "tiles_released": Out(1)}
        for port in self.ports:
            members |= port.members()
        super().__init__(f"{p.name}_engine", members | self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        loops = {"column_group": self.column_groups, "tile_y": self.tiles_y, "tile_x": self.tiles_x}
        loops |= {"row_group": self.row_groups}
        m.submodules.halves = self.half = PingPong()
        m.submodules.next_tile = self.next_nest = LoopNest(loops | {"sample": self.samples})
        m.submodules.direct_nest = self.direct_nest = LoopNest(loops | {"sample": self.lane_groups})
        self.load, self.boundary, self.issue = Signal(), Signal(), Signal()
        self.idle = Signal(self.parameters.rows * self.parameters.columns)  # one bit a group
        self.current = {name: Signal(COUNT_BITS, name=f"current_{name}") for name in self.next_nest.index}
        self._control(m)
        self._array(m)
        return m

    def _control(self, m: Module) -> None:
        """The control of tiles and lane groups.

        For a convolution, `boundary` is high when the array is idle and `load` when the next tile begins. For an FC
        layer every issue is one lane group.
        """
        nest, direct = self.next_nest, self.direct_nest
        running, tiles_left, started, settling = Signal(), Signal(), Signal(), Signal()
        self.settling = settling
        new, at_hand, finish = Signal(), Signal(), Signal()
        m.d.comb += [
            new.eq(nest.first["sample"]),
            at_hand.eq(self.half.level + self.tiles_filled > (started & ~self.direct)),
            self.boundary.eq(running & ~self.direct & self.idle.all() & ~settling & (~tiles_left | ~new | at_hand)),
            finish.eq(self.boundary & ~tiles_left),
            self.load.eq((self.boundary & tiles_left) | (self.start & ~self.direct)),
            nest.advance.eq(self.load),
            self.issue.eq(running & self.direct & (~direct.first["sample"] | at_hand)),
            direct.advance.eq(self.issue),
            self.half.filled.eq(self.tiles_filled),
            self.half.released.eq(self.tiles_released),
            self.tiles_released.eq(self.iteration_end),
        ]
        stalled = self.idle.all() & ~settling & tiles_left & new & ~at_hand
        with m.If(self.direct):
            m.d.comb += [self.computing.eq(self.issue), self.iteration_end.eq(self.issue & direct.last["sample"])]
        with m.Else():
            m.d.comb += self.computing.eq(running & ~stalled)
            m.d.comb += self.iteration_end.eq(self.boundary & (new | ~tiles_left))
        ends = finish | (self.issue & direct.last["column_group"])
        m.d.sync += [
            running.eq(self.start | (running & ~ends)),
            started.eq(self.start | (started & ~ends)),
            tiles_left.eq(
                (self.start & ~self.direct & ~(self.load & nest.last["column_group"]))
                | (tiles_left & ~(self.load & nest.last["column_group"]))
            ),
            settling.eq(self.load),
        ]
        with m.If(self.load):
            m.d.sync += [self.current[name].eq(index) for name, index in nest.index.items()]

    def _array(self, m: Module) -> None:
        p = self.parameters
        current = {n: Mux(self.direct, self.direct_nest.index[n], self.current[n]) for n in self.current}
        tile = packed([current[n] for n in ("tile_y", "tile_x", "sample", "row_group")])
        nest = self.next_nest.index
        block = packed([current["column_group"], current["row_group"]])
        next_tile = [nest[n] for n in ("column_group", "tile_y", "tile_x", "sample")]
        m.d.comb += self.window_shared.eq(packed(next_tile))
        inside = self._tile_mask(m)
        self.unsettled = self.settling | delay(m, self.settling, 1)
        windows = lanes_of(self.window_data, p.positions)
        finders: list[OutputFinder] = []
        groups: dict[tuple[int, int], Unit] = {}
        for c in range(p.columns):
            finder = self.placement.place(m, f"finder_{c}", OutputFinder(p))
            m.d.comb += [finder.load.eq(self.load), finder.mask.eq(Mux(self.use_window, windows[c], inside))]
            finders.append(finder)
        for r in range(p.rows):
            m.d.comb += getattr(self, f"tags_{r}_shared").eq(tile)
            m.d.comb += getattr(self, f"gradients_{r}_shared").eq(tile)
            m.d.comb += getattr(self, f"weights_{r}_shared").eq(block)
            groups |= {(r, c): group for c, group in enumerate(self._row(m, r, finders))}
        m.d.comb += self.idle.eq(Cat(*[group.idle for group in groups.values()]))
        self._columns(m, groups)

    def _row(self, m: Module, r: int, finders: list[OutputFinder]) -> list[Unit]:
        """The PE groups of one row, and the wires to its buffers."""
        p = self.parameters
        tags, gradients, weights = (
            lanes_of(getattr(self, f"{name}_{r}_data"), p.parallelism * width)
            for name, width in (("tags", 2 * p.taps), ("gradients", p.operand_bits), ("weights", p.operand_bits))
        )
        groups = []
        for c, finder in enumerate(finders):
            group = self.placement.place(m, f"group_{r}_{c}", PeGroup(p, self.placement.inner(f"{p.name}_group")))
            m.d.comb += [
                group.load.eq(self.load),
                group.use_gradient.eq(self.use_gradient),
                group.direct.eq(self.issue),
                group.stride_y.eq(self.stride_y),
                group.stride_x.eq(self.stride_x),
                group.more.eq(finder.left | self.unsettled),
                group.ids.eq(finder.ids),
                group.counts.eq(finder.counts),
                group.tags.eq(tags[c]),
                group.gradients.eq(gradients[c]),
                group.weights.eq(weights[c]),
            ]
            groups.append(group)
        m.d.comb += [
            getattr(self, f"tags_{r}_own").eq(Cat(*[group.tag_ids for group in groups])),
            getattr(self, f"gradients_{r}_own").eq(Cat(*[group.positions for group in groups])),
            getattr(self, f"weights_{r}_own").eq(Cat(*[group.taps for group in groups])),
        ]
        return groups

    def _tile_mask(self, m: Module) -> Value:
        """A mask of all positions of the next tile, for the modes that deal every position."""
        p, index = self.parameters, self.next_nest.index
        height = Mux(index["tile_y"] + 1 == self.tiles_y, self.edge_height, self.height)
        width = Mux(index["tile_x"] + 1 == self.tiles_x, self.edge_width, self.width)
        rows = Cat(*[height > y for y in range(p.tile[0])])
        columns = Cat(*[width > x for x in range(p.tile[1])])
        return Cat(*[Mux(rows[y], columns, 0) for y in range(p.tile[0])])

    def _columns(self, m: Module, groups: dict[tuple[int, int], Unit]) -> None:
        p = self.parameters
        retire, sweep = self._retire(m), self._sweep(m)
        states = lanes_of(self.states_data, p.parallelism * (p.widths.state_bits + 2))
        results = []
        for c in range(p.columns):
            column = self.placement.place(m, f"column_{c}", BackwardColumn(p))
            rows = [groups[r, c] for r in range(p.rows)]
            m.d.comb += [
                column.ready.eq(Cat(*[group.ready for group in rows])),
                column.sums.eq(Cat(*[group.sums for group in rows])),
                column.state.eq(states[c]),
                *[getattr(column, name).eq(value) for name, value in (retire | sweep).items()],
                *[getattr(column, name).eq(getattr(self, name)) for name in ("use_window", "direct", "encode")],
                *[getattr(column, name).eq(getattr(self, name)) for name in neuron_config(p.widths)],
            ]
            m.d.comb += [group.take.eq(column.take) for group in rows]
            results.append(column.results)
        m.d.comb += self.results_data.eq(Cat(*results))
        self.lost = Cat(*[group.overrun for group in groups.values()]).any()
        m.d.comb += self.overrun.eq(self.lost | self.behind)

    def _retire(self, m: Module) -> dict[str, Value]:
        """The tile of which Acc takes sums: a copy of the loop nest that lags behind the array by the MAC's depth."""
        p = self.parameters
        loops = {"column_group": self.column_groups, "tile_y": self.tiles_y, "tile_x": self.tiles_x}
        loops |= {"row_group": self.row_groups, "sample": Mux(self.direct, 1, self.samples)}
        m.submodules.retire_nest = nest = LoopNest(loops)
        base, ring = Signal(p.word_bits), Signal(p.widths.ring_bits)
        next_tile = Signal()
        after_tile = delay(m, self.boundary, p.mac_cycles - 1)
        after_group = delay(m, self.issue & self.direct_nest.last["sample"], p.mac_cycles)
        m.d.comb += [next_tile.eq(after_tile | after_group), nest.advance.eq(next_tile)]
        with m.If(next_tile):
            m.d.sync += base.eq(Mux(nest.last["sample"], 0, base + p.buffer_ids))
        with m.If(next_tile & nest.last["row_group"]):
            m.d.sync += ring.eq(Mux(ring == p.widths.psum_blocks - 1, 0, ring + 1))
        return {"next_tile": next_tile, "base": Cat(base, ring), "begins": nest.index["row_group"] == 0}

    def _sweep(self, m: Module) -> dict[str, Value]:
        """The sweep of Grad, or for encoding layers of Soma, over the samples whose sums are complete."""
        p = self.parameters
        loops = {"column_group": self.column_groups, "tile_y": self.tiles_y, "tile_x": self.tiles_x}
        loops |= {"step": self.timesteps, "sample": self.batch}
        m.submodules.sweep = sweep = Sweep(loops, p.tile, p.parallelism, p.state_words)
        index, last = sweep.nest.index, sweep.nest.last
        row_last = self.current["row_group"] + 1 == self.row_groups
        tile_done = self.boundary & row_last
        lanes = Mux(self.direct_nest.index["sample"] + 1 == self.lane_groups, self.last_lanes, p.parallelism)
        group_done = self.issue & (self.direct_nest.index["row_group"] + 1 == self.row_groups)
        acc = p.acc_cycles - 1
        completed = delay(m, tile_done, p.mac_cycles - 2 + acc) + delay(
            m, Mux(group_done, lanes, 0), p.mac_cycles + acc
        )
        block_done = (tile_done & (self.current["sample"] + 1 == self.samples)) | (
            group_done & self.direct_nest.last["sample"]
        )
        lag, block_swept = Signal(COUNT_BITS), sweep.item & last["step"]
        m.d.sync += lag.eq(lag + block_done - block_swept)
        self.behind = Signal()
        depth = Mux(self.encode, p.soma_cycles, p.grad_cycles)
        outcome = [Cat(sweep.item, packed([*index.values()]), last["column_group"])]
        for _ in range(max(p.soma_cycles, p.grad_cycles) + 3):
            outcome.append(delay(m, outcome[-1], 1))
        now, next_one = Array(outcome)[depth + 2], Array(outcome)[depth + 3]
        m.d.comb += [
            sweep.height.eq(Mux(index["tile_y"] + 1 == self.tiles_y, self.edge_height, self.height)),
            sweep.width.eq(Mux(index["tile_x"] + 1 == self.tiles_x, self.edge_width, self.width)),
            sweep.completed.eq(completed),
            self.behind.eq(self.computing & (lag >= p.widths.psum_blocks)),
            self.states_shared.eq(packed([*index.values()])),
            self.results_valid.eq(now[0]),
            self.results_shared.eq(now[1:-1]),
            self.done.eq(next_one[0] & next_one[-1]),
        ]
        items = {"item": sweep.item, "item_valid": sweep.valid, "sample_last": sweep.sample_last}
        items |= {"block_last": last["step"], "first_step": sweep.initial, "state_address": sweep.address}
        return {name: delay(m, value, 1) for name, value in items.items()}
