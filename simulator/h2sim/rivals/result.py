"""What every rival's result has in common, whatever the machine is: rows, bill, document, measurement."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from h2sim._version import __version__
from h2sim.activity import Phase
from h2sim.compare.measurement import Measurement, Part
from h2sim.energy.bill import BillLine
from h2sim.io.provenance import provenance
from h2sim.result import SCHEMA, SCHEMA_VERSION, Workload
from h2sim.rivals.prices import Unpriced

if TYPE_CHECKING:
    import pandas as pd

    from h2sim.document.values import Document, Table


from h2sim.rivals.machine import RivalMachine
from h2sim.rivals.rows import PriceSource, Row, Totals


@dataclass(frozen=True, kw_only=True, repr=False)
class RivalResult(ABC):
    """A rival's step on a trace, in the words of every result.

    name: the machine's in comparisons, with the reading of the trace that it depends on. basis: what its figures stand
    on, where they are not as good as others', in a few words. said: what a reader must know
    to judge the figures, a line each. left_out: layers that it cannot run, with the reason. unpriced: events that no
    source prices. published: figures that are reported of the machine, by name with unit. lanes: synapses that it works
    on in a cycle; None where that is not said of it.
    """

    machine: RivalMachine
    workload: Workload
    samples: int
    prices: PriceSource
    name: str
    said: tuple[str, ...]
    basis: str = ""
    phases: tuple[Phase, ...] = ("forward",)
    left_out: tuple[tuple[str, str], ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    lanes: int | None = None
    weight_bits: int | None = None
    ideal_memory: bool = False
    warnings: tuple[str, ...] = field(default=())

    @property
    def system(self) -> str:
        """The machine's name in comparisons."""
        return self.name

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What a reader must know to judge the figures, what was left out and what has no price too."""
        refused = (f"not supported, left out: {layer}: {why}" for layer, why in self.left_out)
        free = (f"without a sourced price, in no energy: {u.number:,} {u.component} {u.action}: {u.why}"
                for u in self.unpriced)  # fmt: skip
        basis = (f"basis: {self.basis}",) if self.basis else ()
        return (*basis, *self.said, *refused, *free)

    @property
    def bandwidth_bytes_per_s(self) -> int | None:
        """Of its external memory; None for a machine without one."""
        return None

    @abstractmethod
    def to_rows(self) -> tuple[Row, ...]:
        """One row per layer and phase."""

    @abstractmethod
    def totals(self) -> Totals:
        """The step as a whole."""

    @abstractmethod
    def bill(self) -> tuple[BillLine, ...]:
        """The on-chip bill: count x unit price per line, and its source; the lines add up to the totals' energy_j."""

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of what the result was made of, as CSV rows carry them."""
        return {
            "arch_sha256": self.machine.sha256,
            "trace_sha256": self.workload.sha256,
            "energy_table_sha256": self.prices.sha256,
        }

    @property
    def masks(self) -> str:
        """Where the masks came from, in words."""
        return "SYNTHETIC masks" if self.workload.source == "synthetic" else f"{self.workload.source} masks"

    def verdict(self) -> str:
        """The step in a sentence."""
        from h2sim.rivals.show import verdict

        return verdict(self)

    def lines(self) -> tuple[str, ...]:
        """Sentences that this machine alone has to say of a step."""
        return ()

    def tables(self) -> tuple[Table, ...]:
        """Tables that this machine alone has."""
        return ()

    def document(self) -> Document:
        """The result for people."""
        from h2sim.rivals.show import rival_document

        return rival_document(self)

    def __repr__(self) -> str:
        t = self.totals()
        name = f"{type(self).__name__}({self.system} on {self.workload.network}"
        return f"{name}: {t.seconds:.4g} s for {self.samples} samples, {t.energy_j:.3g} J)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the same as tables."""
        from h2sim.document.html import to_html

        return to_html(self.document())

    def measurement(self) -> Measurement:
        """The step as a Measurement, to be compared with any other system's."""
        t = self.totals()
        return Measurement(
            system=self.system,
            kind="simulated",
            network=self.workload.network,
            samples=self.samples,
            seconds=t.seconds,
            energy_j=t.energy_j,
            area_mm2=sum(t.area_um2.values()) / 1e6,
            node_nm=self.prices.node_nm,
            phases=self.phases,
            parts=tuple(_part(row) for row in self.to_rows()),
            assumptions=self.assumptions,
            left_out=tuple(layer for layer, _ in self.left_out),
            clock_hz=t.clock_hz,
            lanes=self.lanes,
            weight_bits=self.weight_bits,
            bandwidth_bytes_per_s=self.bandwidth_bytes_per_s,
            published_power_w=self.published.get("power_w"),
            basis=self.basis,
        )

    def layer_table(self) -> pd.DataFrame:
        """One row per layer and phase, flat columns."""
        import pandas as pd

        return pd.json_normalize([row.to_dict() for row in self.to_rows()], sep="_")

    def to_dict(self, command: str | None = None) -> dict[str, Any]:
        """The h2sim-result document; cycles and clock are null for a machine without a clock.

        command: the command line that asked for it, without the names of its outputs.
        """
        engines, totals = dict.fromkeys(row.engine for row in self.to_rows()), self.totals()
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "h2sim": __version__,
            "provenance": provenance(command),
            "arch": {
                "name": self.system,
                "machine": self.machine.machine,
                "sha256": self.machine.sha256,
                "parameters": self.machine.model_dump(mode="json"),
                "lanes": self.lanes,
                "weight_bits": self.weight_bits,
                "bandwidth_bytes_per_s": self.bandwidth_bytes_per_s,
            },
            "workload": asdict(self.workload),
            "energy_table": asdict(self.prices),
            "options": {"ideal_memory": self.ideal_memory},
            "warnings": list(self.warnings),
            "step": self._step(),
            "engines": {engine: self._engine(engine) for engine in engines},
            "layers": [row.to_dict() for row in self.to_rows()],
            "area_um2": {**totals.area_um2, "total": sum(totals.area_um2.values())},
            "bill": [asdict(line) for line in self.bill()],
            "unpriced": [event._asdict() for event in self.unpriced],
            "published": dict(self.published),
            "left_out": dict(self.left_out),
            "notes": list(self.assumptions),
        }

    def _step(self) -> dict[str, Any]:
        t = self.totals()
        return {
            "first_cycles": t.cycles,
            "steady_cycles": t.cycles,
            "samples": self.samples,
            "clock_hz": t.clock_hz,
            "seconds": t.seconds,
            "samples_per_second": self.samples / t.seconds if t.seconds else 0.0,
            "energy_j": t.energy_j,
            "offchip_energy_j": t.offchip_energy_j,
            "average_power_w": t.energy_j / t.seconds if t.seconds else 0.0,
            "basis": self.basis,
        }

    def _engine(self, engine: str) -> dict[str, Any]:
        """Sums over an engine's rows; a rival has one engine so far, which holds all components."""
        mine = [row.cycles for row in self.to_rows() if row.engine == engine and row.cycles]
        stalls = [c.stalls for c in mine]
        clocked, total = bool(mine), self.totals().cycles
        compute = sum(c.compute for c in mine)
        return {
            "busy_cycles": sum(c.total for c in mine) if clocked else None,
            "compute_cycles": compute if clocked else None,
            "fill_cycles": sum(c.fill for c in mine) if clocked else None,
            "stall_cycles": {
                "memory_read": sum(s.memory_read for s in stalls),
                "memory_write": sum(s.memory_write for s in stalls),
                "dependency": sum(s.dependency for s in stalls),
            }
            if clocked
            else None,
            "utilization": compute / total if clocked and total else None,
            "energy_j": dict(self.totals().energy_by_component_j),
        }


def _part(row: Row) -> Part:
    energy_j = 1e-12 * math.fsum(row.energy_pj.values())
    return Part(layer=row.layer, phase=row.phase, seconds=row.seconds, energy_j=energy_j, fused=row.fused)
