"""One training step by BPTT, whole or recorded, and the accuracy on held-out samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from h2sim.datasets import Dataset
from h2sim.errors import TrainingError
from h2sim.export.record import LayerRecord, StepRecord, half, pack_bits
from h2sim.train.batches import Batch, Coding, held_out
from h2sim.train.network import Carried, SpikingNetwork
from h2sim.train.objective import Objective


def gradients(
    network: SpikingNetwork, batch: Batch, timesteps: int, objective: Objective, carried: Carried | None = None
) -> float:
    """Runs forward and backward pass of a batch. Returns the loss. carried: see SpikingNetwork.forward.

    Each parameter's .grad is then d(loss x loss_scale)/d(parameter); the returned loss is not scaled. Raises
    TrainingError if the loss is not finite.
    """
    return _part(network, batch, timesteps, objective, len(batch.labels), None, carried)


def recorded_gradients(
    network: SpikingNetwork,
    batch: Batch,
    timesteps: int,
    objective: Objective,
    samples: int,
    values: bool,
    carried: tuple[Carried | None, Carried | None] = (None, None),
) -> tuple[float, StepRecord]:
    """Does what `gradients` does, and records the first `samples` of the batch: (loss, record).

    The recorded samples run by themselves, then the rest of the batch, as the sub-batches of a batch group do. The
    gradients differ from those of `gradients` only by the order of summation; but batch norm takes the statistics of
    each part, and dropout draws for each. values: the record also keeps membranes, gradients and weights, not only the
    masks. carried: of the recorded samples, and of the rest.
    """
    record, total = StepRecord(), len(batch.labels)
    record.layers = {layer["name"]: LayerRecord(values=values) for layer in network.layers}
    first = batch.part(0, samples)
    loss = _part(network, first, timesteps, objective, total, record.layers, carried[0])
    inputs = first.inputs.detach().numpy()
    if network.reads_analog:
        record.input_analog = inputs
    elif network.most_count is not None:
        record.input_counts = inputs.astype(np.uint8 if network.most_count < 256 else np.uint16)
    else:
        record.input_spikes = pack_bits(inputs != 0)
    if values:
        _keep_parameters(network, record)
    if samples < total:
        loss += _part(network, batch.part(samples, total), timesteps, objective, total, None, carried[1])
    return loss, record


def _part(
    network: SpikingNetwork,
    part: Batch,
    timesteps: int,
    objective: Objective,
    batch: int,
    records: dict[str, LayerRecord] | None,
    carried: Carried | None,
) -> float:
    loss = objective.value(network(part.inputs, timesteps, records, carried), part.labels, batch)
    if not torch.isfinite(loss):
        raise TrainingError(f"loss: expected a finite value; got {float(loss.detach())}: try a smaller --learning-rate")
    torch.autograd.backward(loss * objective.loss_scale if objective.loss_scale != 1 else loss)
    return float(loss.detach())


def _keep_parameters(network: SpikingNetwork, record: StepRecord) -> None:
    """Keeps weights, biases and the present weight gradients, which are those of the recorded samples."""
    for name, layer in record.layers.items():
        norm = network.norm(name)
        if norm is not None:
            layer.norm_weight, layer.norm_bias = _stored(norm.weight), _stored(norm.bias)
        if name not in network.weights:
            continue
        weight, bias = network.weights[name], network.biases.get(name)
        grad = weight.grad
        layer.weight, layer.bias = _stored(weight), None if bias is None else _stored(bias)
        layer.weight_grad = None if grad is None else grad.detach().cpu().numpy().copy()


def _stored(parameter: torch.Tensor) -> npt.NDArray[np.floating]:
    """The values as float16 if that loses nothing, else as they are."""
    values = parameter.detach().cpu().numpy()
    narrow = half(values)
    return narrow if np.array_equal(narrow.astype(values.dtype), values) else values.copy()


def update(network: SpikingNetwork, optimizer: torch.optim.Optimizer, objective: Objective) -> None:
    """Divides each .grad by loss_scale, then lets the optimizer update the weights.

    Raises TrainingError if a gradient is not finite.
    """
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            continue
        if objective.loss_scale != 1:
            parameter.grad /= objective.loss_scale
        if not bool(torch.isfinite(parameter.grad.sum())):
            hint = "try a smaller --loss-scale or --learning-rate"
            raise TrainingError(f"{name}: gradient: expected finite values; got NaN or Inf: {hint}")
    optimizer.step()


@torch.no_grad()
def accuracy(
    network: SpikingNetwork, dataset: Dataset, coding: Coding, samples: int | None = None, seed: int = 1
) -> float:
    """Share of the held-out samples that the network classifies correctly, with running statistics and no dropout.

    samples: use so many only, spread over them (None: all). seed: of the random spikes that images are coded as.
    """
    right = count = 0
    network.eval()
    for batch in held_out(dataset, coding, samples, seed):
        output = network(batch.inputs, coding.timesteps).mean(0)
        right += int((output.argmax(1).cpu() == batch.labels).sum())
        count += len(batch.labels)
    network.train()
    return right / count
