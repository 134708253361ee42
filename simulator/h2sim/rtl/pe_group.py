"""A PE group of the Backward Engine (figure 3.6 b): P PEs that share an array position, and its idle flag."""

from __future__ import annotations

from amaranth import Cat, Module
from amaranth.lib.wiring import In, Out

from h2sim.rtl.group_pe import COORDINATE_BITS, GroupPe
from h2sim.rtl.parameters import BackwardParameters
from h2sim.rtl.primitives import Placement, Unit, lanes_of


class PeGroup(Unit):
    """The P PEs of one row and column. PE i works through output ID buffer i of its column's O finder.

    Ports are those of GroupPe, lane 0 lowest. `idle` is registered: no PE has anything left, and `more` (positions are
    still to be dealt, or a tile is just begun) is low.
    """

    def __init__(self, parameters: BackwardParameters, placement: Placement) -> None:
        self.parameters = p = parameters
        self.placement = placement
        self.count_bits = p.buffer_ids.bit_length()
        members: dict[str, object] = {
            "load": In(1),
            "use_gradient": In(1),
            "direct": In(1),
            "stride_y": In(3),
            "stride_x": In(3),
            "more": In(1),
            "ids": In(p.parallelism * p.buffer_ids * p.id_bits),
            "counts": In(p.parallelism * self.count_bits),
            "tags": In(p.parallelism * 2 * p.taps),
            "gradients": In(p.parallelism * p.operand_bits),
            "weights": In(p.parallelism * p.operand_bits),
            "take": In(p.parallelism),
            "tag_ids": Out(p.parallelism * p.id_bits),
            "positions": Out(p.parallelism * 2 * COORDINATE_BITS),
            "taps": Out(p.parallelism * p.tap_bits),
            "ready": Out(p.parallelism),
            "sums": Out(p.parallelism * p.sum_bits),
            "idle": Out(1),
            "overrun": Out(1),
        }
        super().__init__(f"{p.name}_group", members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self.parameters
        pes = [self.placement.place(m, f"pe_{i}", GroupPe(p)) for i in range(p.parallelism)]
        lanes = {
            "ids": lanes_of(self.ids, p.buffer_ids * p.id_bits),
            "count": lanes_of(self.counts, self.count_bits),
            "tag": lanes_of(self.tags, 2 * p.taps),
            "gradient": lanes_of(self.gradients, p.operand_bits),
            "weight": lanes_of(self.weights, p.operand_bits),
            "take": lanes_of(self.take, 1),
        }
        for i, pe in enumerate(pes):
            m.d.comb += [getattr(pe, name).eq(of_lane[i]) for name, of_lane in lanes.items()]
            shared = ("load", "use_gradient", "direct", "stride_y", "stride_x")
            m.d.comb += [getattr(pe, name).eq(getattr(self, name)) for name in shared]
            m.d.comb += pe.lane.eq(i)
        m.d.comb += [
            self.tag_ids.eq(Cat(*[pe.tag_id for pe in pes])),
            self.positions.eq(Cat(*[Cat(pe.y, pe.x) for pe in pes])),
            self.taps.eq(Cat(*[pe.tap for pe in pes])),
            self.ready.eq(Cat(*[pe.ready for pe in pes])),
            self.sums.eq(Cat(*[pe.sum for pe in pes])),
            self.overrun.eq(Cat(*[pe.overrun for pe in pes]).any()),
        ]
        m.d.sync += self.idle.eq(~(Cat(*[pe.left for pe in pes]).any() | self.more))
        return m
