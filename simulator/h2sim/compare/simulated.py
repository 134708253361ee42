"""What the simulation gives beside the back-of-envelope estimate: energy of one sample by layer, phase and cause."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from h2sim.activity import Phase
from h2sim.result import Result


@dataclass(frozen=True)
class Components:
    """On-chip energy of one sample by cause, pJ.

    compute: LUT reads and writes, additions, multiplications, finders. register: register accesses. neuron: Soma and
    Grad. buffer: on-chip SRAM. leakage: of the engines, in the cycles that the rows cover.
    """

    compute_pj: float = 0.0
    register_pj: float = 0.0
    neuron_pj: float = 0.0
    buffer_pj: float = 0.0
    leakage_pj: float = 0.0

    @property
    def total_pj(self) -> float:
        """Sum of all components."""
        return math.fsum(asdict(self).values())

    def __add__(self, other: Components) -> Components:
        return Components(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class PhaseCost:
    """Energy of one sample in one phase, of a layer or (layer 'all') the network. Off-chip memory stands apart."""

    layer: str
    phase: Phase
    components: Components
    offchip_pj: float


@dataclass(frozen=True)
class Simulated:
    """Energy of one sample by simulation: a row per layer and phase, and the leakage outside the cycles of all rows."""

    rows: tuple[PhaseCost, ...]
    idle_leakage_pj: float

    def phase(self, phase: Phase) -> PhaseCost:
        """The sum over all layers of one phase."""
        rows = [row for row in self.rows if row.phase == phase]
        components = sum((row.components for row in rows), Components())
        return PhaseCost("all", phase, components, math.fsum(row.offchip_pj for row in rows))

    def forward(self, layer: str) -> PhaseCost | None:
        """The row of a layer's forward pass; None if there is none."""
        return next((row for row in self.rows if row.layer == layer and row.phase == "forward"), None)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the step, in the order of training."""
        order: tuple[Phase, ...] = ("forward", "backward", "weight_update")
        return tuple(phase for phase in order if any(row.phase == phase for row in self.rows))

    @property
    def total_pj(self) -> float:
        """On-chip energy of one sample in the whole step."""
        return math.fsum([*(row.components.total_pj for row in self.rows), self.idle_leakage_pj])

    @property
    def offchip_pj(self) -> float:
        """Off-chip energy of one sample in the whole step."""
        return math.fsum(row.offchip_pj for row in self.rows)


def simulated(result: Result) -> Simulated:
    """Energy per sample of a simulated step, in the components of the estimate."""
    samples, cost = result.activity.samples, result.cost
    rows = []
    for index, row in enumerate(result.activity.layers):
        e = {group: energy / samples for group, energy in cost.layer_energy_pj(index).items()}
        compute = math.fsum([e["lut"], e["fp16_add"], e["fp16_multiply"], e["priority_encode"]])
        parts = Components(compute, e["register"], e["soma"] + e["grad"], e["glb"], e["leakage"])
        rows.append(PhaseCost(row.layer, row.phase, parts, cost.layer_offchip_pj(index) / samples))
    return Simulated(tuple(rows), cost.idle_leakage_pj / samples)
