"""The step of a machine with a clock: every row with its cycles, every entry of the bill."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from h2sim.compare.measurement import Measurement, Part
from h2sim.energy.bill import BillLine, Charge, reconcile
from h2sim.memory.books import Books
from h2sim.rivals.machine import ClockedMachine
from h2sim.rivals.prices import by_component
from h2sim.rivals.result import RivalResult
from h2sim.rivals.rows import Row, Totals
from h2sim.trace import TraceMeta


@dataclass(frozen=True, kw_only=True, repr=False)
class ClockedResult(RivalResult):
    """A step of such a machine. makespan_cycles: until the last result is in memory.

    charges: every entry of the bill; components: names under which it is added up; area_um2: by component, built up
    from units and macros; books: every interval of the step.
    """

    machine: ClockedMachine
    meta: TraceMeta
    rows: tuple[Row, ...]
    charges: tuple[Charge, ...]
    components: tuple[str, ...]
    makespan_cycles: int
    area_um2: Mapping[str, float]
    leakage_w: float
    books: Books | None = field(default=None, compare=False, repr=False)

    @property
    def seconds(self) -> float:
        """Time of the step of all samples, layers left out aside."""
        return self.makespan_cycles / self.machine.clock_hz

    @property
    def energy_j(self) -> float:
        """On-chip energy, built up from events; off-chip memory stands apart in offchip_energy_j."""
        return 1e-12 * math.fsum(charge.energy_pj for charge in self.charges)

    @property
    def idle_leakage_pj(self) -> float:
        """Leakage after the last layer's row."""
        return math.fsum(charge.energy_pj for charge in self.charges if charge.row < 0)

    @property
    def offchip_energy_j(self) -> float:
        """Energy of the bytes that the external memory gave and took."""
        return 1e-12 * math.fsum(row.offchip_energy_pj for row in self.rows)

    @property
    def bandwidth_bytes_per_s(self) -> int:
        return self.machine.memory.bandwidth_bytes_per_s

    def to_rows(self) -> tuple[Row, ...]:
        return self.rows

    def bill(self) -> tuple[BillLine, ...]:
        return reconcile(self.charges, self.machine.engine_names)

    def totals(self) -> Totals:
        parts = by_component(self.charges, self.components)
        return Totals(
            seconds=self.seconds,
            energy_j=self.energy_j,
            offchip_energy_j=self.offchip_energy_j,
            area_um2=self.area_um2,
            energy_by_component_j={name: 1e-12 * pj for name, pj in parts.items()},
            cycles=self.makespan_cycles,
            clock_hz=self.machine.clock_hz,
        )

    def as_published(self) -> Measurement:
        """The simulated time at the published power, and the published area, as a Measurement."""
        power_w = self.published["power_w"]
        parts = tuple(
            Part(layer=r.layer, phase=r.phase, seconds=r.seconds, energy_j=power_w * r.seconds) for r in self.rows
        )
        area_mm2 = self.published.get("area_mm2")
        return replace(self.measurement(), energy_j=power_w * self.seconds, area_mm2=area_mm2, parts=parts)
