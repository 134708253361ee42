"""Spikes under an attack: the activity of layers, and how far an attack moves their spikes (HIRE-SNN, section 5)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from h2sim.export.record import LayerRecord
from h2sim.train.trainer import Trainer

Counts = Mapping[str, torch.Tensor]  # by layer that spikes: spikes of each neuron over all timesteps, (N, ...)


@torch.no_grad()
def spike_counts(run: Trainer, images: torch.Tensor) -> Counts:
    """The spikes of every layer over the run's timesteps, for pictures (N, C, H, W)."""
    network, was_training = run.network, run.network.training
    records = {layer["name"]: LayerRecord(values=False) for layer in network.layers}
    network.eval()
    network(images.unsqueeze(0), run.settings.timesteps, records)
    network.train(was_training)
    found = {}
    for name, layer in network.described.items():
        packed = records[name].spikes
        if layer.spiking and packed is not None:
            shape = (len(images), *layer.out_chw)
            bits = np.unpackbits(packed, axis=-1, count=layer.neurons)
            found[name] = torch.from_numpy(bits.sum(0, dtype=np.float32).reshape(shape))
    return found


def spiking_activity(counts: Counts) -> dict[str, float]:
    """SA of each layer: spikes over all timesteps a neuron, the mean over samples. TASA is SA / T."""
    return {name: float(each.mean()) for name, each in counts.items()}


def perturbation_distance(ours: torch.Tensor, theirs: torch.Tensor, timesteps: int = 1) -> float:
    """PD: the 2-norm of the difference of two maps (N, ...), the mean over samples.

    timesteps: by which spike counts are divided, as [A] "normalised" is read; 1 for pictures.
    """
    return float(((ours - theirs) / timesteps).flatten(1).norm(dim=1).mean())
