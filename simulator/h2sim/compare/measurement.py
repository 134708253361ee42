"""What one system takes for a workload, in the words that all systems share: so that any two can be compared.

A simulated H2Learn, a GPU trace, a rival accelerator and a published row all become a Measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from h2sim.activity import Phase

Kind = Literal["simulated", "measured", "published"]


@dataclass(frozen=True)
class Part:
    """One layer in one phase, for all `samples` of the measurement; energy_j: no off-chip memory; None if unknown.

    fused: it runs inside another layer's time, or beside other layers: its own seconds are no share of the step.
    """

    layer: str
    phase: Phase
    seconds: float
    energy_j: float | None = None
    fused: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One system on one workload.

    samples: how many samples the times and energies are of; seconds: the whole step (training: all phases; inference:
    the forward pass), which need not be the sum of the parts, for engines overlap; energy_j: the step's energy without
    off-chip memory; phases: what the step covers; left_out: layers that the system cannot run, so that its step is
    not the network's; assumptions: what a reader must know to judge the numbers.
    """

    system: str
    kind: Kind
    network: str
    samples: int
    seconds: float
    energy_j: float | None
    area_mm2: float | None
    node_nm: float | None
    phases: tuple[Phase, ...]
    parts: tuple[Part, ...] = ()
    assumptions: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def seconds_per_sample(self) -> float:
        """Time of the step over its samples."""
        return self.seconds / self.samples

    @property
    def energy_j_per_sample(self) -> float | None:
        """Energy of the step over its samples; None if unknown."""
        return None if self.energy_j is None else self.energy_j / self.samples

    def part(self, layer: str, phase: Phase) -> Part | None:
        """The part of a layer in a phase; None if the system has none."""
        return next((p for p in self.parts if p.layer == layer and p.phase == phase), None)
