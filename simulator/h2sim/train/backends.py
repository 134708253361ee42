"""Which backend trains a network: layer by layer with all that autograd keeps, or in fused units that keep currents."""

from __future__ import annotations

from h2sim.errors import TrainingError, at
from h2sim.train.network import Backend, SpikingNetwork
from h2sim.train.settings import Settings

FUSED_FROM_BYTES = 1 << 30  # [A] what autograd keeps, above which auto takes units; the same on every machine


def decided(settings: Settings, network: SpikingNetwork) -> Backend:
    """The backend of the settings; of auto, 'fused' where 'plain' would keep more than FUSED_FROM_BYTES.

    Raises TrainingError for fused units where neurons are trained, whose membranes have to be kept.
    """
    if settings.trained_neurons:
        if settings.backend == "fused":
            raise TrainingError(at("training", "--backend", "plain or auto with --train-neurons", "fused"))
        return "plain"
    if settings.backend != "auto":
        return settings.backend
    return "fused" if kept_bytes(network, settings.timesteps * settings.batch) > FUSED_FROM_BYTES else "plain"


def kept_bytes(network: SpikingNetwork, maps: int) -> int:
    """What 'plain' keeps of `maps` timesteps x samples, in bytes: float32 m and s of each neuron, x before a norm."""
    layers = [layer for layer in network.described.values() if layer.spiking]
    return 4 * maps * sum(layer.neurons * (3 if layer.norm else 2) for layer in layers)
