"""LoAS's file: every parameter of the machine, checked on load (archconfigs/loas.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from h2sim.rivals.machine import Size
from h2sim.rivals.spiking import NeuronUnits, SpikeBuffers, SpikeMachine


class Elements(NeuronUnits):
    """The temporal-parallel PEs (TPPEs): each joins a row's live inputs with the weights of one output channel."""

    tppes: Size = Field(description="[M] TPPEs, an output channel each, on one row at a time")
    timesteps: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        description="[M] timesteps of a pass: accumulators of a TPPE, bits of a packed word of spikes"
    )
    chunk: Annotated[int, Field(strict=True, ge=64, le=65536, multiple_of=64)] = Field(
        description="[M] inputs whose masks are joined at a time; each takes a cycle at least"
    )


class Loas(SpikeMachine[Elements, SpikeBuffers]):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["loas"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
