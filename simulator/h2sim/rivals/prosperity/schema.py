"""Prosperity's file: every parameter, checked on load (archconfigs/prosperity.yaml and bit-sparse-128.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from h2sim.arch.schema import Buffer
from h2sim.rivals.machine import Size, ValueBytes
from h2sim.rivals.spiking import NeuronUnits, SpikeBuffers, SpikeMachine


class Lanes(NeuronUnits):
    """The adders, the finder of prefixes before them, and the neuron units behind them."""

    lanes: Size = Field(description="[P] adders, an output channel each")
    tile_rows: Size = Field(description="[P] rows of a tile: (position, timestep), timestep fastest")
    tile_columns: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        description="[P] columns of a tile: inputs of a neuron"
    )
    sparsity: Literal["product", "bit"] = Field(
        description="[P] product: a row takes over the sum of its largest subset; bit: every spike is added"
    )
    popcounts: Size = Field(description="[P] rows whose spikes are counted in a cycle, before a tile is searched")
    overlap: Literal["tile", "layer"] = Field(
        description="[A] what finding hides behind: the adds of the tile before, or (authors) those of the whole layer"
    )


class Buffers(SpikeBuffers):
    """On-chip memories."""

    outputs: Buffer = Field(description="[P] partial sums of a tile")


class Prosperity(SpikeMachine[Lanes, Buffers]):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["prosperity"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    sum_bytes: ValueBytes = Field(description="[D] bytes of a partial sum; a readout's potential leaves with 2 [A]")
