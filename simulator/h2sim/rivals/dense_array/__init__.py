"""A dense systolic array, output stationary: the baseline that runs every phase and skips nothing."""

from h2sim.activity import Phase
from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Clocked, Work
from h2sim.rivals.dense_array.cost import price_book
from h2sim.rivals.dense_array.jobs import layer_work
from h2sim.rivals.dense_array.schema import VALUE_BYTES, DenseArray
from h2sim.rivals.maps import refuses_currents
from h2sim.rivals.prices import PriceBook
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph


class DenseArrayKind(Clocked[DenseArray]):
    """The machine as h2sim runs it."""

    what = "dense systolic array, training: output stationary, no sparsity; prices of the energy table"
    schema = DenseArray
    phases: tuple[Phase, ...] = ("forward", "backward", "weight_update")
    basis = "a machine of no paper, all of it assumed"

    def refuses(self, machine: DenseArray, graph: Graph, layer: Layer) -> str | None:
        return refuses_currents(graph, layer)

    def work(self, machine: DenseArray, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work | None:
        return layer_work(machine, trace, graph, layer, phase)

    def prices(self, machine: DenseArray, table: EnergyTable) -> PriceBook:
        return price_book(machine, table)

    def lanes(self, machine: DenseArray) -> int:
        return machine.units

    def weight_bits(self, machine: DenseArray) -> int:
        return 8 * VALUE_BYTES

    def notes(self, machine: DenseArray) -> tuple[str, ...]:
        return (
            f"{machine.units:,} FP16 multiply-accumulate units at {machine.clock_hz / 1e6:g} MHz: all products of all "
            "timesteps, spikes or not",
            "a fold's skew shows once a layer" if machine.array.overlap_skew else "every fold pays its skew",
            "gradients of a layer stay on chip if half of their buffer holds them; a pool's sums are not counted",
            f"one memory of {machine.memory.bandwidth_bytes_per_s / 1e9:g} GB/s; H2Learn has three",
        )


RIVAL = DenseArrayKind()
