"""SpinalFlow's file: every parameter of the machine, checked on load (archconfigs/spinalflow.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from h2sim.arch.schema import Buffer, Cycles
from h2sim.energy.table import ActionPrice
from h2sim.errors import BaselineError, at
from h2sim.io.faults import describe
from h2sim.io.strict import Strict, Text
from h2sim.io.yamlfile import read_mapping
from h2sim.rivals.machine import ClockedMachine, Positive, Size
from h2sim.rivals.spinalflow.engine import Drain, SpineArray

SECONDARY = "modelled from secondary figures"
Coding = Literal["first_spike", "every_spike"]
CODINGS: tuple[Coding, ...] = ("first_spike", "every_spike")
Bytes = Annotated[int, Field(strict=True, ge=1, le=8)]


class ArraySizes(Strict):
    """The sorter and the PEs: see h2sim.rivals.spinalflow.engine.SpineArray."""

    pes: Size = Field(description="[G] processing elements; each works on an output channel of its own")
    spine_buffers: Size = Field(description="[G] sorted lists of spikes that the first level of the sorter merges")
    merge_fifos: Size = Field(description="[G] sorted lists that its second level merges")
    position_cycles: Cycles = Field(description="[A] cycles between two output positions")
    step_cycles: Cycles = Field(description="[A] cycles at the end of each timestep")
    spill_cycles: Cycles = Field(description="[A] cycles to write or read the partial sums of one timestep, all PEs")
    output_drain: Drain = Field(
        description="[A] when output spikes leave: overlapped with the next position's inputs, or exposed before them"
    )
    pipeline_cycles: Cycles = Field(description="[A] depth of the pipeline, which shows once per layer")


class Buffers(Strict):
    """On-chip memories; the filter buffer is not ping-pong: it holds one group's weights at a time."""

    filter: Buffer = Field(description="[G] filter buffer: the weights of one group of output channels")
    input: Buffer = Field(description="[A] input buffer: spikes on their way to the sorter")
    output: Buffer = Field(description="[D] output buffer: spikes that the PEs send")


class UnitPrices(Strict):
    """Units that the energy tables lack, at the machine's node."""

    potential_add: ActionPrice = Field(description="adder of a PE, which adds a weight to a potential")
    threshold_compare: ActionPrice = Field(description="comparator of a PE, potential against threshold")
    time_compare: ActionPrice = Field(description="comparator of the sorter, of two time stamps")


class Published(Strict):
    """What is reported of the machine; printed beside the simulated figures."""

    voltage_v: Positive = Field(description="supply voltage, V")
    area_mm2: Positive = Field(description="area, mm2")
    throughput_gops: Positive = Field(
        description="throughput, giga operations per second, counted as dense layers would need"
    )
    efficiency_tops_per_w: Positive = Field(description="throughput / power, tera operations per second and watt")
    source: Text = Field(description="where the figures stand")

    @property
    def power_w(self) -> float:
        """Throughput over efficiency."""
        return 1e-3 * self.throughput_gops / self.efficiency_tops_per_w


class SpinalFlow(ClockedMachine):
    """A whole machine; name, clock_hz and memory are what the schedule asks for."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["spinalflow"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    clock_hz: Annotated[int, Field(strict=True, ge=1, le=10**11)] = Field(description="[G] cycles per second")
    coding: Coding = Field(description="[A] which spikes of a trace count: each neuron's first_spike, or every_spike")
    array: ArraySizes = Field(description="the sorter and the PEs")
    weight_bytes: Bytes = Field(description="[G] bytes of a weight")
    potential_bytes: Bytes = Field(description="[A] bytes of a potential or partial sum")
    spike_bytes: Bytes = Field(description="[A] bytes of a spike in a spine: time stamp and channel")
    buffers: Buffers = Field(description="[D] on-chip memories")
    units: UnitPrices = Field(description="prices of units that the energy tables lack")
    published: Published = Field(description="what is reported of the machine; nothing is fitted to it")

    @model_validator(mode="after")
    def _one_row(self) -> Self:
        if self.filter_rows < 1:
            raise ValueError(
                f"buffers.filter.bytes: must hold one row of {self.row_bytes} bytes; got {self.buffers.filter.bytes}"
            )
        return self

    @property
    def row_bytes(self) -> int:
        """One row of the filter buffer: a weight for every PE."""
        return self.array.pes * self.weight_bytes

    @property
    def filter_rows(self) -> int:
        """Rows that the filter buffer holds."""
        return self.buffers.filter.bytes // self.row_bytes

    @property
    def spines(self) -> SpineArray:
        """The machine as the engine sees it."""
        sizes = self.array.model_dump(exclude={"pipeline_cycles"})
        return SpineArray(filter_rows=self.filter_rows, single_spike=self.coding == "first_spike", **sizes)

    def with_coding(self, coding: Coding) -> SpinalFlow:
        """The same machine for another reading of a trace's spikes."""
        if coding not in CODINGS:
            raise BaselineError(at(self.name, "coding", " or ".join(CODINGS), repr(coding)))
        return self.model_copy(update={"coding": coding})


def load_spinalflow(name_or_path: str | Path = "spinalflow") -> SpinalFlow:
    """The shipped machine or that of a file. Raises BaselineError: one line per fault."""
    data, path = read_mapping("arch", name_or_path, BaselineError)
    return parse_spinalflow(data, str(path))


def parse_spinalflow(data: object, where: str) -> SpinalFlow:
    """A checked machine from plain data; `where` names the source in error lines."""
    try:
        return SpinalFlow.model_validate(data)
    except ValidationError as error:
        raise BaselineError(*describe(error, SpinalFlow, where)) from None
