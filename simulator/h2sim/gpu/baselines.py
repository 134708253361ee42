"""What runs under each name of an implementation, and which of them can run here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.implementations import Checkpointed, Compiled, Graph, Implementation, Layerwise, Units, Vanilla
from h2sim.gpu.spiking_jelly import SpikingJelly, SpikingJellyCuda, SpikingJellyTriton
from h2sim.train.lif import Neuron

if TYPE_CHECKING:
    from h2sim.gpu.step import Workload

RUN_BY: Final[dict[str, type[Implementation]]] = {
    "vanilla": Vanilla,
    "layerwise": Layerwise,
    "compiled": Compiled,
    "graph": Graph,
    "checkpoint": Checkpointed,
    "chapter4": Units,
    "spikingjelly": SpikingJelly,
    "spikingjelly-triton": SpikingJellyTriton,
    "spikingjelly-cuda": SpikingJellyCuda,
}


def check_can_run(workloads: Iterable[Workload], device: str) -> None:
    """Raises GpuTraceError, one line for each that the device, or its network's neurons, cannot run."""
    faults = []
    for workload in workloads:
        neurons = [
            Neuron.from_meta({**workload.neuron.to_meta(), **layer.get("neuron", {})}) for layer in workload.layers
        ]
        if needs := RUN_BY[workload.implementation].lacks(neurons, device):
            faults.append(at("gpu record", f"--implementation {workload.implementation}", *needs))
    if faults:
        raise GpuTraceError(*faults)
