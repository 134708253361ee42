"""A rival's rows and totals: what it does in each layer and phase, in the words of every result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from h2sim.activity import BufferTraffic, Phase, Stalls


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """When a clocked machine works on a row: end - start = compute + fill + stalls.total, exactly."""

    start: int
    end: int
    compute: int
    fill: int
    stalls: Stalls

    @property
    def total(self) -> int:
        """Cycles from the row's start to its end."""
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer in one phase on one engine of a rival.

    seconds: what the engine is held by it; fused: it runs beside other rows, so that its seconds are no share of the
    step. operations and energy_pj are by the machine's own names; energy_pj holds no off-chip memory. cycles is None
    for a machine without a clock.
    """

    layer: str
    phase: Phase
    engine: str
    seconds: float
    operations: Mapping[str, int]
    energy_pj: Mapping[str, float]
    cycles: Cycles | None = None
    buffers: tuple[BufferTraffic, ...] = ()
    offchip_read_bytes: int = 0
    offchip_write_bytes: int = 0
    offchip_energy_pj: float = 0.0
    fused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The row as the h2sim-result document holds it; what a machine without a clock does not have is null."""
        c = self.cycles
        return {
            "layer": self.layer,
            "phase": self.phase,
            "engine": self.engine,
            "start_cycle": c.start if c else None,
            "end_cycle": c.end if c else None,
            "compute_cycles": c.compute if c else None,
            "fill_cycles": c.fill if c else None,
            "stall_cycles": asdict(c.stalls) if c else None,
            "seconds": self.seconds,
            "fused": self.fused,
            "operations": dict(self.operations),
            "bytes": {
                "offchip_read": self.offchip_read_bytes,
                "offchip_write": self.offchip_write_bytes,
                "glb_read": sum(b.read_bytes for b in self.buffers),
                "glb_write": sum(b.write_bytes for b in self.buffers),
            },
            "buffers": {b.buffer: {"read_bytes": b.read_bytes, "write_bytes": b.write_bytes} for b in self.buffers},
            "energy_pj": dict(self.energy_pj),
            "offchip_energy_pj": self.offchip_energy_pj,
        }


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The whole step of a rival. energy_j is on chip; cycles and clock_hz are None for a machine without a clock.

    area_um2 and energy_by_component_j: by the machine's own names; components are of all engines together.
    """

    seconds: float
    energy_j: float
    offchip_energy_j: float
    area_um2: Mapping[str, float]
    energy_by_component_j: Mapping[str, float]
    cycles: int | None = None
    clock_hz: int | None = None


@dataclass(frozen=True, kw_only=True)
class PriceSource:
    """Where the prices come from: an energy table, or the machine's own file."""

    name: str
    sha256: str
    node_nm: float
