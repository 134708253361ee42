"""SATA (Yin et al., IEEE TCAD 2022): training of spiking networks; sparsity gates energy."""

from h2sim.activity import Phase
from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Clocked, Work
from h2sim.rivals.maps import refuses_currents
from h2sim.rivals.prices import PriceBook
from h2sim.rivals.sata.cost import price_book
from h2sim.rivals.sata.jobs import layer_work
from h2sim.rivals.sata.schema import Sata
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph


class SataKind(Clocked[Sata]):
    """The machine as h2sim runs it."""

    what = "SATA (TCAD 2022), training: 128 PEs, output stationary; prices of the energy table"
    schema = Sata
    phases: tuple[Phase, ...] = ("forward", "backward", "weight_update")
    basis = "counts exact, cycles assumed"

    def refuses(self, machine: Sata, graph: Graph, layer: Layer) -> str | None:
        return refuses_currents(graph, layer)

    def work(self, machine: Sata, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work | None:
        return layer_work(machine, trace, graph, layer, phase)

    def prices(self, machine: Sata, table: EnergyTable) -> PriceBook:
        return price_book(machine, table)

    def lanes(self, machine: Sata) -> int:
        return machine.pes

    def weight_bits(self, machine: Sata) -> int:
        return 8 * machine.value_bytes

    def notes(self, machine: Sata) -> tuple[str, ...]:
        return (
            "no public file says how many cycles training takes: all folds run dense, at every timestep",
            "total area and power are not published; node 28 nm is derived from the areas of its units",
            "priced: spikes (mac_fwd, mac_wup), and gradient and window together (mac_bwd_dual); mac_bwd stands beside",
            "samples one after another; a pool's sums are not counted, nor is the decay's shift priced",
            f"memory of {machine.memory.bandwidth_bytes_per_s / 1e9:g} GB/s: not published, as H2Learn's",
        )


RIVAL = SataKind()
