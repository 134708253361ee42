"""What lies below a column of PE groups: Acc, partial sums in the order of dealing, and Grad (Soma for encoding)."""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from h2sim.rtl.neuron_unit import NeuronLane, neuron_config
from h2sim.rtl.parameters import BackwardParameters
from h2sim.rtl.primitives import Unit, adder_tree, delay, lanes_of, tree_levels


class BackwardColumn(Unit):
    """Acc of one column: it takes a position when all rows have it, and adds over the rows and to the partial sum.

    Partial sums are stored in the order in which positions were dealt: the k-th valid position of a sample lies in word
    k // P of lane k mod P, so that two lanes never need one bank. The sweep puts them back in raster order.
    """

    def __init__(self, parameters: BackwardParameters) -> None:
        self.parameters = p = parameters
        members: dict[str, object] = {
            "ready": In(p.rows * p.parallelism),
            "sums": In(p.rows * p.parallelism * p.sum_bits),
            "take": Out(p.parallelism),
            "next_tile": In(1),
            "base": In(p.address_bits),
            "begins": In(1),  # the first row group: sums begin at 0
            "item": In(1),
            "item_valid": In(p.parallelism),
            "sample_last": In(1),
            "block_last": In(1),
            "first_step": In(1),
            "state_address": In(max(1, (p.state_words - 1).bit_length())),
            "use_window": In(1),
            "direct": In(1),
            "encode": In(1),
            "state": In(p.parallelism * (p.widths.state_bits + 2)),
            "results": Out(p.parallelism * (p.sum_bits + p.widths.state_bits + 2)),
        }
        super().__init__(f"{p.name}_column", members | neuron_config(p.widths))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self.parameters
        ready = [self.ready[r * p.parallelism : (r + 1) * p.parallelism] for r in range(p.rows)]
        sums = lanes_of(self.sums, p.sum_bits, True)
        all_ready = ready[0]
        for row in ready[1:]:
            all_ready = all_ready & row
        m.d.comb += self.take.eq(all_ready)
        addresses = self._pointers(m)
        swept = [
            self._lane(m, i, [sums[r * p.parallelism + i] for r in range(p.rows)], address)
            for i, address in enumerate(addresses)
        ]
        self._neurons(m, swept)
        return m

    def _lane(self, m: Module, lane: int, outputs: list[Value], sweep_address: Value) -> Value:
        """One lane of Acc and its bank of partial sums; returns what the sweep reads from the bank."""
        p = self.parameters
        taken, count = self.take[lane], Signal(p.word_bits, name=f"taken{lane}")
        m.d.sync += count.eq(Mux(self.next_tile, 0, count + taken))
        total_of_rows = adder_tree(m, [delay(m, o, 1) for o in outputs], p.add_cycles, p.sum_bits)
        total_of_rows = delay(m, total_of_rows, p.add_cycles - 1)
        later = (tree_levels(p.rows) + 1) * p.add_cycles - 1
        m.submodules[f"psum{lane}"] = memory = Memory(shape=signed(p.sum_bits), depth=1 << p.address_bits, init=[])
        write = memory.write_port()
        read, sweep = (memory.read_port(transparent_for=(write,)) for _ in range(2))
        address = delay(m, (self.base + count)[: p.address_bits], later)
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(delay(m, address, 1)),
            write.en.eq(delay(m, taken, later + 1)),
            write.data.eq(Mux(delay(m, self.begins, later + 1), 0, read.data) + total_of_rows),
            sweep.addr.eq(sweep_address),
        ]
        return sweep.data

    def _pointers(self, m: Module) -> list[Value]:
        """Where the sweep's next valid positions lie in each bank. Items of the sweep come with their window bits."""
        p = self.parameters
        word, phase = Signal(p.word_bits, name="sweep_word"), Signal(range(max(2, p.parallelism)), name="sweep_phase")
        base, ring = Signal(p.word_bits, name="sweep_base"), Signal(p.widths.ring_bits, name="sweep_ring")
        self.phase = phase
        windows = [state[1] for state in lanes_of(self.state, p.widths.state_bits + 2)]
        self.valid = [self.item_valid[i] & (windows[i] | ~self.use_window) for i in range(p.parallelism)]
        self.before = []  # valid lanes below each lane
        count: Value = Const(0, 1)
        for valid in self.valid:
            self.before.append(count)
            count = count + valid
        moved = phase + count
        with m.If(self.item & self.block_last):
            m.d.sync += [word.eq(0), phase.eq(0), base.eq(0)]
            m.d.sync += ring.eq(Mux(ring == p.widths.psum_blocks - 1, 0, ring + 1))
        with m.Elif(self.item & self.sample_last & ~self.direct):
            m.d.sync += [word.eq(0), phase.eq(0), base.eq(base + p.buffer_ids)]
        with m.Elif(self.item):
            wraps = moved >= p.parallelism
            m.d.sync += [word.eq(word + wraps), phase.eq(Mux(wraps, moved - p.parallelism, moved))]
        at = [(base + word + (Const(lane, 8) < phase))[: p.word_bits] for lane in range(p.parallelism)]
        return [Cat(a, ring) for a in at]

    def _neurons(self, m: Module, swept: list[Value]) -> None:
        p = self.parameters
        turn = Array([k % p.parallelism for k in range(2 * p.parallelism)])
        states = lanes_of(self.state, p.widths.state_bits + 2)
        results = []
        for i in range(p.parallelism):
            lane = NeuronLane(p.name, p.widths, p.state_words, p.soma_cycles, p.grad_cycles)
            m.submodules[f"neuron{i}"] = lane
            bank, valid = delay(m, turn[self.phase + self.before[i]], 1), delay(m, self.valid[i], 1)
            m.d.comb += [
                lane.read.eq(self.item),
                lane.initial.eq(self.first_step),
                lane.address.eq(self.state_address),
                lane.x.eq(Mux(valid, Array(swept)[bank], 0)),
                lane.state.eq(delay(m, states[i], 1)),
                lane.grad.eq(~self.encode),
                *[getattr(lane, name).eq(getattr(self, name)) for name in neuron_config(p.widths)],
            ]
            results.append(lane.result)
        m.d.comb += self.results.eq(Cat(*results))
