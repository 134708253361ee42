"""The implementations of a training step by name, in a line each; baselines.py holds what runs."""

from __future__ import annotations

from typing import Final

IMPLEMENTATIONS: Final[dict[str, str]] = {
    "vanilla": "timesteps outside, as the source's baseline",
    "layerwise": "layer by layer; the reference",
    "compiled": "torch.compile of layerwise",
    "graph": "CUDA graph of vanilla",
    "checkpoint": "layerwise, membranes and spikes computed again",
    "chapter4": "units of h2sim.fused",
    "spikingjelly": "its torch formulas",
    "spikingjelly-triton": "its Triton kernels",
    "spikingjelly-cuda": "its native kernels",
}
