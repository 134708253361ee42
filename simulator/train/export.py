"""Records one training sub-batch and writes it as a version-1 trace, with the values a functional check needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from h2sim.errors import OutputError
from h2sim.trace import write_trace
from h2sim.train.bptt import Batch, loss_of
from h2sim.train.lif import LayerRecord
from h2sim.train.network import SpikingNetwork


@dataclass(frozen=True)
class Recording:
    """One recorded step: a LayerRecord and the summed weight gradient per layer, and the mean loss."""

    layers: dict[str, LayerRecord]
    weight_grads: dict[str, torch.Tensor]
    loss: float


@torch.no_grad()
def round_to_float16(network: SpikingNetwork) -> None:
    """Give every weight and bias the nearest float16 value, as the FP16 machine stores them."""
    for parameter in network.parameters():
        parameter.copy_(parameter.half().to(parameter.dtype))


def record_step(network: SpikingNetwork, batch: Batch, timesteps: int) -> Recording:
    """One forward and backward pass over a sub-batch, without a weight update.

    The loss is the mean over the sub-batch; a weight gradient is autograd's, so the sum over samples and timesteps.
    """
    network.zero_grad(set_to_none=True)
    records: dict[str, LayerRecord] = {}
    loss = loss_of(network(batch.inputs, timesteps, records), batch.labels)
    loss.backward()
    grads = {name: weight.grad.clone() for name, weight in network.weights.items()}
    network.zero_grad(set_to_none=True)
    return Recording(records, grads, float(loss.detach()))


def pack_bits(mask: torch.Tensor) -> np.ndarray:
    """A mask (T, N, ...) as uint8 (T, N, ceil(neurons / 8)), most significant bit first, padding bits 0."""
    return np.packbits(mask.flatten(2).numpy() != 0, axis=2)


def trace_arrays(network: SpikingNetwork, batch: Batch, recording: Recording) -> dict[str, np.ndarray]:
    """The trace's members apart from `meta`.

    Membranes are rounded to float16 (the masks were decided on the float32 values); gradients stay
    float32, because most of them are below float16's normal range; weights are float16 already.
    """
    arrays = {}
    if network.reads_analog:
        arrays["input.analog"] = batch.inputs.numpy().astype(np.float32)
    else:
        arrays["input.spikes"] = pack_bits(batch.inputs)
    for name, record in recording.layers.items():
        if record.membrane is not None and record.spikes is not None and record.window is not None:
            arrays[f"{name}.spikes"] = pack_bits(record.spikes)
            arrays[f"{name}.window"] = pack_bits(record.window)
            arrays[f"{name}.membrane"] = record.membrane.numpy().astype(np.float16)
        if record.grad is None:
            raise ValueError(f"{name}: expected a recorded gradient; got none: was backward() called?")
        arrays[f"{name}.grad"] = pack_bits(record.grad)
        arrays[f"{name}.grad_membrane"] = record.grad.numpy().astype(np.float32)
        if name in network.weights:
            arrays[f"{name}.weight"] = _as_float16(network.weights[name], f"{name}.weight")
            arrays[f"{name}.bias"] = _as_float16(network.biases[name], f"{name}.bias")
            arrays[f"{name}.weight_grad"] = recording.weight_grads[name].numpy().astype(np.float32)
    return arrays


def _as_float16(parameter: torch.Tensor, member: str) -> np.ndarray:
    """A parameter that float16 holds without loss; raises OutputError otherwise (see round_to_float16)."""
    values = parameter.detach().numpy()
    stored = values.astype(np.float16)
    if not np.array_equal(stored.astype(values.dtype), values):
        raise OutputError(f"{member}: expected float16 values, so that the traced step used what is stored")
    return stored


def trace_meta(
    network: SpikingNetwork, name: str, dataset: str, timesteps: int, batch: Batch, source: dict[str, Any]
) -> dict[str, Any]:
    """The trace's `meta`; `source` adds to (epoch, accuracy, ...) what this trainer always does."""
    n_samples = len(batch.labels)
    fixed = {
        "kind": "training",
        "framework": f"torch {'.'.join(torch.__version__.split('+')[0].split('.')[:2])}",
        "recipe": "bptt",
        "loss": "cross-entropy",
        "readout": "mean current",
        "loss_reduction": f"mean over {n_samples}",
        "loss_scale": 1.0,
        "gradient_dtype": "float32",
        "labels": batch.labels.tolist(),
    }
    return {
        "format": "h2sim-trace",
        "version": 1,
        "network": name,
        "dataset": dataset,
        "timesteps": timesteps,
        "batch": n_samples,
        "phases": ["forward", "backward", "weight_update"],
        "neuron": network.neuron.to_meta(),
        "source": {**fixed, **source},
        "layers": network.layers,
    }


def export_trace(
    path: Path,
    network: SpikingNetwork,
    batch: Batch,
    timesteps: int,
    *,
    name: str,
    dataset: str,
    source: dict[str, Any],
) -> Recording:
    """Record one sub-batch and write it to `path`; the recorded loss joins `source` as `loss_value`.

    The network's parameters must be float16 values (round_to_float16). Raises OutputError.
    """
    recording = record_step(network, batch, timesteps)
    meta = trace_meta(network, name, dataset, timesteps, batch, {**source, "loss_value": recording.loss})
    write_trace(path, meta, trace_arrays(network, batch, recording))
    return recording
