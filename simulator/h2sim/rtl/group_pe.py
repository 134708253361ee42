"""One PE of a Backward Engine's PE group (figure 3.6 b, c): Effectual I-and-O finder, MAC, partial-sum buffer."""

from __future__ import annotations

from amaranth import Array, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from h2sim.rtl.output_finder import lowest_set
from h2sim.rtl.parameters import BackwardParameters
from h2sim.rtl.primitives import Unit, delay, lanes_of

COORDINATE_BITS = 8


class GroupPe(Unit):
    """One PE. It takes IDs from its output ID buffer, reads their tags, emits a valid pair a cycle and multiplies it.

    `load` begins a tile. A tag has a gradient bit per tap, and a bit per tap that says whether there is such an output;
    without `use_gradient` the second ones decide. A finished partial sum, 0 for an empty tag, waits in the buffer until
    the PEs of all rows have it and Acc takes it (`take`). `direct`, for FC layers: the PE takes a pair of tap 0 without
    the finder, and each is a sum of its own.
    """

    def __init__(self, parameters: BackwardParameters) -> None:
        self.parameters = p = parameters
        members: dict[str, object] = {
            "load": In(1),
            "use_gradient": In(1),
            "direct": In(1),
            "ids": In(p.buffer_ids * p.id_bits),
            "count": In(p.buffer_ids.bit_length()),
            "tag_id": Out(p.id_bits),
            "tag": In(2 * p.taps),
            "lane": In(COORDINATE_BITS),
            "stride_y": In(3),
            "stride_x": In(3),
            "y": Out(COORDINATE_BITS),
            "x": Out(COORDINATE_BITS),
            "tap": Out(p.tap_bits),
            "gradient": In(signed(p.operand_bits)),
            "weight": In(signed(p.operand_bits)),
            "left": Out(1),
            "ready": Out(1),
            "sum": Out(signed(p.sum_bits)),
            "take": In(1),
            "overrun": Out(1),
        }
        super().__init__(f"{p.name}_group_pe", members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pair, found, last = self._finder(m)
        self._mac(m, pair, found, last)
        return m

    def _finder(self, m: Module) -> tuple[Value, Value, Value]:
        """Three signals of the cycle in which the finder emits.

        They say that there is a pair, that there is a position, and that this is the position's last cycle. The finder
        holds at most two tags, one in work and one behind it, so that empty or one-bit tags leave no gap. Work on a tag
        begins in the cycle in which it arrives.
        """
        p = self.parameters
        pointer, arriving = Signal(p.buffer_ids.bit_length()), Signal()
        arriving_id = Signal(p.id_bits)
        tags = [
            (Signal(name=f"valid{i}"), Signal(p.taps, name=f"tag{i}"), Signal(p.id_bits, name=f"id{i}")) for i in (0, 1)
        ]
        (valid0, tag0, id0), (valid1, tag1, id1) = tags
        arriving_tag, head, rest = Signal(p.taps), Signal(p.taps), Signal(p.taps)
        there, last, request, pair_id = Signal(), Signal(), Signal(), Signal(p.id_bits)
        m.d.comb += [
            arriving_tag.eq(Mux(self.use_gradient, self.tag[: p.taps], self.tag[p.taps :])),
            there.eq(valid0 | arriving),
            head.eq(Mux(valid0, tag0, arriving_tag)),
            pair_id.eq(Mux(valid0, id0, arriving_id)),
            rest.eq(head & (head - 1)[: p.taps]),
            last.eq(there & (rest == 0)),
            self.tag_id.eq(Array(lanes_of(self.ids, p.id_bits))[pointer]),
            request.eq((pointer < self.count) & (valid0 + valid1 + arriving <= 1 + last)),
            self.left.eq((pointer < self.count) | there),
        ]
        m.d.sync += [arriving.eq(request), arriving_id.eq(self.tag_id)]
        m.d.sync += pointer.eq(Mux(self.load, 0, pointer + request))
        with m.If(there & ~last):
            m.d.sync += [valid0.eq(1), tag0.eq(rest), id0.eq(pair_id)]
            with m.If(valid0 & arriving):
                m.d.sync += [valid1.eq(1), tag1.eq(arriving_tag), id1.eq(arriving_id)]
        with m.Elif(valid1):  # the next in line moves up, and the arriving one behind it
            m.d.sync += [tag0.eq(tag1), id0.eq(id1), valid1.eq(arriving), tag1.eq(arriving_tag), id1.eq(arriving_id)]
        with m.Else():
            m.d.sync += [valid0.eq(valid0 & arriving), tag0.eq(arriving_tag), id0.eq(arriving_id)]
        self._decode(m, pair_id, lowest_set(head))
        pair = self.direct | (there & head.any())
        return pair, self.direct | there, self.direct | last

    def _mac(self, m: Module, pair: Value, found: Value, last: Value) -> None:
        """The MAC: operands arrive one cycle after the pair, and the first product of a position starts a new sum."""
        p = self.parameters
        product = Signal(signed(p.sum_bits), name="product")
        m.d.comb += product.eq(Mux(delay(m, pair, 1), self.gradient * self.weight, 0))
        addend = delay(m, product, p.multiply_cycles + p.add_cycles - 1)
        stage = p.multiply_cycles + p.add_cycles  # the cycle in which the sum is made
        found, last = delay(m, found, stage), delay(m, last, stage)
        fresh, partial, total = Signal(init=1), Signal(signed(p.sum_bits)), Signal(signed(p.sum_bits))
        m.d.comb += total.eq(Mux(fresh, 0, partial) + addend)
        with m.If(found):
            m.d.sync += [partial.eq(total), fresh.eq(last)]
        depth = p.buffer_ids
        words = [Signal(signed(p.sum_bits), name=f"psum{i}") for i in range(depth)]
        write, read, level = Signal(range(max(2, depth))), Signal(range(max(2, depth))), Signal(range(depth + 2))
        with m.If(found & last):
            m.d.sync += [Array(words)[write].eq(total), write.eq(Mux(write == depth - 1, 0, write + 1))]
        with m.If(self.take):
            m.d.sync += read.eq(Mux(read == depth - 1, 0, read + 1))
        m.d.sync += level.eq(level + (found & last) - self.take)
        m.d.comb += [
            self.ready.eq(level != 0),
            self.sum.eq(Array(words)[read]),
            self.overrun.eq((level == depth) & found & last & ~self.take),
        ]

    def _decode(self, m: Module, pair_id: Value, tap: Value) -> None:
        """The wID and dmID decoders: they give the pair's tap, and where its operand lies in the tile with its halo.

        Gradients of a strided layer lie in the buffer with zeros between them, so their stride is 1 here. Inputs of an
        encoding layer have the layer's stride. FC layers read operand `lane` of their lane group.
        """
        p = self.parameters
        y, x = (Array([f(i) for i in range(p.positions)])[pair_id] for f in (p.row_of, p.column_of))
        kernel_y, kernel_x = p.kernel
        back_y = Array([kernel_y - 1 - k // kernel_x for k in range(p.taps)])[tap]
        back_x = Array([kernel_x - 1 - k % kernel_x for k in range(p.taps)])[tap]
        m.d.comb += [
            self.tap.eq(Mux(self.direct, 0, tap)),
            self.y.eq(Mux(self.direct, 0, y * self.stride_y + back_y)),
            self.x.eq(Mux(self.direct, self.lane, x * self.stride_x + back_x)),
        ]
