"""What a simulation counts: cycles, stalls and events, before any price is put on them.

An Activity knows nothing of energy: pricing it with another energy table needs no new simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Phase = Literal["forward", "backward", "weight_update"]
PHASES: tuple[Phase, ...] = ("forward", "backward", "weight_update")
JobKey = tuple[str, Phase]  # a layer in a phase
Engine = Literal["forward", "weight_update", "backward"]
ENGINES: tuple[Engine, ...] = ("forward", "weight_update", "backward")


@dataclass(frozen=True, kw_only=True)
class Actions:
    """Event counts of one component (PE array, Acc, Soma or Grad); exact integers.

    lut_read / lut_write are 16-bit words of one sub-LUT; register_access is one 16-bit read or write;
    priority_encode is one Conv ID or one empty tag; soma_element / grad_element is one neuron update.
    """

    lut_read: int = 0
    lut_write: int = 0
    fp16_add: int = 0
    fp16_multiply: int = 0
    register_access: int = 0
    priority_encode: int = 0
    soma_element: int = 0
    grad_element: int = 0

    def __add__(self, other: Actions) -> Actions:
        return Actions(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


NO_ACTIONS = Actions()
ACTION_NAMES: tuple[str, ...] = tuple(f.name for f in fields(Actions))


@dataclass(frozen=True)
class BufferTraffic:
    """Bytes that one on-chip buffer (GLB) gave and took, engine side and memory side together."""

    buffer: str
    read_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Stalls:
    """Cycles in which the PE array waited, by cause."""

    memory_read: int = 0
    memory_write: int = 0
    dependency: int = 0

    @property
    def total(self) -> int:
        return self.memory_read + self.memory_write + self.dependency


@dataclass(frozen=True, kw_only=True)
class LayerActivity:
    """One layer in one phase on one engine, in the steady state of the pipeline.

    end_cycle - start_cycle = compute_cycles + fill_cycles + stalls.total, exactly.
    `neuron` counts the Soma unit's work (forward) or the Grad unit's (backward).
    `useful_operations` / `peak_operations` are the lane slots used and offered in compute_cycles.
    """

    layer: str
    phase: Phase
    engine: str
    start_cycle: int
    end_cycle: int
    compute_cycles: int
    fill_cycles: int
    stalls: Stalls
    pe_array: Actions
    acc: Actions
    neuron: Actions
    buffers: tuple[BufferTraffic, ...]
    offchip_read_bytes: int
    offchip_write_bytes: int
    useful_operations: int
    peak_operations: int


@dataclass(frozen=True, kw_only=True)
class MemorySlice:
    """One layer's use of one external memory: busy_cycles of transfers between start and end."""

    memory: str
    layer: str
    phase: Phase
    start_cycle: int
    end_cycle: int
    busy_cycles: int


@dataclass(frozen=True, kw_only=True)
class Activity:
    """All that one simulated training (or inference) step counted.

    first_cycles: latency of the first sub-batch alone; steady_cycles: period of a sub-batch with the
    pipeline full; batch_cycles: a whole batch group of `sub_batches` with its weight update (update_cycles).
    """

    layers: tuple[LayerActivity, ...]
    memory: tuple[MemorySlice, ...]
    first_cycles: int
    steady_cycles: int
    batch_cycles: int
    update_cycles: int
    sub_batches: int
    samples: int
