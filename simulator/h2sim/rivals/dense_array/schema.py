"""The dense array's file: every parameter of the machine, checked on load (archconfigs/dense-array.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from h2sim.arch.schema import Buffer, Cycles
from h2sim.io.strict import Strict
from h2sim.rivals.machine import Size
from h2sim.rivals.stationary import Memories
from h2sim.rivals.training import ArrayMachine, Units

VALUE_BYTES = 2  # FP16


class Systolic(Units):
    """The array, output stationary: a unit holds one sum until it is complete."""

    rows: Size = Field(description="[D] rows of multiply-accumulate units")
    columns: Size = Field(description="[D] columns of multiply-accumulate units")
    overlap_skew: Annotated[bool, Field(strict=True)] = Field(
        description="[A] true: folds follow without a gap, and skew shows once a layer; false: every fold pays it"
    )
    register_accesses: Annotated[int, Field(strict=True, ge=0, le=64)] = Field(
        description="[A] register accesses of a multiply-accumulate"
    )
    neuron_lanes: Size = Field(description="[A] neuron units, each an update a cycle, in layers of neurons alone")
    neuron_cycles: Cycles = Field(description="[A] depth of a neuron unit, which shows once per layer")


class Buffers(Strict):
    """On-chip memories, of H2Learn's sizes [A]."""

    weights: Buffer = Field(description="[A] weights, FP16")
    spikes: Buffer = Field(description="[A] input spikes and masks")
    values: Buffer = Field(description="[A] gradients and membrane potentials, FP16")
    output: Buffer = Field(description="[A] output spikes and window bits")
    weight_gradients: Buffer = Field(description="[A] weight gradients, FP16")


class DenseArray(ArrayMachine[Systolic]):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["dense-array"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers: Buffers = Field(description="on-chip memories")

    @property
    def memories(self) -> Memories:
        """The buffers by what they hold."""
        b = self.buffers
        return Memories(
            weights=("weights", b.weights), spikes=("spikes", b.spikes), values=("values", b.values),
            output=("output", b.output), value_bytes=VALUE_BYTES,
        )  # fmt: skip
