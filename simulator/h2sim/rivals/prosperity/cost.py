"""What Prosperity's events cost; its finder (a TCAM and popcounts) has no sourced price and is in no energy or area."""

from __future__ import annotations

from h2sim.energy.table import EnergyTable
from h2sim.rivals.prices import Price, PriceBook, check_node, price_macros
from h2sim.rivals.prosperity.schema import Prosperity

NO_TCAM = "no source prices a TCAM; the published power holds it"


def price_book(machine: Prosperity, table: EnergyTable) -> PriceBook:
    """The prices of one machine by one table. Raises BaselineError where their nodes differ.

    A neuron's update is that of H2Learn's Soma [A]; sums and weights are priced by their buffers' bytes.
    """
    check_node(machine.name, machine.node_nm, table)
    add, soma, a = machine.units.add, table.actions.soma_element, machine.array
    return PriceBook(
        prices={
            ("lanes", "lane_add"): Price(add.energy_pj, add.source),
            ("lif", "lif"): Price(soma.energy_pj, soma.source),
        },
        buffers=price_macros(machine.name, machine.buffers, table),
        buffer_source=table.sram.source,
        logic_area_um2={"lanes": a.lanes * add.area_um2, "lif": a.lif_units * soma.area_um2},
        logic_leakage_w=1e-6 * (a.lanes * add.leakage_uw + a.lif_units * soma.leakage_uw),
        beside={
            ("lanes", "weight_row"): "its bytes are the weight buffer's",
            ("lanes", "spike"): "what bit sparsity would add",
            ("lanes", "prefix_sum"): "its bytes are the output buffer's",
            ("finder", "tcam_search"): "its cells are told",
        },
        unpriced={("finder", "tcam_cell"): NO_TCAM, ("finder", "popcount"): NO_TCAM},
    )
