"""What lies below a column of LUT PEs: Acc (figure 3.3 b), the partial sums, and in the Forward Engine Soma."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from h2sim.rtl.neuron_unit import NeuronLane, neuron_config
from h2sim.rtl.parameters import LutParameters
from h2sim.rtl.primitives import Unit, adder_tree, delay, lanes_of


class LutColumn(Unit):
    """Acc of one array column: per lane an adder tree over the rows, and a bank of the partial-sum buffer.

    `store`, `address` and `plane` come one cycle before a sum, times 2**plane, is added there; with `begins` it is
    added to `bias` instead. The shift takes no cycle: in FP16 it is an addition to the exponent. With neurons, the sum
    of lane p at raster position i lies in bank (p + i) mod P, so that the sweep finds P neighbouring positions of one
    sample in P different banks.
    """

    def __init__(self, parameters: LutParameters) -> None:
        self.parameters = p = parameters
        phase_bits = max(1, (p.parallelism - 1).bit_length())
        members: dict[str, object] = {
            "sums": In(p.rows * p.parallelism * p.sum_bits),
            "store": In(1),
            "begins": In(1),
            "address": In(p.address_bits),
            "plane": In(p.plane_bits),
            "bias": In(signed(p.sum_bits)),
            "totals": Out(p.parallelism * p.sum_bits),
        }
        if p.neurons:
            state_bits = max(1, (p.state_words - 1).bit_length())
            members |= {"phase": In(phase_bits), "sweep_phase": In(phase_bits), "sweep_address": In(p.address_bits)}
            members |= {"item": In(1), "first_step": In(1), "state_address": In(state_bits)}
            members |= {"neurons": Out(p.parallelism * (p.sum_bits + p.widths.state_bits + 2))}
            members |= neuron_config(p.widths)
        super().__init__(f"{p.name}_column", members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self.parameters
        by_row = lanes_of(self.sums, p.parallelism * p.sum_bits)
        outputs = [lanes_of(row, p.sum_bits, True) for row in by_row]
        lanes = [adder_tree(m, [row[i] for row in outputs], p.add_cycles, p.sum_bits) for i in range(p.parallelism)]
        plane = delay(m, self.plane, 1)
        lanes = [shifted(m, delay(m, lane, p.add_cycles - 1), plane) for lane in lanes]
        if p.neurons:
            phase = delay(m, self.phase, 1)
            lanes = [Array(lanes)[self._bank_of(phase, bank, -1)] for bank in range(p.parallelism)]
        banks = [self._bank(m, i, lane) for i, lane in enumerate(lanes)]
        m.d.comb += self.totals.eq(Cat(*[delay(m, total, 1) for total, _ in banks]))
        if p.neurons:
            self._neurons(m, [swept for _, swept in banks])
        return m

    def _bank_of(self, phase: Value, index: int, sign: int) -> Value:
        """(index + sign * phase) mod P, as a look-up table."""
        p = self.parameters.parallelism
        return Array([(index + sign * k) % p for k in range(p)])[phase]

    def _bank(self, m: Module, bank: int, value: Value) -> tuple[Value, Value | None]:
        """One bank of partial sums, to which `value` is added. Returns the total, and what the sweep reads."""
        p = self.parameters
        memory = Memory(shape=signed(p.sum_bits), depth=1 << p.address_bits, init=[])
        m.submodules[f"psum{bank}"] = memory
        write = memory.write_port()
        read = memory.read_port(transparent_for=(write,))
        total = Signal(signed(p.sum_bits), name=f"total{bank}")
        m.d.comb += [
            read.addr.eq(self.address),
            write.addr.eq(delay(m, self.address, 1)),
            write.en.eq(delay(m, self.store, 1)),
            total.eq(Mux(delay(m, self.begins, 1), self.bias, read.data) + value),
            write.data.eq(total),
        ]
        if not p.neurons:
            return total, None
        sweep = memory.read_port(transparent_for=(write,))
        m.d.comb += sweep.addr.eq(self.sweep_address + self._bank_of(self.sweep_phase, bank, -1))
        return total, sweep.data

    def _neurons(self, m: Module, swept: list[Value]) -> None:
        p = self.parameters
        phase = delay(m, self.sweep_phase, 1)
        results = []
        for i in range(p.parallelism):
            lane = NeuronLane(p.name, p.widths, p.state_words, p.soma_cycles, None)
            m.submodules[f"neuron{i}"] = lane
            m.d.comb += [
                lane.read.eq(self.item),
                lane.initial.eq(self.first_step),
                lane.address.eq(self.state_address),
                lane.x.eq(Array(swept)[self._bank_of(phase, i, 1)]),
                *[getattr(lane, name).eq(getattr(self, name)) for name in neuron_config(p.widths)],
            ]
            results.append(lane.result)
        m.d.comb += self.neurons.eq(Cat(*results))


def shifted(m: Module, value: Value, plane: Value) -> Value:
    """value * 2**plane, in as many bits as `value` has."""
    result = Signal(value.shape())
    m.d.comb += result.eq(value << plane)
    return result
