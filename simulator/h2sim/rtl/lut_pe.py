"""The LUT PE (figure 3.3 a): n sub-LUTs of z entries, P read ports, and the adders that sum their outputs."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from h2sim.rtl.parameters import LutParameters
from h2sim.rtl.primitives import Unit, adder_tree, delay, lanes_of


class LutPe(Unit):
    """One processing element. Operands and spikes come from the buffers, sums go to Acc.

    Programming: with `write`, entry `entry` of every sub-LUT becomes, fp16_add cycles later, the sum of the entry
    without its top bit and of `operands`, the operand of that bit. Reading: `spikes` address the sub-LUTs of a lane.
    `buffer_mode`, for FC layers: entries are plain words, and `read_entry` is sent where the lane's spike is set.
    """

    def __init__(self, parameters: LutParameters) -> None:
        self.parameters = p = parameters
        members: dict[str, object] = {
            "buffer_mode": In(1),
            "write": In(1),
            "write_bank": In(1),
            "entry": In(p.entry_bits),
            "operands": In(p.sub_luts * p.operand_bits),
            "read_bank": In(1),
            "read_entry": In(p.entry_bits),
            "spikes": In(p.parallelism * p.spike_bits),
            "sums": Out(p.parallelism * p.sum_bits),
        }
        super().__init__(f"{p.name}_lut_pe", members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self.parameters
        outputs: list[list[Value]] = [[] for _ in range(p.parallelism)]
        for j, operand in enumerate(lanes_of(self.operands, p.operand_bits, True)):
            banks = [
                [Signal(signed(p.sum_bits), name=f"lut{j}_{bank}_{e}") for e in range(p.entries)]
                for bank in range(1 + p.double_buffered)
            ]
            self._program(m, banks, operand)
            for lane, spikes in enumerate(lanes_of(self.spikes, p.spike_bits)):
                address = spikes[j * p.inputs : (j + 1) * p.inputs]
                outputs[lane].append(self._read(m, banks, address))
        sums = [adder_tree(m, values, p.add_cycles, p.sum_bits) for values in outputs]
        m.d.comb += self.sums.eq(Cat(*[s[: p.sum_bits] for s in sums]))
        return m

    def _program(self, m: Module, banks: list[list[Signal]], operand: Value) -> None:
        p = self.parameters
        rest, value = Signal(p.entry_bits), Signal(signed(p.sum_bits))
        top_bits = [1 << (e.bit_length() - 1) if e else 0 for e in range(p.entries)]
        m.d.comb += rest.eq(self.entry & ~Array(top_bits)[self.entry])
        stored = self._selected(banks, self.write_bank, rest)
        with m.If(self.buffer_mode):
            m.d.comb += value.eq(operand)
        with m.Elif(self.entry != 0):
            m.d.comb += value.eq(Mux(rest == 0, 0, stored) + operand)
        later = p.add_cycles - 1  # the write itself is the adder's last stage
        write, bank = delay(m, self.write, later), delay(m, self.write_bank, later)
        entry, result = delay(m, self.entry, later), delay(m, value, later)
        for b, entries in enumerate(banks):
            with m.If(write & (bank == b)):
                m.d.sync += Array(entries)[entry].eq(result)

    def _read(self, m: Module, banks: list[list[Signal]], address: Value) -> Value:
        """The word of a lane. The read waits as many cycles as the last programmed entry is on its way."""
        p = self.parameters
        later = p.add_cycles - 1
        address, buffer_mode = delay(m, address, later), delay(m, self.buffer_mode, later)
        entry, bank = delay(m, self.read_entry, later), delay(m, self.read_bank, later)
        word = Signal(signed(p.sum_bits))
        looked_up = self._selected(banks, bank, Mux(buffer_mode, entry, address))
        m.d.comb += word.eq(Mux(buffer_mode & ~address[0], 0, looked_up))
        return delay(m, word, p.read_cycles)

    def _selected(self, banks: list[list[Signal]], bank: Value, entry: Value) -> Value:
        words = [Array(entries)[entry] for entries in banks]
        return Mux(bank, words[1], words[0]) if len(words) == 2 else words[0]
