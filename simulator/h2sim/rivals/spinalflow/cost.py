"""What SpinalFlow's events cost and its units take: the energy table's prices where it has them, else its file's."""

from __future__ import annotations

from dataclasses import astuple, fields

from h2sim.energy.table import EnergyTable
from h2sim.rivals.prices import Count, Price, PriceBook, check_node, price_macros, sources
from h2sim.rivals.spinalflow.engine import SpineEvents
from h2sim.rivals.spinalflow.schema import SpinalFlow

PART_OF = {
    "sorted_spikes": "sorter", "comparisons": "sorter", "filter_rows": "pes", "updates": "pes", "output_spikes": "pes",
    "potentials_moved": "pes",
}  # fmt: skip


def counts(events: SpineEvents) -> tuple[Count, ...]:
    """The events of a layer, each with the component that it happens in."""
    names = (f.name for f in fields(SpineEvents))
    return tuple(Count(PART_OF[name], name, n) for name, n in zip(names, astuple(events), strict=True))


def price_book(machine: SpinalFlow, table: EnergyTable) -> PriceBook:
    """The prices of one machine by one table. Raises BaselineError where their nodes differ, EnergyTableError for a
    buffer that no macro holds.

    A potential's update is an add, a compare, a read and a write of its register; a row's weights are latched, two
    to a 16-bit register; a spike that leaves the sorter passes one register per level [A].
    """
    check_node(machine.name, machine.node_nm, table)
    units, register, words = machine.units, table.actions.register_access, -(-machine.potential_bytes // 2)
    add, compare, time_compare = units.potential_add, units.threshold_compare, units.time_compare
    update = add.energy_pj + compare.energy_pj + 2 * words * register.energy_pj
    latch = machine.row_bytes / 2 * register.energy_pj
    prices = {
        ("pes", "updates"): Price(update, sources(add.source, compare.source, register.source)),
        ("pes", "filter_rows"): Price(latch, register.source),
        ("pes", "potentials_moved"): Price(words * register.energy_pj, register.source),
        ("sorter", "comparisons"): Price(time_compare.energy_pj, time_compare.source),
        ("sorter", "sorted_spikes"): Price(2 * register.energy_pj, register.source),
    }

    def pes(adder: float, comparator: float, of_register: float) -> float:
        """All PEs: adder, comparator, registers of the potential and of the weight with the spike's time [A]."""
        return machine.array.pes * (adder + comparator + (words + 1) * of_register)

    def sorter(comparator: float, of_register: float) -> float:
        """Comparators of both levels and a register for each head [A]."""
        heads = machine.array.spine_buffers + machine.array.merge_fifos
        return (heads - 2) * comparator + heads * of_register

    area = {
        "pes": pes(add.area_um2, compare.area_um2, register.area_um2),
        "sorter": sorter(time_compare.area_um2, register.area_um2),
    }
    leakage_uw = pes(add.leakage_uw, compare.leakage_uw, register.leakage_uw)
    leakage_uw += sorter(time_compare.leakage_uw, register.leakage_uw)
    return PriceBook(
        prices=prices,
        buffers=price_macros(machine.name, machine.buffers, table),
        buffer_source=table.sram.source,
        logic_area_um2=area,
        logic_leakage_w=1e-6 * leakage_uw,
        beside={("pes", "output_spikes"): "their bytes are the output buffer's"},
        unpriced={},
    )
