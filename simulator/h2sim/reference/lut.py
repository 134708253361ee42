"""The processing elements of the LUT engines: LUT PE (figure 3.3 a), its adder baseline, its FC weight buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from h2sim.reference.acc import ZERO
from h2sim.reference.result import Bench, Tally


class SubLut:
    """2**v words; entry a holds the sum of those of v operands whose bit of a is set (operand i: bit i).

    Two banks: `shadow` is written, one entry per cycle, while `active` is read; `swap` exchanges them.
    """

    def __init__(self, inputs: int, bench: Bench) -> None:
        self.inputs = inputs
        self.bench = bench
        self.active = [ZERO] * (1 << inputs)
        self.shadow = list(self.active)
        self.operands: list[np.float32] = []
        self.next_entry = len(self.active)

    def load(self, operands: np.ndarray) -> None:
        """Begin to program the shadow bank with at most v operands; missing ones are 0."""
        self.operands = [*operands, *[ZERO] * (self.inputs - len(operands))]
        self.next_entry = 0

    def program_entry(self) -> bool:
        """One cycle of programming: the sum of one operand and of an entry that is there already.

        Entry 0 is zero and an entry of one operand is a copy: only the others use the Acc's adder.
        False when the bank was full already.
        """
        entry = self.next_entry
        if entry == len(self.shadow):
            return False
        self.next_entry += 1
        self.bench.pe_array.lut_write += 1
        top = entry.bit_length() - 1
        rest = entry & ~(1 << top) if entry else 0
        if entry == 0:
            self.shadow[entry] = ZERO
        elif rest == 0:
            self.shadow[entry] = self.operands[top]
        else:
            self.shadow[entry] = self.shadow[rest] + self.operands[top]
            self.bench.acc.fp16_add += 1
        return True

    def swap(self) -> None:
        self.active, self.shadow = self.shadow, self.active

    def read(self, address: int) -> np.float32:
        """The entry that a window's spikes address; an all-zero address is read as any other."""
        self.bench.pe_array.lut_read += 1
        return self.active[address]


class LutPe:
    """n sub-LUTs and the adders that sum their outputs, sub-LUT 0 first."""

    def __init__(self, sub_luts: int, inputs: int, bench: Bench) -> None:
        self.sub_luts = [SubLut(inputs, bench) for _ in range(sub_luts)]
        self.bench = bench
        self.loading: list[SubLut] = []
        self.used: list[SubLut] = []

    def load(self, segments: Sequence[np.ndarray]) -> None:
        """Begin to program as many sub-LUTs as there are segments of operands; the others idle."""
        self.loading = self.sub_luts[: len(segments)]
        for sub_lut, segment in zip(self.loading, segments, strict=True):
            sub_lut.load(segment)

    def program_entry(self) -> bool:
        """One cycle: one entry in every sub-LUT that is being loaded; False when there was none to write."""
        return any([sub_lut.program_entry() for sub_lut in self.loading])

    def swap(self) -> None:
        """Read from now on what was loaded."""
        self.used = self.loading
        for sub_lut in self.used:
            sub_lut.swap()

    def read(self, addresses: Sequence[int]) -> np.float32:
        """One window on one lane: addresses (one per used sub-LUT) to the sum of their entries."""
        first, *others = [sub_lut.read(address) for sub_lut, address in zip(self.used, addresses, strict=True)]
        total = first
        for output in others:
            total = total + output
            self.bench.pe_array.fp16_add += 1
        return total


class AdderPe:
    """The non-LUT baseline: one register per operand and an adder chain over the operands that spike.

    Same interface as LutPe; loading the registers takes no cycle. The chain's adders all count.
    """

    def __init__(self, bench: Bench) -> None:
        self.tally = bench.pe_array
        self.loading: Sequence[np.ndarray] = []
        self.registers: Sequence[np.ndarray] = []

    def load(self, segments: Sequence[np.ndarray]) -> None:
        self.loading = segments

    def program_entry(self) -> bool:
        return False

    def swap(self) -> None:
        self.registers = self.loading

    def read(self, addresses: Sequence[int]) -> np.float32:
        """One window on one lane: the sum, operand by operand, of those whose address bit is set."""
        total = ZERO
        operands = 0
        for segment, address in zip(self.registers, addresses, strict=True):
            for i, operand in enumerate(segment):
                operands += 1
                if address >> i & 1:
                    total = total + operand
        self.tally.register_access += operands
        self.tally.fp16_add += operands - 1
        return total


class WeightBufferPe:
    """A LUT PE in FC layers: its sub-LUTs as plain buffers of operands, one word of each at every entry.

    In a cycle each sub-LUT sends the operand of one entry, or 0 where no spike, and the PE sums what they
    send. Without LUT there is one entry of registers, which all send at once.
    """

    def __init__(self, entries: int, lut: bool, tally: Tally) -> None:
        self.entries: list[list[np.float32]] = [[] for _ in range(entries)]
        self.lut = lut
        self.tally = tally

    def store(self, entry: int, operand: np.float32) -> None:
        """Load the next word's operand of an entry; all words of all PEs load at once, one entry per cycle."""
        self.entries[entry].append(operand)
        if self.lut:
            self.tally.lut_write += 1
        else:
            self.tally.register_access += 1

    def holds(self, entry: int) -> bool:
        """Whether any word has an operand at this entry."""
        return bool(self.entries[entry])

    def send(self, entry: int, spikes: np.ndarray) -> np.float32:
        """One cycle on one lane; spikes of the operands that stand at this entry, word 0 first."""
        operands = zip(self.entries[entry], spikes, strict=True)
        outputs = [self._read(operand) if spike else ZERO for operand, spike in operands]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
            self.tally.fp16_add += 1
        return total

    def _read(self, operand: np.float32) -> np.float32:
        if self.lut:
            self.tally.lut_read += 1
        else:
            self.tally.register_access += 1
        return operand
