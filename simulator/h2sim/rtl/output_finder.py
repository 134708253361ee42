"""Effectual O finder of one column (figure 3.6 a): it deals a tile's valid positions to the P output ID buffers."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from h2sim.rtl.parameters import BackwardParameters
from h2sim.rtl.primitives import Unit


class OutputFinder(Unit):
    """In each cycle the P lowest set bits of the mask become output IDs, one for each buffer, in raster order.

    `load` takes `mask` and empties the buffers. The PE groups of all rows read the buffers (`ids`, `counts`).
    """

    def __init__(self, parameters: BackwardParameters) -> None:
        self.parameters = p = parameters
        self.count_bits = p.buffer_ids.bit_length()
        members: dict[str, object] = {
            "load": In(1),
            "mask": In(p.positions),
            "left": Out(1),
            "ids": Out(p.parallelism * p.buffer_ids * p.id_bits),
            "counts": Out(p.parallelism * self.count_bits),
        }
        super().__init__(f"{p.name}_output_finder", members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self.parameters
        mask = Signal(p.positions, name="mask_left")
        written = Signal(self.count_bits)  # rounds so far: the same slot in every buffer
        rest: Value = mask
        buffers, counts = [], []
        for lane in range(p.parallelism):
            buffer = [Signal(p.id_bits, name=f"id_{lane}_{i}") for i in range(p.buffer_ids)]
            count = Signal(self.count_bits, name=f"count_{lane}")
            found, after = Signal(p.id_bits, name=f"found_{lane}"), Signal(p.positions, name=f"after_{lane}")
            m.d.comb += [found.eq(lowest_set(rest)), after.eq(rest & (rest - 1)[: p.positions])]
            with m.If(self.load):
                m.d.sync += count.eq(0)
            with m.Elif(rest.any()):
                m.d.sync += [Array(buffer)[written].eq(found), count.eq(count + 1)]
            buffers.append(Cat(*buffer))
            counts.append(count)
            rest = after
        m.d.comb += [self.left.eq(mask.any()), self.ids.eq(Cat(*buffers)), self.counts.eq(Cat(*counts))]
        m.d.sync += [mask.eq(Mux(self.load, self.mask, rest)), written.eq(Mux(self.load, 0, written + 1))]
        return m


def lowest_set(bits: Value) -> Value:
    """The index of the lowest set bit, from a priority encoder that is a tree. Undefined if no bit is set."""
    if len(bits) == 1:
        return Const(0, 1)
    half = 1 << ((len(bits) - 1).bit_length() - 1)
    low, high = bits[:half], bits[half:]
    return Mux(low.any(), lowest_set(low), half + lowest_set(high))
