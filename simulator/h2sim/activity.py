"""What a simulation counts: cycles, stalls and events, before any price is put on them.

An Activity knows nothing of energy: pricing it with another energy table needs no new simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Phase = Literal["forward", "backward", "weight_update"]
PHASES: tuple[Phase, ...] = ("forward", "backward", "weight_update")
JobKey = tuple[str, Phase]  # (layer, phase)
Engine = Literal["forward", "weight_update", "backward"]
ENGINES: tuple[Engine, ...] = ("forward", "weight_update", "backward")


@dataclass(frozen=True, kw_only=True)
class Actions:
    """Exact event counts of one component: PE array, Acc, Soma or Grad.

    lut_read and lut_write: 16-bit words of one sub-LUT. fp16_add and fp16_multiply: operations. register_access: reads
    and writes of 16 bits. priority_encode: Conv IDs and empty tags that the finders emit. soma_element and
    grad_element: updates of one neuron at one timestep.
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
    """Bytes that were read from and written to one on-chip buffer (GLB), by the engine and by memory together."""

    buffer: str
    read_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Stalls:
    """Cycles in which the PE array waited, by cause.

    memory_read: for operands on their way from memory; memory_write: for room in the output buffer; dependency: for
    the results of jobs before it.
    """

    memory_read: int = 0
    memory_write: int = 0
    dependency: int = 0

    @property
    def total(self) -> int:
        """Stall cycles of all causes."""
        return self.memory_read + self.memory_write + self.dependency


@dataclass(frozen=True)
class Bound:
    """Cycles of the critical path that one resource holds for one cause.

    resource: an engine or a memory; cause: compute or fill (engines), read or write (memories).
    """

    resource: str
    cause: str
    cycles: int


@dataclass(frozen=True)
class Bounds:
    """What bounds a step: its critical path, walked back from the last cycle.

    parts: the path by resource and cause, the largest first; they add up to the step. critical_cycles: the path's share
    of each row of Activity.layers, which add up to the step too. ideal_memory_cycles: the step with memories whose
    transfers take no time.
    """

    parts: tuple[Bound, ...]
    critical_cycles: tuple[int, ...]
    ideal_memory_cycles: int


@dataclass(frozen=True, kw_only=True)
class LayerActivity:
    """What one layer did in one phase on one engine, in the steady state of the pipeline.

    end_cycle - start_cycle = compute_cycles + fill_cycles + stalls.total, exactly. neuron: events of the Soma unit
    (forward) or of the Grad unit (backward). buffers: traffic of the engine's on-chip buffers; offchip_read_bytes and
    offchip_write_bytes: of all external memories. useful_operations: slots of lanes that did work in compute_cycles;
    peak_operations: slots that there were.
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

    def __repr__(self) -> str:
        when = f"cycles {self.start_cycle} to {self.end_cycle}"
        return f"LayerActivity({self.layer} {self.phase} on {self.engine}: {when})"


@dataclass(frozen=True, kw_only=True)
class MemorySlice:
    """One layer's use of one external memory: busy_cycles of transfers between start_cycle and end_cycle."""

    memory: str
    layer: str
    phase: Phase
    start_cycle: int
    end_cycle: int
    busy_cycles: int


@dataclass(frozen=True, kw_only=True)
class SteadyState:
    """What one sub-batch does with the pipeline full: all that a price needs.

    layers and memory: its rows, and how they used the memories. steady_cycles: cycles from one sub-batch to the next.
    samples: of one sub-batch. bounds: what bounds it, where that was asked for.
    """

    layers: tuple[LayerActivity, ...]
    memory: tuple[MemorySlice, ...]
    steady_cycles: int
    samples: int
    bounds: Bounds | None = None

    def __repr__(self) -> str:
        rows = f"{len(self.layers)} rows, {self.steady_cycles} cycles per sub-batch of {self.samples} samples"
        return f"{type(self).__name__}({rows})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Activity(SteadyState):
    """All that one simulated training (or inference) step counted.

    first_cycles: latency of the first sub-batch alone; update_cycles: the weight update that ends a batch group;
    batch_cycles = first_cycles + (sub_batches - 1) * steady_cycles + update_cycles.
    """

    first_cycles: int
    batch_cycles: int
    update_cycles: int
    sub_batches: int
