"""Loihi as a file: limits of a core, how a network is mapped, price and time of each event; every number sourced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from h2sim.errors import BaselineError
from h2sim.io.faults import describe
from h2sim.io.strict import Strict, Text
from h2sim.io.yamlfile import read_mapping
from h2sim.rivals.machine import RivalMachine

Amount = Annotated[float, Field(strict=True, ge=0, le=1e12, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e12, allow_inf_nan=False)]
WholeNumber = Annotated[int, Field(strict=True, ge=1, le=1 << 40)]


class _Sourced(Strict):
    """method: published, derived, fitted or assumed [A], with the formula; source: where the number stands."""

    method: Text = Field(
        description="how the number came about: published, derived, fitted or assumed [A], with the formula"
    )
    source: Text = Field(description="where the number stands")


class Limit(_Sourced):
    """A whole number with its source."""

    value: WholeNumber = Field(description="the number")


class Flag(_Sourced):
    """A choice of how networks are mapped."""

    value: Annotated[bool, Field(strict=True)] = Field(description="whether it is so")


class Area(_Sourced):
    """Of one die, mm2."""

    value: Positive = Field(description="area of one die, mm2")


class Limits(Strict):
    """What a chip and a core hold (Davies 2018, p. 89, constraints 1-4)."""

    cores_per_chip: Limit = Field(description="cores of a chip")
    cores_per_tile: Limit = Field(description="cores that share a router")
    mesh_columns: Limit = Field(description="tiles of a chip from west to east")
    mesh_rows: Limit = Field(description="tiles of a chip from north to south")
    compartments: Limit = Field(description="neurons that a core holds")
    synapse_memory_bits: Limit = Field(description="bits of a core's synapse memory")
    output_axons: Limit = Field(description="axons that may leave a core")
    input_axons: Limit = Field(description="axons that may enter a core")

    @model_validator(mode="after")
    def _whole_mesh(self) -> Self:
        held = self.mesh_columns.value * self.mesh_rows.value * self.cores_per_tile.value
        if held != self.cores_per_chip.value:
            raise ValueError(
                f"expected mesh_columns * mesh_rows * cores_per_tile = cores_per_chip = {self.cores_per_chip.value}; "
                f"got {held}"
            )
        return self


class Mapping(Strict):
    """How a network is stored on cores [A]."""

    weight_bits: Limit = Field(description="bits of a stored weight")
    index_bits: Limit = Field(description="bits of the index stored with each synapse of a sparse connection")
    share_convolution_weights: Flag = Field(
        description="whether a core stores each weight of a kernel once for all its positions"
    )
    population_axons: Flag = Field(description="whether all channels at a position share an axon")
    compartments_per_core: Limit | None = Field(
        None, description="neurons that are put on one core, within its limits; none: as many as the limits let it"
    )


class UpdateRule(_Sourced):
    """Which updates of a neuron are active, and so cost neuron_active."""

    value: Literal["input", "state"] = Field(
        description="input: where a current came in the step; state: also where the potential or the bias is not 0"
    )


class EventPrice(_Sourced):
    """One event of one core or link; low and high span what the sources give."""

    energy_pj: Amount = Field(description="energy of one event, pJ")
    time_ns: Amount = Field(description="time of one event, ns")
    low_pj: Amount | None = Field(None, description="lowest energy that the sources give, pJ")
    high_pj: Amount | None = Field(None, description="highest energy that the sources give, pJ")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low = self.energy_pj if self.low_pj is None else self.low_pj
        high = self.energy_pj if self.high_pj is None else self.high_pj
        if not low <= self.energy_pj <= high:
            raise ValueError(f"expected low_pj <= energy_pj <= high_pj; got {low}, {self.energy_pj}, {high}")
        return self


class Prices(Strict):
    """The events that a run counts; their names are the fields of h2sim.rivals.loihi.run.Events."""

    synaptic_operation_sparse: EventPrice = Field(description="a synapse of a sparse connection adds its weight")
    synaptic_operation_dense: EventPrice = Field(description="a synapse of a dense connection adds its weight")
    neuron_inactive: EventPrice = Field(description="update of a neuron that is not active by the update rule")
    neuron_active: EventPrice = Field(description="update of a neuron that is active by the update rule")
    spike_fired: EventPrice = Field(description="a neuron fires")
    message_sent: EventPrice = Field(description="a core sends a spike message")
    message_received: EventPrice = Field(description="a core takes a spike message")
    hop_east_west: EventPrice = Field(description="a message goes to the next tile east or west")
    hop_north_south: EventPrice = Field(description="a message goes to the next tile north or south")


class Barrier(_Sourced):
    """Mesh-wide synchronisation of a step: (tiles in use, nanoseconds), rising in tiles."""

    points: Annotated[tuple[tuple[WholeNumber, Amount], ...], Field(min_length=1)] = Field(
        description="(tiles in use, ns) pairs; straight lines between them"
    )

    @field_validator("points")
    @classmethod
    def _rising(cls, value: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        tiles = [point[0] for point in value]
        if tiles != sorted(set(tiles)):
            raise ValueError(f"expected rising numbers of tiles; got {tiles}")
        return value

    def time_ns(self, tiles: int) -> float:
        """Nanoseconds with `tiles` in use: straight lines through the points, flat outside them [A]."""
        (first, below), *rest = self.points
        if tiles <= first:
            return below
        for after, above in rest:
            if tiles <= after:
                return below + (above - below) * (tiles - first) / (after - first)
            first, below = after, above
        return below


class StaticPower(_Sourced):
    """Of one chip; reported apart, never summed with the events."""

    power_w: Positive = Field(description="static power of one chip, W")


class LoihiMachine(RivalMachine):
    """A whole machine file."""

    # narrower than any machine's, and frozen as all fields
    machine: Literal["loihi"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    node_nm: Positive = Field(description="technology, nm")
    voltage_v: Positive | None = Field(description="supply voltage of the prices, V")
    area_mm2: Area = Field(description="area of one die, mm2")
    limits: Limits = Field(description="what a chip and a core hold")
    mapping: Mapping = Field(description="[A] how a network is stored on cores")
    update_rule: UpdateRule | None = Field(None, description="which updates of a neuron are active; none: input")
    prices: Prices = Field(description="energy and time of each event")
    barrier: Barrier = Field(description="synchronisation of all tiles at the end of a step")
    static: StaticPower | None = Field(None, description="static power, reported apart and never added to the events")

    @property
    def compartments(self) -> int:
        """Neurons that one core is filled with: what is put on it, and no more than it holds."""
        limit, asked = self.limits.compartments.value, self.mapping.compartments_per_core
        return limit if asked is None else min(limit, asked.value)

    @property
    def keeps_state(self) -> bool:
        """Whether an update is active also where the potential or the bias is not 0."""
        return self.update_rule is not None and self.update_rule.value == "state"

    def tile_of(self, core: int) -> tuple[int, int]:
        """(column, row) of the tile that holds a core, chips side by side from west to east [A]."""
        chip, within = divmod(core, self.limits.cores_per_chip.value)
        row, column = divmod(within // self.limits.cores_per_tile.value, self.limits.mesh_columns.value)
        return chip * self.limits.mesh_columns.value + column, row


def load_loihi(name_or_path: str | Path = "loihi") -> LoihiMachine:
    """A shipped machine (`loihi`, `loihi-sanafe`) or a file; BaselineError with one line per fault."""
    data, path = read_mapping("arch", name_or_path, BaselineError)
    return parse_loihi(data, str(path))


def parse_loihi(data: object, where: str) -> LoihiMachine:
    """A checked machine from plain data; `where` names the source in error lines."""
    if not isinstance(data, dict):
        raise BaselineError(f"{where}: expected a mapping of fields; got {type(data).__name__}")
    try:
        return LoihiMachine.model_validate(data)
    except ValidationError as error:
        raise BaselineError(*describe(error, LoihiMachine, where)) from None
