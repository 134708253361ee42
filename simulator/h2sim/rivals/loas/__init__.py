"""LoAS (MICRO 2024): spikes of several timesteps in a word, joined with pruned weights."""

from collections.abc import Sequence

from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Counted, Work
from h2sim.rivals.loas.jobs import layer_work
from h2sim.rivals.loas.schema import Loas
from h2sim.rivals.prices import PriceBook, price_book, price_of
from h2sim.rivals.spiking import Spiking
from h2sim.trace import Layer, Trace

TOLD = ("input_neuron", "silent_neuron", "packed_word", "live_word", "weight", "kept_weight")


class LoasKind(Spiking[Loas]):
    """The machine as h2sim runs it."""

    what = "LoAS (MICRO 2024), forward pass: packed timesteps joined with pruned weights; prices of the energy table"
    schema = Loas
    basis = "all cycles assumed"

    def counted(self, machine: Loas, trace: Trace, layer: Layer) -> Counted:
        return layer_work(machine, trace, layer)

    def prices(self, machine: Loas, table: EnergyTable) -> PriceBook:
        """An addition is an add, a read and a write of an accumulator; a neuron's update that of H2Learn's Soma [A]."""
        add, register, soma = machine.units.add, table.actions.register_access, table.actions.soma_element
        a = machine.array
        return price_book(
            machine, machine.buffers, table,
            prices={("tppes", "add"): price_of((add, 1), (register, 2)), ("lif", "lif"): price_of((soma, 1))},
            units={
                "tppes": (a.tppes * a.timesteps, ((add, 1), (register, 1))), "lif": (a.lif_units, ((soma, 1),)),
            },
            beside={
                ("tppes", "match"): "its bytes are the weight buffer's",
                **{("map", name): "what sparsities are made of" for name in TOLD},
            },
            unpriced={("join", "chunk"): "no source prices the prefix sums of the inner join"},
        )  # fmt: skip

    def lanes(self, machine: Loas) -> int:
        return machine.array.tppes * machine.array.timesteps

    def notes(self, machine: Loas) -> tuple[str, ...]:
        a = machine.array
        return (
            f"passes of {a.timesteps} timesteps; {a.tppes} output channels of a row at a time, each waits for the last",
            f"a chunk of {a.chunk} inputs takes a cycle for each weight that meets a spike, and one at least",
            "no cycle model, area or power is public; sizes and clock are recalled from the paper, whose node is 32 nm",
        )

    def remarks(self, machine: Loas, works: Sequence[Work]) -> tuple[str, ...]:
        """Sparsities over all layers, and which layers are not pruned."""
        weighted = [work for work in works if work.count("weight")]
        if not weighted:
            return ()
        neurons, silent, words, live, weights, kept = (sum(work.count(name) for work in weighted) for name in TOLD)
        whole = [work.job.layer for work in weighted if work.count("weight") == work.count("kept_weight")]
        said: tuple[str, ...] = (
            f"silent neurons {silent:,} of {neurons:,} ({silent / neurons:.3%}); packed words with a spike {live:,} of "
            f"{words:,} ({live / words:.3%}); weights kept {kept:,} of {weights:,} ({kept / weights:.3%})",
        )
        if whole:
            said += (
                f"all weights of {', '.join(whole)} are present (the trace holds none, or none is zero): the machine, "
                "made for pruned weights, is not used as designed",
            )
        return said


RIVAL = LoasKind()
