"""Prosperity (HPCA 2025): product sparsity, where a row of spikes takes over the sum of a subset; or bit sparsity."""

from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Counted
from h2sim.rivals.prices import PriceBook, price_book, price_of
from h2sim.rivals.prosperity.jobs import Tiles
from h2sim.rivals.prosperity.schema import Prosperity
from h2sim.rivals.spiking import Spiking
from h2sim.trace import Layer, Trace

NO_TCAM = "no source prices a TCAM; the published power holds it"


class ProsperityKind(Spiking[Prosperity]):
    """The machine as h2sim runs it."""

    what = "Prosperity (HPCA 2025), forward pass: product or bit sparsity on 128 lanes; prices of the energy table"
    schema = Prosperity

    def counted(self, machine: Prosperity, trace: Trace, layer: Layer) -> Counted:
        return Tiles.of(machine, trace, layer).counted(layer.spiking)

    def prices(self, machine: Prosperity, table: EnergyTable) -> PriceBook:
        """A neuron's update is that of H2Learn's Soma [A]; sums and weights are priced by their buffers' bytes. The
        finder (a TCAM and popcounts) has no sourced price and is in no energy or area."""
        add, soma, a = machine.units.add, table.actions.soma_element, machine.array
        return price_book(
            machine, machine.buffers, table,
            prices={("lanes", "lane_add"): price_of((add, 1)), ("lif", "lif"): price_of((soma, 1))},
            units={"lanes": (a.lanes, ((add, 1),)), "lif": (a.lif_units, ((soma, 1),))},
            beside={
                ("lanes", "weight_row"): "its bytes are the weight buffer's",
                ("lanes", "spike"): "what bit sparsity would add",
                ("lanes", "prefix_sum"): "its bytes are the output buffer's",
                ("finder", "tcam_search"): "its cells are told",
            },
            unpriced={("finder", "tcam_cell"): NO_TCAM, ("finder", "popcount"): NO_TCAM},
        )  # fmt: skip

    def lanes(self, machine: Prosperity) -> int:
        return machine.array.lanes

    def notes(self, machine: Prosperity) -> tuple[str, ...]:
        if machine.array.sparsity == "bit":
            how = "every spike of a tile is added; membranes stay on chip"
        elif machine.array.overlap == "tile":
            how = "finding hides behind the adds of the tile before; the authors' own form (overlap: layer) hides more"
        else:
            how = "all finding of a layer hides behind all its adds, the authors' own form, which flatters it"
        return (
            how,
            "samples one after another; a tile's neurons overlap the next tile's adds, the last tile's show as fill",
            self.told(machine),
        )


RIVAL = ProsperityKind()
