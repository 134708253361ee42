"""Soma and Grad of one lane in fixed point (figure 3.3 c; eq. 2.1-2.5), and the sweep that feeds all lanes.

A neuron's recurrence takes one cycle; registers behind it make up the unit's depth.
"""

from __future__ import annotations

from amaranth import Array, Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from h2sim.rtl.parameters import Widths
from h2sim.rtl.primitives import COUNT_BITS, LoopNest, Unit, delay

DECAY_FRACTION = 7  # decay is a multiple of 2**-7
SCALE_FRACTION = 4  # of the surrogate's height
STATE_CONFIG = ("threshold", "window_low", "window_high")  # fixed point, state_bits


def neuron_config(widths: Widths) -> dict[str, object]:
    """The configuration registers of a neuron lane."""
    values = {name: In(signed(widths.state_bits)) for name in STATE_CONFIG}
    return values | {"decay": In(DECAY_FRACTION + 1), "surrogate_scale": In(8), "detach_reset": In(1)}


class NeuronLane(Unit):
    """One neuron a cycle: `read` comes in one cycle, `x` (for Grad also s, window and m) in the next, the result later.

    Soma's result is m, s and window; Grad's is dm. `initial` is high in the first timestep of the sweep.
    """

    def __init__(self, name: str, widths: Widths, words: int, soma_cycles: int, grad_cycles: int | None) -> None:
        self.widths, self.words = widths, words
        self.soma_cycles, self.grad_cycles = soma_cycles, grad_cycles
        self.address_bits = max(1, (words - 1).bit_length())
        members: dict[str, object] = {
            "read": In(1),
            "initial": In(1),
            "address": In(self.address_bits),
            "x": In(signed(widths.sum_bits)),
            "result": Out(widths.sum_bits + widths.state_bits + 2),
        }
        if grad_cycles is not None:
            members |= {"grad": In(1), "state": In(widths.state_bits + 2)}
        super().__init__(f"{name}_neuron", members | neuron_config(widths))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, fraction = self.widths.state_bits, self.widths.fraction_bits
        m.submodules.states = states = Memory(shape=signed(bits), depth=self.words, init=[])
        write = states.write_port()
        read = states.read_port(transparent_for=(write,))
        stepping, initial = delay(m, self.read, 1), delay(m, self.initial, 1)
        previous, decayed, x = (Signal(signed(bits), name=n) for n in ("previous", "decayed", "x_fixed"))
        m.d.comb += [
            read.addr.eq(self.address),
            write.addr.eq(delay(m, self.address, 1)),
            write.en.eq(stepping),
            previous.eq(Mux(initial, 0, read.data)),
            decayed.eq((previous * self.decay) >> DECAY_FRACTION),
            x.eq(self.x << fraction),
        ]
        kept, result = self._soma(m, decayed, x)
        outcome = delay(m, Cat(self.x, result), self.soma_cycles)
        if self.grad_cycles is not None:
            gradient = self._grad(m, decayed, x)
            kept = Mux(self.grad, gradient, kept)
            later = delay(m, Cat(self.x, gradient, self.state[:2]), self.grad_cycles)
            outcome = Mux(self.grad, later, outcome)
        m.d.comb += [write.data.eq(kept), self.result.eq(outcome)]
        return m

    def _soma(self, m: Module, decayed: Value, x: Value) -> tuple[Value, Value]:
        """What is kept of m for the next timestep; and m, s and window as one word."""
        membrane = Signal(signed(self.widths.state_bits), name="membrane")
        spike, window = Signal(name="spike"), Signal(name="inside")
        m.d.comb += [
            membrane.eq(decayed + x),
            spike.eq(membrane >= self.threshold),
            window.eq((membrane > self.window_low) & (membrane < self.window_high)),
        ]
        return Mux(spike, 0, membrane), Cat(membrane, spike, window)

    def _grad(self, m: Module, decayed: Value, spatial: Value) -> Value:
        bits = self.widths.state_bits
        spike, window, membrane = self.state[0], self.state[1], self.state[2:].as_signed()
        ds, gradient = Signal(signed(bits), name="ds"), Signal(signed(bits), name="gradient")
        reset_term = (decayed * membrane) >> self.widths.fraction_bits
        fire = (ds * self.surrogate_scale) >> SCALE_FRACTION
        m.d.comb += [
            ds.eq(spatial - Mux(self.detach_reset, 0, reset_term)),
            gradient.eq(Mux(spike, 0, decayed) + Mux(window, fire, 0)),
        ]
        return gradient


class Sweep(Elaboratable):
    """Takes the neurons of every sample whose sums are complete, in order: P positions per column and cycle.

    Samples become complete in the order of the loop nest, `completed` of them in a cycle. The positions of a tile
    (`height` x `width`; the last tiles are smaller) pass in raster order. `item` is high in a cycle with work, `valid`
    says on which lanes, and `nest` on which neurons.
    """

    def __init__(self, counts: dict[str, Value], tile: tuple[int, int], parallelism: int, words: int) -> None:
        self.height, self.width = Signal(COUNT_BITS), Signal(COUNT_BITS)
        self.positions = Signal(range(tile[0] * tile[1] + 1))
        self.valid = Signal(parallelism)
        self.most, self.parallelism = tile[0] * tile[1], parallelism
        self.nest = LoopNest(counts | {"item": Signal(COUNT_BITS)})
        self.completed = Signal(COUNT_BITS)
        self.pending = Signal(COUNT_BITS)
        self.item = Signal()
        self.sample_last = Signal()  # the sample's last item
        self.initial = Signal()  # the first timestep in sweep order
        self.address = Signal(range(max(2, words)))  # of the neurons' states

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.nest = nest = self.nest
        items = Array([-(-k // self.parallelism) for k in range(self.most + 1)])
        first = nest.index["item"] * self.parallelism
        m.d.comb += [
            self.positions.eq(self.height * self.width),
            nest.limits["item"].eq(items[self.positions]),
            self.valid.eq(Cat(*[self.positions > first + i for i in range(self.parallelism)])),
            self.item.eq(self.pending != 0),
            self.sample_last.eq(self.item & nest.last["item"]),
            self.initial.eq(nest.index["step"] == 0),
            nest.advance.eq(self.item),
        ]
        m.d.sync += self.pending.eq(self.pending + self.completed - self.sample_last)
        with m.If(self.item):
            m.d.sync += self.address.eq(Mux(nest.last["sample"], 0, self.address + 1))
        return m
