"""What a rival counts, and what each event costs: a machine's price book, and the charges that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from h2sim.activity import BufferTraffic
from h2sim.energy.bill import Charge
from h2sim.energy.sram import BufferPrice, price_buffer
from h2sim.energy.table import ActionPrice, EnergyTable
from h2sim.errors import BaselineError, at
from h2sim.rivals.machine import ClockedMachine

LEAKAGE = "leakage"
LEAKAGE_SOURCE = "leakage of all units and macros, by the entries of the table and of the machine's file"


class Count(NamedTuple):
    """How often something happened in one component of a machine."""

    component: str
    action: str
    number: int


class Price(NamedTuple):
    """What one such event costs, and where that is from."""

    unit_pj: float
    source: str


class Unpriced(NamedTuple):
    """Events that no source prices: they are in no energy. why: what is known of them."""

    component: str
    action: str
    number: int
    why: str


Event = tuple[str, str]  # (component, action)
Parts = tuple[tuple[ActionPrice, int], ...]  # what a unit is made of, or an event uses: of each how many


def price_of(*parts: tuple[ActionPrice, int]) -> Price:
    """An event's price where it is so many of others, with the sources of all."""
    return Price(sum(n * part.energy_pj for part, n in parts), sources(*(part.source for part, _ in parts)))


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """The prices of one machine at one energy table.

    A count has a price, or is told in `beside` (counted in another event, or another reading of one), or has no sourced
    price and is told in `unpriced`; both say why. buffers: by the name that traffic has; component `<name>_buffer`.
    logic_area_um2 and logic_leakage_w: units by component, without buffers.
    """

    prices: Mapping[Event, Price]
    buffers: Mapping[str, BufferPrice]
    buffer_source: str
    logic_area_um2: Mapping[str, float]
    logic_leakage_w: float
    beside: Mapping[Event, str]
    unpriced: Mapping[Event, str]

    @property
    def area_um2(self) -> dict[str, float]:
        """Units and macros by component; no wires, control or network [A]."""
        return {**self.logic_area_um2, **{buffer_part(name): b.area_um2 for name, b in self.buffers.items()}}

    @property
    def leakage_w(self) -> float:
        """Leakage power of all units and macros."""
        return self.logic_leakage_w + math.fsum(b.leakage_w for b in self.buffers.values())

    @property
    def components(self) -> tuple[str, ...]:
        """Names under which energy is added up, in order."""
        priced = (component for component, _ in self.prices)
        return tuple(dict.fromkeys([*priced, *map(buffer_part, self.buffers), LEAKAGE]))

    def charges(self, row: int, engine: str, counts: Iterable[Count], buffers: Iterable[BufferTraffic]) -> list[Charge]:
        """The charges of one row, without leakage. Raises BaselineError for what the book does not know."""
        found = [self._event(row, engine, count) for count in counts if not self._told(count)]
        return found + [charge for moved in buffers for charge in self._moved(row, engine, moved)]

    def leaked(self, row: int, engine: str, cycles: int, clock_hz: int) -> Charge:
        """The leakage of the whole machine over so many cycles."""
        unit_pj = self.leakage_w * 1e12 / clock_hz
        return _charge(row, engine, LEAKAGE, "cycle", cycles, Price(unit_pj, LEAKAGE_SOURCE))

    def without_price(self, counts: Iterable[Count]) -> tuple[Unpriced, ...]:
        """The events of all rows that have no sourced price, added up."""
        sums: dict[Event, int] = {}
        for component, action, number in counts:
            if (component, action) in self.unpriced:
                sums[component, action] = sums.get((component, action), 0) + number
        return tuple(Unpriced(*event, number, self.unpriced[event]) for event, number in sums.items())

    def _told(self, count: Count) -> bool:
        return (count.component, count.action) in {*self.beside, *self.unpriced}

    def _event(self, row: int, engine: str, count: Count) -> Charge:
        price = self.prices.get((count.component, count.action))
        if price is None:
            where = f"{count.component}: {count.action}"
            raise BaselineError(at(where, "price", "one in the machine's price book, or why it has none", "neither"))
        return _charge(row, engine, *count, price)

    def _moved(self, row: int, engine: str, moved: BufferTraffic) -> list[Charge]:
        if moved.buffer not in self.buffers:
            raise BaselineError(at("traffic", "buffer", f"one of {', '.join(self.buffers)}", repr(moved.buffer)))
        cost, part, source = self.buffers[moved.buffer], buffer_part(moved.buffer), self.buffer_source
        return [
            _charge(row, engine, part, "read B", moved.read_bytes, Price(cost.read_pj_per_byte, source)),
            _charge(row, engine, part, "write B", moved.write_bytes, Price(cost.write_pj_per_byte, source)),
        ]


def buffer_part(name: str) -> str:
    """The component that a buffer is."""
    return f"{name}_buffer"


def price_book(
    machine: ClockedMachine, buffers: Any, table: EnergyTable, prices: Mapping[Event, Price],
    units: Mapping[str, tuple[int, Parts]], *, beside: Mapping[Event, str], unpriced: Mapping[Event, str],
) -> PriceBook:  # fmt: skip
    """The book of a machine whose logic is so many units of each component, made of parts with prices.

    buffers: its file's. Raises BaselineError for a table of another node.
    """
    check_node(machine.name, machine.node_nm, table)
    leakage_uw = sum(number * sum(n * part.leakage_uw for part, n in parts) for number, parts in units.values())
    return PriceBook(
        prices=prices,
        buffers=price_macros(machine.name, buffers, table),
        buffer_source=table.sram.source,
        logic_area_um2={
            component: number * sum(n * part.area_um2 for part, n in parts)
            for component, (number, parts) in units.items()
        },
        logic_leakage_w=1e-6 * leakage_uw,
        beside=beside,
        unpriced=unpriced,
    )


def price_macros(name: str, buffers: Any, table: EnergyTable) -> dict[str, BufferPrice]:
    """The prices of all buffers of a machine's file. Raises EnergyTableError for one that no macro holds."""
    fields = type(buffers).model_fields
    return {field: price_buffer(f"{name}.{field}", getattr(buffers, field), table) for field in fields}


def check_node(name: str, node_nm: float, table: EnergyTable) -> None:
    """Raises BaselineError where a machine with prices of its own is of another node than the table."""
    if table.node_nm != node_nm:
        expected = f"a table of {node_nm:g} nm, as {name}'s own prices"
        raise BaselineError(at(f"energy table {table.name}", "node_nm", expected, f"{table.node_nm:g}"))


def sources(*each: str) -> str:
    """Several sources in one, each once."""
    return "; ".join(dict.fromkeys(each))


def by_component(charges: Sequence[Charge], components: Iterable[str]) -> dict[str, float]:
    """Energy in pJ of each component."""
    return {name: math.fsum(c.energy_pj for c in charges if c.component == name) for name in components}


def _charge(row: int, engine: str, component: str, action: str, count: int, price: Price) -> Charge:
    return Charge(
        row=row,
        engine=engine,
        component=component,
        action=action,
        group=component,
        count=count,
        unit_pj=price.unit_pj,
        source=price.source,
    )
