"""PTB (HPCA 2022), parallel time batching: a systolic array over time windows and output positions."""

from collections.abc import Sequence

from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Counted, Work
from h2sim.rivals.prices import PriceBook, price_book, price_of
from h2sim.rivals.ptb.jobs import VARIANTS, layer_work, variant
from h2sim.rivals.ptb.schema import Ptb
from h2sim.rivals.spiking import Spiking
from h2sim.trace import Layer, Trace


class PtbKind(Spiking[Ptb]):
    """The machine as h2sim runs it."""

    what = "PTB (HPCA 2022), forward pass: time windows in batches on 16 x 8 PEs; prices of the energy table"
    schema = Ptb

    def counted(self, machine: Ptb, trace: Trace, layer: Layer) -> Counted:
        return layer_work(machine, trace, layer)

    def prices(self, machine: Ptb, table: EnergyTable) -> PriceBook:
        """An accumulation is an add, a read and a write of a PE's register; a neuron's update that of H2Learn's Soma
        [A]."""
        add, register, soma = machine.units.add, table.actions.register_access, table.actions.soma_element
        a = machine.array
        return price_book(
            machine, machine.buffers, table,
            prices={
                ("array", "accumulate"): price_of((add, 1), (register, 2)), ("lif", "lif"): price_of((soma, 1)),
            },
            units={
                "array": (a.rows * a.columns, ((add, 1), (register, 1))), "lif": (a.lif_units, ((soma, 1),)),
            },
            beside={
                **{("array", variant(*v)): "cycles of another placement or padding" for v in VARIANTS},
                ("array", "slot"): "each takes cycles",
                ("array", "window_bit"): "what could keep a PE busy",
                ("array", "idle_pe_slot"): "a PE that waits leaks",
                ("array", "weight_read"): "its bytes are the weight buffer's",
            },
            unpriced={},
        )  # fmt: skip

    def lanes(self, machine: Ptb) -> int:
        return machine.array.rows * machine.array.columns

    def notes(self, machine: Ptb) -> tuple[str, ...]:
        a = machine.array
        return (
            f"pairs of (window of {a.window} timesteps, position) {a.placement} in {a.columns} columns; T padded to "
            + ("whole windows" if a.padding == "window" else "a power of two, as the public model"),
            f"cold start of {2 * a.rows} cycles for each sample and position, as the public model, counted as compute",
            "packing of lines (StSAP) takes no time and no energy; sizes of buffers and memory are assumed",
            self.told(machine),
        )

    def remarks(self, machine: Ptb, works: Sequence[Work]) -> tuple[str, ...]:
        """The range over placement and padding."""
        totals = {v: sum(work.count(variant(*v)) for work in works) for v in VARIANTS}
        if not any(totals.values()):
            return ()
        each = "; ".join(f"{placement}, {padding.replace('_', ' ')}: {totals[placement, padding]:,}"
                         for placement, padding in VARIANTS)  # fmt: skip
        low, high = min(totals.values()), max(totals.values())
        mine = totals[machine.array.placement, machine.array.padding]
        return (
            f"compute cycles of layers with weights, by placement and padding of T: {low:,} to {high:,}, here {mine:,} "
            f"({each})",
        )


RIVAL = PtbKind()
