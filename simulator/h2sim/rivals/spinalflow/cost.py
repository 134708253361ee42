"""What SpinalFlow's events cost and its units take: counts x prices, the energy table's where it has them."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import NamedTuple

from h2sim.activity import BufferTraffic
from h2sim.energy.sram import BufferPrice, price_buffer
from h2sim.energy.table import EnergyTable
from h2sim.errors import BaselineError, at
from h2sim.rivals.spinalflow.engine import SpineEvents
from h2sim.rivals.spinalflow.schema import SpinalFlow


class Energy(NamedTuple):
    """On-chip energy by component, pJ."""

    pes: float
    sorter: float
    filter_buffer: float
    input_buffer: float
    output_buffer: float
    leakage: float


@dataclass(frozen=True)
class Area:
    """Area by component, um2."""

    pes: float
    sorter: float
    filter_buffer: float
    input_buffer: float
    output_buffer: float

    @property
    def total_um2(self) -> float:
        return math.fsum(astuple(self))


class Prices:
    """The prices of one machine by one table. Raises BaselineError where their nodes differ, EnergyTableError for a
    buffer that no macro holds."""

    def __init__(self, machine: SpinalFlow, table: EnergyTable) -> None:
        if table.node_nm != machine.node_nm:
            expected = f"a table of {machine.node_nm:g} nm, as {machine.name}'s own prices"
            raise BaselineError(at(f"energy table {table.name}", "node_nm", expected, f"{table.node_nm:g}"))
        self.machine, self.table = machine, table
        self.buffers: dict[str, BufferPrice] = {
            name: price_buffer(f"{machine.name}.{name}", getattr(machine.buffers, name), table)
            for name in ("filter", "input", "output")
        }

    def energy(self, events: SpineEvents, buffers: tuple[BufferTraffic, ...], cycles: int) -> Energy:
        """On-chip energy of a layer that takes `cycles` of the machine.

        A potential's update is an add, a compare, a read and a write of its register; a row's weights are latched, two
        to a 16-bit register; a spike that leaves the sorter passes one register per level [A].
        """
        units, register = self.machine.units, self.table.actions.register_access.energy_pj
        update = units.potential_add.energy_pj + units.threshold_compare.energy_pj + 2 * self._words() * register
        latched = events.filter_rows * self.machine.row_bytes / 2
        pes = events.updates * update + latched * register + events.potentials_moved * self._words() * register
        sorter = events.comparisons * units.time_compare.energy_pj + 2 * events.sorted_spikes * register
        moved = {b.buffer: self._moved(b) for b in buffers}
        leakage = self.leakage_w * 1e12 * cycles / self.machine.clock_hz
        return Energy(pes, sorter, moved["filter"], moved["input"], moved["output"], leakage)

    @property
    def area(self) -> Area:
        """Bottom-up area: units x price and the buffers' macros; no wires, control or network [A]."""
        units, register = self.machine.units, self.table.actions.register_access
        pes = self._pe_units(units.potential_add.area_um2, units.threshold_compare.area_um2, register.area_um2)
        sorter = self._sorter_units(units.time_compare.area_um2, register.area_um2)
        b = self.buffers
        return Area(pes, sorter, b["filter"].area_um2, b["input"].area_um2, b["output"].area_um2)

    @property
    def leakage_w(self) -> float:
        """Leakage of all units and macros."""
        units, register = self.machine.units, self.table.actions.register_access
        logic = self._pe_units(
            units.potential_add.leakage_uw, units.threshold_compare.leakage_uw, register.leakage_uw
        ) + self._sorter_units(units.time_compare.leakage_uw, register.leakage_uw)
        return 1e-6 * logic + math.fsum(b.leakage_w for b in self.buffers.values())

    def _words(self) -> int:
        """16-bit registers of a potential."""
        return -(-self.machine.potential_bytes // 2)

    def _moved(self, moved: BufferTraffic) -> float:
        price = self.buffers[moved.buffer]
        return moved.read_bytes * price.read_pj_per_byte + moved.write_bytes * price.write_pj_per_byte

    def _pe_units(self, add: float, compare: float, register: float) -> float:
        """All PEs: adder, comparator, registers of the potential and of the weight with the spike's time [A]."""
        return self.machine.array.pes * (add + compare + (self._words() + 1) * register)

    def _sorter_units(self, compare: float, register: float) -> float:
        """Comparators of both levels and a register for each head [A]."""
        array = self.machine.array
        heads = array.spine_buffers + array.merge_fifos
        return (heads - 2) * compare + heads * register
