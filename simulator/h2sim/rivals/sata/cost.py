"""What SATA's events cost: the recipes of its public code, with the energy table's prices and those of its file."""

from __future__ import annotations

from h2sim.energy.table import EnergyTable
from h2sim.rivals.prices import Event, Price, PriceBook, check_node, price_macros, sources
from h2sim.rivals.sata.schema import Sata


def price_book(machine: Sata, table: EnergyTable) -> PriceBook:
    """The prices of one machine by one table. Raises BaselineError where their nodes differ.

    An accumulation is an add, a read and a write of its register; FP16 multipliers stand for 16-bit ones [A].
    """
    check_node(machine.name, machine.node_nm, table)
    add, compare, actions = machine.units.add, machine.units.compare, table.actions
    multiply, register = actions.fp16_multiply, actions.register_access
    accumulate = add.energy_pj + 2 * register.energy_pj
    own = sources(add.source, register.source)
    with_multiply = sources(own, multiply.source)
    mac = Price(accumulate, own)
    prices: dict[Event, Price] = {
        ("pes", "lif"): Price(add.energy_pj + compare.energy_pj + 3 * register.energy_pj, own),
        ("pes", "mac_fwd"): mac,
        ("pes", "mac_wup"): mac,
        ("pes", "mac_bwd_dual"): Price(multiply.energy_pj + accumulate, with_multiply),
        ("pes", "pgu"): Price(multiply.energy_pj + 2 * add.energy_pj, sources(multiply.source, add.source)),
        ("pes", "encode_multiply"): Price(multiply.energy_pj, multiply.source),
        ("pes", "scratchpad_word"): Price(register.energy_pj, register.source),
    }
    registers = machine.array.registers + -(-machine.array.scratchpad_bytes // 2)
    units = ((add, 1), (compare, 1), (multiply, machine.array.multipliers), (register, registers))
    return PriceBook(
        prices=prices,
        buffers=price_macros(machine.name, machine.buffers, table),
        buffer_source=table.sram.source,
        logic_area_um2={"pes": machine.pes * sum(n * unit.area_um2 for unit, n in units)},
        logic_leakage_w=1e-6 * machine.pes * sum(n * unit.leakage_uw for unit, n in units),
        beside={
            ("pes", "mac_bwd"): "gradients alone; mac_bwd_dual is what is priced",
            ("pes", "mac_wup_both"): "spike and gradient; mac_wup is what is priced",
        },
        unpriced={("pes", "gate"): "AND gates, multiplexers and shifters of the recipes"},
    )
