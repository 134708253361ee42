"""A dense systolic array, output stationary: the plain baseline that trains, at H2Learn's clock and prices."""

from h2sim.activity import Phase
from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Counted
from h2sim.rivals.dense_array.jobs import layer_work
from h2sim.rivals.dense_array.schema import VALUE_BYTES, DenseArray
from h2sim.rivals.prices import Count, PriceBook, price_book, price_of
from h2sim.rivals.training import Training
from h2sim.trace import Layer, Trace


class DenseArrayKind(Training[DenseArray]):
    """The machine as h2sim runs it."""

    what = "dense systolic array, training: output stationary, no sparsity; prices of the energy table"
    schema = DenseArray
    basis = "a machine of no paper, all of it assumed"

    def counted(self, machine: DenseArray, trace: Trace, layer: Layer, phase: Phase) -> Counted:
        return layer_work(machine, trace, layer, phase)

    def updates(self, forward: bool, neurons: int) -> tuple[Count, ...]:
        return (Count("soma", "soma_element", neurons) if forward else Count("grad", "grad_element", neurons),)

    def neuron_lanes(self, machine: DenseArray, forward: bool) -> tuple[int, int]:
        return machine.array.neuron_lanes, 1

    def prices(self, machine: DenseArray, table: EnergyTable) -> PriceBook:
        """As H2Learn's engines pay. A unit is an FP16 multiplier, an FP16 adder and a register for each of two
        operands, the sum and the weight [A]."""
        a, lanes, accesses = table.actions, machine.array.neuron_lanes, machine.array.register_accesses
        return price_book(
            machine, machine.buffers, table,
            prices={
                ("units", "multiply_accumulate"): price_of((a.fp16_multiply, 1), (a.fp16_add, 1)),
                ("units", "register_access"): price_of((a.register_access, 1)),
                ("soma", "soma_element"): price_of((a.soma_element, 1)),
                ("grad", "grad_element"): price_of((a.grad_element, 1)),
            },
            units={
                "units": (machine.n_units, ((a.fp16_multiply, 1), (a.fp16_add, 1), (a.register_access, accesses))),
                "soma": (lanes, ((a.soma_element, 1),)),
                "grad": (lanes, ((a.grad_element, 1),)),
            },
            beside={}, unpriced={},
        )  # fmt: skip

    def lanes(self, machine: DenseArray) -> int:
        return machine.n_units

    def weight_bits(self, machine: DenseArray) -> int:
        return 8 * VALUE_BYTES

    def notes(self, machine: DenseArray) -> tuple[str, ...]:
        return (
            f"{machine.n_units:,} FP16 multiply-accumulate units at {machine.clock_hz / 1e6:g} MHz: all products of "
            "all timesteps, spikes or not",
            "a fold's skew shows once a layer" if machine.array.overlap_skew else "every fold pays its skew",
            "gradients of a layer stay on chip if half of their buffer holds them; a pool's sums are not counted",
            f"one memory of {machine.memory.bandwidth_bytes_per_s / 1e9:g} GB/s; H2Learn has three",
        )


RIVAL = DenseArrayKind()
