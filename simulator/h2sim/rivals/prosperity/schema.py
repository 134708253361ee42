"""Prosperity's file: every parameter, checked on load (archconfigs/prosperity.yaml and bit-sparse-128.yaml)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from h2sim.arch.schema import Buffer, Cycles
from h2sim.energy.table import ActionPrice
from h2sim.io.strict import Strict
from h2sim.rivals.machine import ClockedMachine, Positive, Size
from h2sim.rivals.stationary import Memories

Bytes = Annotated[int, Field(strict=True, ge=1, le=8)]


class Lanes(Strict):
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
    lif_units: Size = Field(description="[P] neuron units")
    lif_cycles: Cycles = Field(description="[P] cycles of a neuron's update: add, multiply")


class Buffers(Strict):
    """On-chip memories."""

    spikes: Buffer = Field(description="[P] spikes of a tile's region")
    weights: Buffer = Field(description="[P] weights of a group of output channels")
    outputs: Buffer = Field(description="[P] partial sums of a tile")


class UnitPrices(Strict):
    """Units that the energy tables lack, at the machine's node."""

    add: ActionPrice = Field(description="8-bit adder of a lane")


class Published(Strict):
    """What is reported of the machine; printed beside the simulated figures."""

    power_w: Positive = Field(description="on-chip power, W")
    source: str = Field(description="where the figure stands")


class Prosperity(ClockedMachine):
    """A whole machine."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["prosperity"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    array: Lanes = Field(description="adders, finder and neuron units")
    weight_bytes: Bytes = Field(description="[P] bytes of a weight")
    sum_bytes: Bytes = Field(description="[D] bytes of a partial sum; a readout's potential leaves with 2 [A]")
    buffers: Buffers = Field(description="on-chip memories")
    units: UnitPrices = Field(description="prices of units that the energy tables lack")
    published: Published = Field(description="what is reported of the machine; nothing is fitted to it")

    @property
    def memories(self) -> Memories:
        """The buffers by what they hold."""
        b = self.buffers
        return Memories(
            weights=("weights", b.weights), spikes=("spikes", b.spikes), values=("outputs", b.outputs),
            output=("spikes", b.spikes), value_bytes=2,
        )  # fmt: skip
