"""What the dense array's events cost: the energy table's prices, as H2Learn's engines pay them."""

from __future__ import annotations

from h2sim.energy.table import EnergyTable
from h2sim.rivals.dense_array.schema import DenseArray
from h2sim.rivals.prices import Price, PriceBook, check_node, price_macros, sources


def price_book(machine: DenseArray, table: EnergyTable) -> PriceBook:
    """The prices of one machine by one table. Raises BaselineError where their nodes differ.

    A unit is an FP16 multiplier, an FP16 adder and a register for each of two operands, the sum and the weight [A].
    """
    check_node(machine.name, machine.node_nm, table)
    a = table.actions
    mac = Price(a.fp16_multiply.energy_pj + a.fp16_add.energy_pj, sources(a.fp16_multiply.source, a.fp16_add.source))
    each = ((a.fp16_multiply, 1), (a.fp16_add, 1), (a.register_access, machine.array.register_accesses))
    lanes = machine.array.neuron_lanes
    leakage_uw = machine.units * sum(n * unit.leakage_uw for unit, n in each)
    leakage_uw += lanes * (a.soma_element.leakage_uw + a.grad_element.leakage_uw)
    return PriceBook(
        prices={
            ("units", "multiply_accumulate"): mac,
            ("units", "register_access"): Price(a.register_access.energy_pj, a.register_access.source),
            ("soma", "soma_element"): Price(a.soma_element.energy_pj, a.soma_element.source),
            ("grad", "grad_element"): Price(a.grad_element.energy_pj, a.grad_element.source),
        },
        buffers=price_macros(machine.name, machine.buffers, table),
        buffer_source=table.sram.source,
        logic_area_um2={
            "units": machine.units * sum(n * unit.area_um2 for unit, n in each),
            "soma": lanes * a.soma_element.area_um2,
            "grad": lanes * a.grad_element.area_um2,
        },
        logic_leakage_w=1e-6 * leakage_uw,
        beside={},
        unpriced={},
    )
