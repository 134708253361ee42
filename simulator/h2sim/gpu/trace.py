"""A GPU trace: time and energy of a training step on a GPU, by layer and phase. Schema h2sim-gpu-trace, version 1.

workloads/gpu/README.md describes the format for people who write one by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from h2sim.activity import PHASES, Phase
from h2sim.compare.measurement import Measurement
from h2sim.errors import GpuTraceError, at
from h2sim.gpu.comparable import as_measurement
from h2sim.io.faults import describe
from h2sim.io.strict import Name, Strict

SCHEMA: Final = "h2sim-gpu-trace"
VERSION: Final = 1

RowPhase = Literal["forward", "backward", "weight_update", "other"]
ROW_PHASES: tuple[RowPhase, ...] = ("forward", "backward", "weight_update", "other")
Amount = Annotated[float, Field(strict=True, ge=0, le=1e15, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e15, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=1 << 53)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=1 << 53)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,80}$")]


class Device(Strict):
    """The device that ran the step.

    power_w: its power limit. memory_*: of its external memory, whose energy is taken out. peak_flops_per_s: the most
    float32 operations per second.
    """

    name: Name
    node_nm: Positive | None = None
    area_mm2: Positive | None = None
    clock_mhz: Positive | None = None
    power_w: Positive | None = None
    memory_bytes: Count | None = None
    memory_bandwidth_bytes_per_s: Positive | None = None
    memory_energy_pj_per_bit: Positive | None = None
    peak_flops_per_s: Positive | None = None

    @property
    def full_memory_power_w(self) -> float | None:
        """Power of the external memory at full bandwidth, W: bytes/s x 8 x pJ/bit x 1e-12. None if it is not known."""
        if self.memory_bandwidth_bytes_per_s is None or self.memory_energy_pj_per_bit is None:
            return None
        return self.memory_bandwidth_bytes_per_s * 8 * self.memory_energy_pj_per_bit * 1e-12


class _Spread(Strict):
    """A time: the median of several runs with its quartiles, or the only run's."""

    seconds: Amount
    lower_quartile_seconds: Amount | None = None
    upper_quartile_seconds: Amount | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.lower_quartile_seconds, self.upper_quartile_seconds
        if (low is not None and low > self.seconds) or (high is not None and high < self.seconds):
            raise ValueError(f"expected lower quartile <= seconds <= upper quartile; got {low}, {self.seconds}, {high}")
        return self


class Step(_Spread):
    """The whole step. marked_seconds: the median time of the steps with marks, from which the rows are taken."""

    seconds: Positive
    marked_seconds: Positive | None = None
    repeats: AtLeastOne | None = None
    warm_up: Count | None = None

    @property
    def marks_overhead(self) -> float | None:
        """How much longer the marks make the step: marked_seconds / seconds - 1. None if there were no marks."""
        return None if self.marked_seconds is None else self.marked_seconds / self.seconds - 1


class Row(_Spread):
    """One layer in one phase, for all samples.

    Phase `other`: what belongs to no layer (loss, optimizer, data, unmapped). flops: of its products, two for each
    multiply-accumulate. bytes: of the maps and weights that it must read and write, each once.
    """

    layer: Name
    phase: RowPhase
    kernels: Count | None = None
    energy_j: Amount | None = None
    flops: Count | None = None
    bytes: Count | None = None

    def roof_share(self, device: Device) -> float | None:
        """The least time that the device's peaks allow over the row's time; None where no peak or no work is known."""
        pairs = ((self.flops, device.peak_flops_per_s), (self.bytes, device.memory_bandwidth_bytes_per_s))
        least = [work / peak for work, peak in pairs if work is not None and peak is not None]
        return max(least) / self.seconds if least and self.seconds else None


class Energy(Strict):
    """Energy of the step as measured, external memory included.

    above_idle_joules: joules - idle_w x time of the step. memory_busy_share: mean share of the time in which the
    external memory was read or written (NVML). shorter_*: of a second window, half as long, by which the first one is
    checked. counter_step_joules: the smallest step of the energy counter that was seen.
    """

    method: Name
    joules: Positive
    above_idle_joules: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    idle_w: Amount | None = None
    measured_seconds: Positive | None = None
    measured_steps: AtLeastOne | None = None
    memory_busy_share: Share | None = None
    shorter_joules: Positive | None = None
    shorter_seconds: Positive | None = None
    counter_step_joules: Positive | None = None


class Conditions(Strict):
    """What the GPU did while its energy was measured, as NVML tells.

    Clocks: the median and the lowest. temperature_c: the highest. throttled: every reason seen why the clock was lower
    than the GPU's highest.
    """

    sm_clock_mhz: Positive | None = None
    lowest_sm_clock_mhz: Positive | None = None
    memory_clock_mhz: Positive | None = None
    lowest_memory_clock_mhz: Positive | None = None
    temperature_c: Amount | None = None
    throttled: tuple[Name, ...] = ()


class Values(Strict):
    """Loss and gradients of a step beside those of another implementation, `reference`, from the same weights.

    equal: the same bits, or no further apart than `tolerance`. *_difference: 2-norm of the difference over the
    reference's, all parameters as one vector. Weights and samples are rounded to 8 bits for it: see equality.py.
    """

    reference: Name
    equal: Annotated[bool, Field(strict=True)]
    same_bits: Annotated[bool, Field(strict=True)]
    loss_difference: Amount
    gradient_difference: Amount
    tolerance: Positive

    @property
    def told(self) -> str:
        """In words: what of the reference the values have."""
        if self.same_bits:
            return f"the bits of {self.reference}'s"
        apart = f"loss {self.loss_difference:.1e} and gradients {self.gradient_difference:.1e} apart"
        return f"{'equal to' if self.equal else 'not'} {self.reference}'s: {apart}, tolerance {self.tolerance:.0e}"


class GpuTrace(Strict):
    """A whole GPU trace; all times and energies are of `samples` samples.

    covers: one training step, or an epoch of many steps. sources: where single fields come from, by dotted name.
    workloads/gpu/README.md explains every field.
    """

    schema_name: Literal["h2sim-gpu-trace"] = Field(alias="schema")
    version: Literal[1]
    origin: Literal["measured", "imported", "published"]
    network: Name
    dataset: Name
    samples: AtLeastOne
    covers: Literal["step", "epoch"] = "step"
    batch: AtLeastOne | None = None
    timesteps: AtLeastOne | None = None
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = PHASES
    implementation: Name
    device: Device
    step: Step
    rows: tuple[Row, ...] = ()
    energy: Energy | None = None
    conditions: Conditions | None = None
    values: Values | None = None
    peak_memory_bytes: Count | None = None
    software: dict[Key, Name] = Field(default={})
    command: Name | None = None
    sources: dict[Key, Name] = Field(default={})
    notes: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        keys = [(row.layer, row.phase) for row in self.rows]
        if len(set(keys)) < len(keys):
            twice = Counter(keys).most_common(1)[0][0]
            raise ValueError(f"rows: expected each layer and phase once; got {' '.join(twice)} again")
        if len(set(self.phases)) < len(self.phases):
            raise ValueError(f"phases: expected each phase once; got {', '.join(self.phases)}")
        stray = next((row for row in self.rows if row.phase not in (*self.phases, "other")), None)
        if stray:
            raise ValueError(f"rows: expected the phases {', '.join(self.phases)}, other; got {stray.phase}")
        if self.covers == "step" and self.batch not in (None, self.samples):
            raise ValueError(f"samples: expected {self.batch}, the batch of the one step; got {self.samples}")
        if self.origin == "published" and "step.seconds" not in self.sources:
            raise ValueError("sources: expected an entry step.seconds, for it is published; got none")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The trace as plain data for JSON. Fields that are None or empty are left out."""
        data: dict[str, Any] = _without_nothing(self.model_dump(by_alias=True, mode="json"))
        return data

    def check_layers(self, layers: Collection[str]) -> None:
        """Raises GpuTraceError, one line per fault, if a row that is not of phase other names none of `layers`."""
        wrong = {row.layer for row in self.rows if row.phase != "other"} - set(layers)
        where = f"GPU trace of {self.network}"
        if wrong:
            known = f"a layer of the network ({', '.join(layers)})"
            raise GpuTraceError(*(at(where, "rows.layer", known, name) for name in sorted(wrong)))

    def to_measurement(self, layers: Collection[str] | None = None) -> Measurement:
        """This trace as a Measurement, which all systems share (see comparable.as_measurement).

        layers: names of the network's layers; if given, rows are checked against them. Raises GpuTraceError.
        """
        if layers is not None:
            self.check_layers(layers)
        return as_measurement(self)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(held) for key, held in value.items() if held not in (None, {}, [])}
    return [_without_nothing(held) for held in value] if isinstance(value, list) else value


def parse_gpu_trace(data: object, where: str) -> GpuTrace:
    """A GPU trace from plain data, checked. Raises GpuTraceError, whose lines begin with `where`."""
    if not isinstance(data, dict):
        raise GpuTraceError(f"{where}: expected a mapping of fields; got {type(data).__name__}")
    schema, version = data.get("schema"), data.get("version")
    if schema != SCHEMA or type(version) is not int or version != VERSION:
        got = f"{schema!r} version {version!r}"
        raise GpuTraceError(at(where, "schema", f"{SCHEMA!r} version {VERSION}", got[:80]))
    with checked(where, GpuTrace):
        return GpuTrace.model_validate(data)


def device_of(fields: dict[str, Any], where: str) -> Device:
    """A device from plain data, checked. Raises GpuTraceError, whose lines begin with `where`."""
    with checked(f"{where}: device", Device):
        return Device.model_validate(fields)


@contextmanager
def checked(where: str, model: type[BaseModel] = GpuTrace) -> Iterator[None]:
    """A block in which pydantic's ValidationError becomes a GpuTraceError with one line per fault."""
    try:
        yield
    except ValidationError as error:
        raise GpuTraceError(*describe(error, model, where)) from None


def printable(name: str, most: int = 60) -> str:
    """A name from a foreign file as one line of at most `most` printable characters."""
    shown = "".join(c if c.isprintable() else "?" for c in name).strip()
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
