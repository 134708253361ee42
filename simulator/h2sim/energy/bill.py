"""The bill of a step, for every machine alike: each line is count x unit price, and says where the price comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One entry of the bill: `count` events of one kind in one component, for one row of a step, in pJ.

    energy_pj = count * unit_pj. row: index of the row, or -1 for leakage in cycles that no row covers. Leakage is
    counted in cycles and buffer traffic in bytes. group: under which the row's energy is added up. source: where the
    unit price comes from.
    """

    row: int
    engine: str
    component: str
    action: str
    group: str
    count: int
    unit_pj: float
    source: str = field(repr=False)

    @property
    def energy_pj(self) -> float:
        """count * unit_pj."""
        return self.count * self.unit_pj


@dataclass(frozen=True, kw_only=True)
class BillLine:
    """One line of the bill, summed over all rows: count * unit_pj = energy_pj."""

    engine: str
    component: str
    action: str
    count: int
    unit_pj: float
    energy_pj: float
    source: str = field(repr=False)


def reconcile(charges: Iterable[Charge], engines: Sequence[str]) -> tuple[BillLine, ...]:
    """The on-chip bill: a line per engine, component, event and unit price, engines in the order given."""
    counts: dict[tuple[str, str, str, float, str], int] = {}
    for c in charges:
        key = (c.engine, c.component, c.action, c.unit_pj, c.source)
        counts[key] = counts.get(key, 0) + c.count
    order = sorted(counts.items(), key=lambda line: (engines.index(line[0][0]), line[0][1:]))
    return tuple(
        BillLine(engine=e, component=part, action=a, count=n, unit_pj=unit, energy_pj=n * unit, source=source)
        for (e, part, a, unit, source), n in order
    )
