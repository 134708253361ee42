"""SATO's file: every parameter of the machine, checked on load (archconfigs/sato.yaml)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from h2sim.rivals.machine import Size
from h2sim.rivals.spiking import NeuronUnits, SpikeBuffers, SpikeMachine


class Elements(NeuronUnits):
    """The PEs, and the search trees behind them: a tree finds the spikes of a neuron at all timesteps at once."""

    pes: Size = Field(description="[P] PEs, all on one output channel at a time")
    dispatch: Literal["arrival", "sorted"] = Field(
        description="[P] arrival: rows go to the least loaded PE by timestep, then position; sorted [M]: longest first"
    )
    fc: Literal["rows", "spread"] = Field(
        description="[P] rows: a row of a fully connected layer is one PE's, for each output; spread [A]: all outputs' "
        "rows are dealt to all PEs"
    )


class Sato(SpikeMachine[Elements, SpikeBuffers]):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["sato"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
