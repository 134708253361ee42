"""The processing elements of the LUT engines: LUT PE (figure 3.3 a), its adder baseline, its FC weight buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from h2sim.arrays import Bytes, Float32s
from h2sim.reference.acc import ZERO
from h2sim.reference.result import Bench, Tally


class SubLut:
    """A LUT of 2**v words: entry a holds the sum of the operands i, of v, for which bit i of a is set.

    It has two banks. `shadow` is written, one entry a cycle, while `active` is read; `swap` exchanges them.
    """

    def __init__(self, inputs: int, bench: Bench) -> None:
        self.inputs = inputs
        self.bench = bench
        self.active = [ZERO] * (1 << inputs)
        self.shadow = list(self.active)
        self.operands: list[np.float32] = []
        self.next_entry = len(self.active)

    def load(self, operands: Float32s) -> None:
        """Begins to program the shadow bank with at most v operands; missing ones count as 0."""
        self.operands = [*operands, *[ZERO] * (self.inputs - len(operands))]
        self.next_entry = 0

    def program_entry(self) -> bool:
        """One cycle of programming: an entry is the sum of one operand and of an entry that is there already.

        Entry 0 is zero and an entry of a single operand is a copy: only the others use the adder of Acc. Returns False
        when the bank was full already.
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
        """Exchanges the two banks."""
        self.active, self.shadow = self.shadow, self.active

    def read(self, address: int) -> np.float32:
        """The entry that a window's spikes address; an all-zero address is read as any other."""
        self.bench.pe_array.lut_read += 1
        return self.active[address]


class LutPe:
    """A PE of n sub-LUTs and the adders that sum what they give, sub-LUT 0 first (figure 3.3 a)."""

    def __init__(self, sub_luts: int, inputs: int, bench: Bench) -> None:
        self.sub_luts = [SubLut(inputs, bench) for _ in range(sub_luts)]
        self.bench = bench
        self.loading: list[SubLut] = []
        self.used: list[SubLut] = []

    def load(self, segments: Sequence[Float32s]) -> None:
        """Begins to program as many sub-LUTs as there are segments of operands; the others stay idle."""
        self.loading = self.sub_luts[: len(segments)]
        for sub_lut, segment in zip(self.loading, segments, strict=True):
            sub_lut.load(segment)

    def program_entry(self) -> bool:
        """One cycle: one entry in every sub-LUT that is being loaded. Returns False when there was none to write."""
        return any([sub_lut.program_entry() for sub_lut in self.loading])

    def swap(self) -> None:
        """From now on what was loaded is read."""
        self.used = self.loading
        for sub_lut in self.used:
            sub_lut.swap()

    @property
    def busy(self) -> bool:
        """Whether it holds operands."""
        return bool(self.used)

    def read(self, addresses: Sequence[int]) -> np.float32:
        """One window on one lane: the sum of the entries at these addresses, one per sub-LUT in use."""
        first, *others = [sub_lut.read(address) for sub_lut, address in zip(self.used, addresses, strict=True)]
        total = first
        for output in others:
            total = total + output
            self.bench.pe_array.fp16_add += 1
        return total


class AdderPe:
    """The PE of the baseline without LUTs: a register per operand, and a chain of adders over those that spike.

    It has the interface of LutPe. Loading its registers takes no cycle. All adders of the chain count as used.
    """

    def __init__(self, bench: Bench) -> None:
        self.tally = bench.pe_array
        self.loading: Sequence[Float32s] = []
        self.registers: Sequence[Float32s] = []

    def load(self, segments: Sequence[Float32s]) -> None:
        """Takes the operands of the next job."""
        self.loading = segments

    def program_entry(self) -> bool:
        """False: nothing is programmed."""
        return False

    def swap(self) -> None:
        """From now on what was loaded is read."""
        self.registers = self.loading

    @property
    def busy(self) -> bool:
        """Whether it holds operands."""
        return len(self.registers) > 0

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
    """A LUT PE in an FC layer: its sub-LUTs (words) are plain buffers of operands.

    In a cycle every sub-LUT sends its operand of one entry, or 0 where there is no spike, and the PE sums what they
    send. Without LUTs the PE has one entry, of registers, which all send at once.
    """

    def __init__(self, entries: int, lut: bool, tally: Tally) -> None:
        self.entries: list[list[np.float32]] = [[] for _ in range(entries)]
        self.lut = lut
        self.tally = tally

    def store(self, entry: int, operand: np.float32) -> None:
        """Loads an operand into the next word of an entry. In hardware all words load at once, an entry a cycle."""
        self.entries[entry].append(operand)
        if self.lut:
            self.tally.lut_write += 1
        else:
            self.tally.register_access += 1

    def holds(self, entry: int) -> bool:
        """Whether any word has an operand at that entry."""
        return bool(self.entries[entry])

    def send(self, entry: int, spikes: Bytes) -> np.float32:
        """One cycle on one lane: the sum of what the words send. spikes: one per operand of the entry, word 0 first."""
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
