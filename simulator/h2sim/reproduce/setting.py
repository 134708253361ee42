"""A setting: the assumptions under which a claim is measured. The default setting is that of the shipped files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from h2sim.io.strict import Strict

Number = int | float | bool | str
Chw = tuple[int, int, int]


class Masks(Strict):
    """Structure of synthetic masks, with the fields of h2sim.trace.Structure. The default is independent bits."""

    silent_samples: float = 0.0
    dead_channels: float = 0.0
    cluster_positions: int = 1
    shared: float = 0.0
    channels: float = 0.0


class Reading(Strict):
    """How sentences of the source are read that can be read in several ways.

    engine: what area and energy of an engine count: the whole engine, or PE array and Acc (array). power: the mean of a
    step, or all engines at their busiest layer at once (busiest). epoch: batches with their update, or the steady state
    of sub-batches. grown_buffers: whether an engine's buffers grow with its array. equal_throughput: whether
    SpinalFlow's area is that of as many as are equally fast. spinalflow_figures: its published power and area, or those
    built up by simulation. loihi: which arch file of Loihi. loihi_compartments: neurons that are put on one of its
    cores (None: as its arch file says). spinalflow_coding: which spikes SpinalFlow is given (None: as its arch file
    says). saving: whether the source's 'saving' over the V100 is of energy or of power. gpu_power_w: power of the V100
    without its memory, W (None: from its GPU trace).
    """

    engine: Literal["engine", "array"] = "engine"
    power: Literal["step", "busiest"] = "step"
    epoch: Literal["batches", "steady"] = "batches"
    grown_buffers: bool = True
    equal_throughput: bool = False
    spinalflow_figures: Literal["simulated", "published"] = "published"
    loihi: Literal["loihi", "loihi-sanafe"] = "loihi"
    loihi_compartments: Annotated[int, Field(ge=1)] | None = None
    spinalflow_coding: Literal["first_spike", "every_spike"] | None = None
    saving: Literal["energy", "power"] = "energy"
    gpu_power_w: Annotated[float, Field(gt=0)] | None = None


class Setting(Strict):
    """All assumptions of one regeneration; every default is what the shipped files hold.

    arch: fields of h2learn by dotted path. buffer_scale: factor on the size of all its buffers. table: name of the
    energy table. prices: entries that are taken at the low or high end of the table's own range. spikes: share of
    neurons and timesteps without a spike. masks: structure of synthetic masks. input_shapes: (C, H, W) by network, for
    networks whose input the source does not give. layer_window: output sparsity of the layer of figures 3.11 to 3.13.
    adder_area_um2: area of an FP16 adder. traces: by network, shipped traces of real training that replace synthetic
    masks. area_scale and leakage_scale: factors on area and leakage of logic. ideal_memory: whether transfers take no
    time.
    pool_before_fire: whether a convolution that only a pool reads sends its current there and does not fire itself.
    """

    arch: dict[str, Number] = Field(default={})
    buffer_scale: Annotated[int, Field(ge=1)] = 1
    table: str = "28nm"
    prices: dict[str, Literal["low", "high"]] = Field(default={})
    spikes: Annotated[float, Field(ge=0, le=1)] | None = None
    masks: Masks | None = None
    input_shapes: dict[str, Chw] = Field(default={})
    layer_window: Annotated[float, Field(ge=0, le=1)] | None = None
    adder_area_um2: Annotated[float, Field(gt=0)] | None = None
    traces: dict[str, str] = Field(default={})
    area_scale: Annotated[float, Field(gt=0)] = 1.0
    leakage_scale: Annotated[float, Field(gt=0)] = 1.0
    ideal_memory: bool = False
    pool_before_fire: bool = False
    reading: Reading = Reading()

    def changed(self, patch: Mapping[str, Any]) -> Setting:
        """A copy with the patch's fields set. Where both sides are mappings, their keys are merged, one level deep.

        Raises pydantic.ValidationError for an unknown field or a wrong value.
        """
        mine = self.model_dump(exclude_unset=True)
        for field, value in patch.items():
            before = mine.get(field)
            mine[field] = {**before, **value} if isinstance(before, dict) and isinstance(value, Mapping) else value
        return Setting.model_validate(mine)
