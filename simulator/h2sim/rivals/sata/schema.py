"""SATA's file: every parameter of the machine, checked on load (archconfigs/sata.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from h2sim.arch.schema import Buffer, Cycles
from h2sim.energy.table import ActionPrice
from h2sim.io.strict import Strict
from h2sim.rivals.machine import Size, ValueBytes
from h2sim.rivals.stationary import Memories
from h2sim.rivals.training import ArrayMachine, Units


class ArraySizes(Units):
    """The array of PEs, output stationary: a PE holds one sum until it is complete."""

    rows: Size = Field(description="[P] rows of PEs: output positions")
    columns: Size = Field(description="[P] columns of PEs: output channels")
    lif_cycles: Cycles = Field(description="[A] cycles of a PE's neuron update; those of the last fold show as fill")
    pgu_cycles: Cycles = Field(description="[A] cycles of a PE's gradient update, in layers of neurons alone")
    multipliers: Annotated[int, Field(strict=True, ge=0, le=64)] = Field(description="[A] multipliers of a PE")
    registers: Annotated[int, Field(strict=True, ge=0, le=4096)] = Field(description="[P] 16-bit registers of a PE")
    scratchpad_bytes: Annotated[int, Field(strict=True, ge=0, le=65536)] = Field(
        description="[P] bytes of a PE's scratchpads for spikes, weights and partial sums, as registers [A]"
    )
    skip: Literal["none"] = Field(description="[A] sparsity gates energy and never shortens time")


class Buffers(Strict):
    """On-chip memories by the names of the public CACTI files."""

    w: Buffer = Field(description="[P] weights and their gradients")
    s: Buffer = Field(description="[P] input spikes and masks")
    u: Buffer = Field(description="[P] membrane potentials and gradients")
    z: Buffer = Field(description="[P] output spikes and window bits [A]")


class UnitPrices(Strict):
    """Units that the energy tables lack, at the machine's node."""

    add: ActionPrice = Field(description="16-bit adder of a PE")
    compare: ActionPrice = Field(description="16-bit comparator of a PE")


class Sata(ArrayMachine[ArraySizes]):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["sata"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    value_bytes: ValueBytes = Field(description="[P] bytes of a weight, a potential, a gradient")
    buffers: Buffers = Field(description="[P] on-chip memories")
    units: UnitPrices = Field(description="prices of units that the energy tables lack")

    @property
    def memories(self) -> Memories:
        """The buffers by what they hold."""
        b = self.buffers
        return Memories(
            weights=("w", b.w), spikes=("s", b.s), values=("u", b.u), output=("z", b.z), value_bytes=self.value_bytes
        )
