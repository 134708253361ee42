"""The parts of all units: pipeline registers, adder trees, loop counters, buffer ports, ping-pong halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, ResetSignal, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

COUNT_BITS = 16  # every loop counter and configuration register


def delay(m: Module, value: Value, cycles: int) -> Value:
    """`value` through `cycles` registers."""
    for _ in range(cycles):
        register = Signal(value.shape())
        m.d.sync += register.eq(value)
        value = register
    return value


def add(m: Module, a: Value, b: Value, latency: int, bits: int) -> Value:
    """The sum of a and b, `latency` cycles later."""
    total = Signal(signed(bits))
    m.d.comb += total.eq(a + b)
    return delay(m, total, latency)


def tree_levels(inputs: int) -> int:
    """Levels of a pairwise adder tree."""
    return (inputs - 1).bit_length()


def adder_tree(m: Module, values: Sequence[Value], latency: int, bits: int) -> Value:
    """The sum of all values, tree_levels(len(values)) * latency cycles later. An odd value waits in registers."""
    level = list(values)
    while len(level) > 1:
        pairs = [add(m, a, b, latency, bits) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + [delay(m, odd, latency) for odd in level[len(level) // 2 * 2 :]]
    return level[0]


def lanes_of(vector: Value, width: int, is_signed: bool = False) -> list[Value]:
    """A flat vector cut into words of `width` bits, word 0 lowest."""
    words = [vector[i : i + width] for i in range(0, len(vector), width)]
    return [word.as_signed() for word in words] if is_signed else words


def packed(counters: list[Value]) -> Value:
    """Counters side by side in one vector, COUNT_BITS each."""
    return Cat(*[(counter | Const(0, COUNT_BITS))[:COUNT_BITS] for counter in counters])


class LoopNest(Elaboratable):
    """Counters of nested loops, outermost first. `advance` makes one step of the innermost.

    limits: signals of how many steps each loop has, at least 1; they may depend on outer indexes. `last[name]`: that
    loop and all loops inside it are at their last value. `first[name]`: all of them are at 0. After the last step of
    all loops every index is 0 again.
    """

    def __init__(self, limits: dict[str, Value]) -> None:
        self.limits = limits
        self.advance = Signal()
        self.index = {name: Signal(COUNT_BITS, name=f"{name}_index") for name in limits}
        self.last = {name: Signal(name=f"{name}_last") for name in limits}
        self.first = {name: Signal(name=f"{name}_first") for name in limits}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inner_last: Value | int = 1
        inner_first: Value | int = 1
        carry: Value = self.advance
        for name in reversed(self.limits):
            index, at_end = self.index[name], Signal(name=f"{name}_at_end")
            m.d.comb += [
                at_end.eq(index + 1 >= self.limits[name]),
                self.last[name].eq(at_end & inner_last),
                self.first[name].eq((index == 0) & inner_first),
            ]
            with m.If(carry):
                m.d.sync += index.eq(Mux(at_end, 0, index + 1))
            inner_last, inner_first = self.last[name], self.first[name]
            carry = carry & at_end
        return m


class PingPong(Elaboratable):
    """Counts the filled halves of the buffers at an engine's ports: memory fills them, the engine releases them."""

    def __init__(self) -> None:
        self.filled = Signal()
        self.released = Signal()
        self.level = Signal(2)  # halves that hold an iteration's data, the one in use with them

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.level.eq(self.level + self.filled - self.released)
        return m


@dataclass(frozen=True, kw_only=True)
class ReadPort:
    """A synchronous buffer port: address in one cycle, data in the next.

    shared: counters of the address that all lanes share. own: address fields that every lane has for itself, as
    (name, bits). sharers: how many neighbouring lanes read the same bank. Signals: NAME_shared, NAME_own, NAME_data.
    """

    name: str
    lanes: int
    width: int
    shared: tuple[str, ...]
    own: tuple[tuple[str, int], ...] = ()
    sharers: int = 1

    @property
    def own_bits(self) -> int:
        """Bits of one lane's own address."""
        return sum(bits for _, bits in self.own)

    def members(self) -> dict[str, object]:
        """The port's signals, as an interface has them."""
        found = {
            f"{self.name}_shared": Out(COUNT_BITS * len(self.shared)),
            f"{self.name}_data": In(self.lanes * self.width),
        }
        return found | ({f"{self.name}_own": Out(self.lanes * self.own_bits)} if self.own else {})


@dataclass(frozen=True)
class WritePort:
    """The port to which an engine writes: NAME_valid, NAME_shared (counters) and NAME_data (a word per lane)."""

    name: str
    lanes: int
    width: int
    shared: tuple[str, ...]

    def members(self) -> dict[str, object]:
        """The port's signals, as an interface has them."""
        return {
            f"{self.name}_valid": Out(1),
            f"{self.name}_shared": Out(COUNT_BITS * len(self.shared)),
            f"{self.name}_data": Out(self.lanes * self.width),
        }


class Unit(Component):
    """A unit with a Verilog module of its own; `module` is that module's name."""

    def __init__(self, module: str, members: dict[str, object]) -> None:
        self.module = module
        super().__init__(members)


class Placement:
    """How units come into their parent: as submodules, to simulate, or as instances of modules emitted once."""

    def __init__(self, as_instances: bool) -> None:
        self.as_instances = as_instances
        self.modules: dict[str, Unit] = {}
        self.instances: dict[str, int] = {}
        self.within: dict[str, Placement] = {}

    def inner(self, module: str) -> Placement:
        """The placement of the units within all units of one module."""
        return self.within.setdefault(module, Placement(self.as_instances))

    def place(self, m: Module, label: str, unit: Unit) -> Unit:
        """Places `unit` in `m` and returns it; its attributes are the signals to connect."""
        if not self.as_instances:
            m.submodules[label] = unit
            return unit
        self.modules.setdefault(unit.module, unit)
        self.instances[unit.module] = self.instances.get(unit.module, 0) + 1
        unit._MustUse__silence = True  # elaborated once per module, not once per instance
        flows = unit.signature.members.items()
        ports = {("i_" if member.flow == In else "o_") + name: getattr(unit, name) for name, member in flows}
        m.submodules[label] = Instance(unit.module, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
        return unit
