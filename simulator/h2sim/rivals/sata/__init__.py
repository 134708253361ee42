"""SATA (Yin et al., IEEE TCAD 2022): training of spiking networks; sparsity gates energy."""

from h2sim.activity import Phase
from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Counted
from h2sim.rivals.prices import Count, PriceBook, price_book, price_of
from h2sim.rivals.sata.jobs import layer_work, neuron_updates
from h2sim.rivals.sata.schema import Sata
from h2sim.rivals.training import Training
from h2sim.trace import Layer, Trace


class SataKind(Training[Sata]):
    """The machine as h2sim runs it."""

    what = "SATA (TCAD 2022), training: 128 PEs, output stationary; prices of the energy table"
    schema = Sata
    basis = "counts exact, cycles assumed"

    def counted(self, machine: Sata, trace: Trace, layer: Layer, phase: Phase) -> Counted:
        return layer_work(machine, trace, layer, phase)

    def updates(self, forward: bool, neurons: int) -> tuple[Count, ...]:
        return neuron_updates("lif" if forward else "pgu", neurons)

    def neuron_lanes(self, machine: Sata, forward: bool) -> tuple[int, int]:
        return machine.n_units, machine.array.lif_cycles if forward else machine.array.pgu_cycles

    def prices(self, machine: Sata, table: EnergyTable) -> PriceBook:
        """The recipes of its public code. An accumulation is an add, a read and a write of its register; FP16
        multipliers stand for 16-bit ones [A]."""
        add, compare, actions = machine.units.add, machine.units.compare, table.actions
        multiply, register = actions.fp16_multiply, actions.register_access
        mac = price_of((add, 1), (register, 2))
        registers = machine.array.registers + -(-machine.array.scratchpad_bytes // 2)
        parts = ((add, 1), (compare, 1), (multiply, machine.array.multipliers), (register, registers))
        return price_book(
            machine, machine.buffers, table,
            prices={
                ("pes", "lif"): price_of((add, 1), (compare, 1), (register, 3)),
                ("pes", "mac_fwd"): mac,
                ("pes", "mac_wup"): mac,
                ("pes", "mac_bwd_dual"): price_of((add, 1), (register, 2), (multiply, 1)),
                ("pes", "pgu"): price_of((multiply, 1), (add, 2)),
                ("pes", "encode_multiply"): price_of((multiply, 1)),
                ("pes", "scratchpad_word"): price_of((register, 1)),
            },
            units={"pes": (machine.n_units, parts)},
            beside={
                ("pes", "mac_bwd"): "gradients alone; mac_bwd_dual is what is priced",
                ("pes", "mac_wup_both"): "spike and gradient; mac_wup is what is priced",
            },
            unpriced={("pes", "gate"): "AND gates, multiplexers and shifters of the recipes"},
        )  # fmt: skip

    def lanes(self, machine: Sata) -> int:
        return machine.n_units

    def weight_bits(self, machine: Sata) -> int:
        return 8 * machine.value_bytes

    def notes(self, machine: Sata) -> tuple[str, ...]:
        return (
            "no public file says how many cycles training takes: all folds run dense, at every timestep",
            "buffers leak through all of these cycles, 97 mW by table 28nm; its public CACTI result has 50 mW for u "
            "alone (32 nm, 360 K), here 40, and its public energies are of events alone",
            "with 28nm-lstp leakage is 25 % of mnist-digits' energy instead of 92 %; 17 mW are w's banks of 9 KB in "
            "macros of 16 KB, the next that the table has",
            "total area and power are not published; node 28 nm is derived from the areas of its units",
            "priced: spikes (mac_fwd, mac_wup), and gradient and window together (mac_bwd_dual); mac_bwd stands beside",
            "samples one after another; a pool's sums are not counted, nor is the decay's shift priced",
            f"memory of {machine.memory.bandwidth_bytes_per_s / 1e9:g} GB/s: not published, as H2Learn's",
        )


RIVAL = SataKind()
