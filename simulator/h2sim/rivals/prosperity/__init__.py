"""Prosperity (HPCA 2025): product sparsity, where a row of spikes takes over the sum of a subset; or bit sparsity."""

from collections.abc import Mapping

from h2sim.activity import Phase
from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Clocked, Work
from h2sim.rivals.prices import PriceBook
from h2sim.rivals.prosperity.cost import price_book
from h2sim.rivals.prosperity.jobs import layer_work, refuses
from h2sim.rivals.prosperity.schema import Prosperity
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph


class ProsperityKind(Clocked[Prosperity]):
    """The machine as h2sim runs it."""

    what = "Prosperity (HPCA 2025), forward pass: product or bit sparsity on 128 lanes; prices of the energy table"
    schema = Prosperity
    needs = "a layer of spikes"

    def refuses(self, machine: Prosperity, graph: Graph, layer: Layer) -> str | None:
        return refuses(graph, layer)

    def work(self, machine: Prosperity, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work:
        return layer_work(machine, trace, graph, layer)

    def prices(self, machine: Prosperity, table: EnergyTable) -> PriceBook:
        return price_book(machine, table)

    def lanes(self, machine: Prosperity) -> int:
        return machine.array.lanes

    def weight_bits(self, machine: Prosperity) -> int:
        return 8 * machine.weight_bytes

    def published(self, machine: Prosperity, seconds: float) -> Mapping[str, float]:
        power_w = machine.published.power_w
        return {"power_w": power_w, "energy_j": power_w * seconds}

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
            f"published: {machine.published.power_w * 1e3:g} mW ({machine.published.source}); no area is published",
        )


RIVAL = ProsperityKind()
