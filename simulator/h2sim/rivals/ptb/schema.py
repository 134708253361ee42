"""PTB's file: every parameter of the machine, checked on load (archconfigs/ptb.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from h2sim.rivals.machine import Size
from h2sim.rivals.spiking import NeuronUnits, SpikeBuffers, SpikeMachine

Placement = Literal["strided", "contiguous"]
Padding = Literal["window", "power_of_two"]
PLACEMENTS: tuple[Placement, ...] = ("strided", "contiguous")
PADDINGS: tuple[Padding, ...] = ("window", "power_of_two")


class Systolic(NeuronUnits):
    """The array: a row is an output channel, a column a pair of a time window and an output position."""

    rows: Size = Field(description="[P] rows of PEs: output channels")
    columns: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(description="[P] columns of PEs: pairs")
    window: Annotated[int, Field(strict=True, ge=1, le=65536)] = Field(description="[P] timesteps of a window")
    placement: Placement = Field(
        description="[P] strided: column j of batch b holds pair j * batches + b; contiguous [A]: b * columns + j"
    )
    padding: Padding = Field(
        description="[A] window: T is padded to whole windows; power_of_two [P]: first to a power of two"
    )


class Ptb(SpikeMachine[Systolic, SpikeBuffers]):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["ptb"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
