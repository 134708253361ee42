"""Under which assumptions a figure is regenerated: the shipped files' by default, and one or several changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from h2sim.io.strict import Strict

Number = int | float | bool | str
Chw = tuple[int, int, int]


class Masks(Strict):
    """Structure of synthetic masks (h2sim.trace.Structure); independent bits by default."""

    silent_samples: float = 0.0
    dead_channels: float = 0.0
    cluster_positions: int = 1
    shared: float = 0.0
    channels: float = 0.0


class Reading(Strict):
    """How a sentence of the source is read where it can be read in several ways."""

    area: Literal["array", "engine"] = "array"
    power: Literal["step", "busiest"] = "step"
    epoch: Literal["batches", "steady"] = "batches"
    grown_buffers: bool = True
    idle_engines_off: bool = False
    equal_throughput: bool = False
    spinalflow_figures: Literal["simulated", "published"] = "published"
    loihi: Literal["loihi", "loihi-sanafe"] = "loihi"
    spinalflow_coding: Literal["first_spike", "every_spike"] | None = None
    saving: Literal["energy", "power"] = "energy"
    gpu_power_w: Annotated[float, Field(gt=0)] | None = None


class Setting(Strict):
    """arch: fields of h2learn by dotted path; buffer_scale: how many times as large all its buffers are; table: an
    energy table; prices: entries taken at the low or high end of the table's own range; spikes: share of neurons and
    timesteps without a spike; masks: their structure; input_shapes: of networks whose input the source does
    not give; layer_window: output sparsity of the layer of figures 3.11 to 3.13; area_scale: factor on logic's
    areas; adder_area_um2: of an FP16 adder; traces: shipped traces of real training by network,
    instead of synthetic masks.
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
    ideal_memory: bool = False
    reading: Reading = Reading()

    def changed(self, patch: Mapping[str, Any]) -> Setting:
        """This setting with the patch's fields over it; mappings are merged one level deep. Raises ValidationError."""
        mine = self.model_dump(exclude_unset=True)
        for field, value in patch.items():
            before = mine.get(field)
            mine[field] = {**before, **value} if isinstance(before, dict) and isinstance(value, Mapping) else value
        return Setting.model_validate(mine)
