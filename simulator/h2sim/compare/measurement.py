"""A Measurement: time, energy and area of one system on one workload, in one form for all systems.

A simulated H2Learn, a GPU trace, a rival accelerator and a published row all become Measurements, so that any two of
them can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from h2sim.activity import Phase

Kind = Literal["simulated", "measured", "published"]


@dataclass(frozen=True)
class Part:
    """One layer in one phase, for all samples of the measurement.

    energy_j: without off-chip memory; None if unknown. fused: the layer runs inside another layer's time or beside
    other layers, so that its own seconds are no share of the step.
    """

    layer: str
    phase: Phase
    seconds: float
    energy_j: float | None = None
    fused: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One system on one workload.

    samples: number of samples that times and energies are of. seconds: time of the whole step (training: all phases;
    inference: the forward pass); it need not be the sum of the parts, because engines overlap. energy_j: energy of the
    step without off-chip memory; None if unknown. phases: what the step covers. left_out: layers that the system cannot
    run, so that its step is not the whole network's. assumptions: what a reader must know to judge the numbers.
    clock_hz, lanes (synapses worked on in a cycle), weight_bits, bandwidth_bytes_per_s (of an external memory): what to
    judge a machine's size by; None if unknown. published_power_w: as reported, beside energy_j / seconds.
    basis: what the numbers stand on, where they are not as good as others'. passed_over: why the verdict takes another
    measurement of this machine instead.
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
    clock_hz: int | None = None
    lanes: int | None = None
    weight_bits: int | None = None
    bandwidth_bytes_per_s: int | None = None
    published_power_w: float | None = None
    basis: str = ""
    passed_over: str = ""

    @property
    def seconds_per_sample(self) -> float:
        """seconds / samples."""
        return self.seconds / self.samples

    @property
    def energy_j_per_sample(self) -> float | None:
        """energy_j / samples; None if the energy is unknown."""
        return None if self.energy_j is None else self.energy_j / self.samples

    @property
    def power_w(self) -> float | None:
        """energy_j / seconds."""
        return None if self.energy_j is None or not self.seconds else self.energy_j / self.seconds

    @property
    def area_time_mm2_s(self) -> float | None:
        """Area x time of a sample: what a machine's speed takes of silicon."""
        return None if self.area_mm2 is None else self.area_mm2 * self.seconds_per_sample

    @property
    def energy_delay_js(self) -> float | None:
        """Energy x time of a sample."""
        energy_j = self.energy_j_per_sample
        return None if energy_j is None else energy_j * self.seconds_per_sample

    def part(self, layer: str, phase: Phase) -> Part | None:
        """The part of this layer and phase; None if there is none."""
        return next((p for p in self.parts if p.layer == layer and p.phase == phase), None)
