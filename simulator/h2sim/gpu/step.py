"""One real training step on a device, with marks or without: forward pass over all timesteps, loss, backward pass,
Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.baselines import RUN_BY
from h2sim.gpu.clock import Clock, Label, Marks
from h2sim.gpu.implementations import Implementation
from h2sim.gpu.network import Marked, Plain
from h2sim.trace import version_of
from h2sim.trace.model import VERSION
from h2sim.train.batches import rate_spikes
from h2sim.train.lif import Neuron
from h2sim.train.network import SpikingNetwork
from h2sim.train.objective import Objective
from h2sim.train.trainer import with_readout

LEARNING_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is trained.

    layers: those of a trace's meta. neuron: of all layers. implementation: a name of baselines.RUN_BY. Raises
    GpuTraceError for an unknown one.
    """

    name: str
    layers: tuple[dict[str, Any], ...]
    neuron: Neuron
    timesteps: int
    batch: int
    implementation: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.implementation not in RUN_BY:
            known = f"one of {', '.join(RUN_BY)}"
            raise GpuTraceError(at(self.name, "implementation", known, repr(self.implementation)))


class TrainingStep:
    """The training step of a workload on a device. Every step sees the same synthetic samples.

    The last layer does not spike; the loss is the cross-entropy of its mean current. Samples are uniform noise of the
    input's shape, rate-coded if the first layer reads spikes. The initial weights are scaled until the standard
    deviation of each layer's current is its threshold, so that neurons spike. The batch is copied to the device in
    every step. If the last layer is no fc layer, each of its values counts as a class.
    """

    def __init__(self, workload: Workload, device: str, dtype: torch.dtype = torch.float32) -> None:
        self.workload, self.device = workload, torch.device(device)
        generator = torch.Generator().manual_seed(workload.seed)
        layers = with_readout(list(workload.layers), spikes=False)
        _check_known(workload.name, layers)
        self.network = SpikingNetwork(layers, workload.neuron, generator).to(self.device, dtype)
        self.inputs = self._samples(generator).to(dtype)
        self.labels = torch.randint(0, self.network.classes, (workload.batch,), generator=generator)
        self.network.normalise(self.inputs.to(self.device), workload.timesteps, max(workload.neuron.threshold, 1e-3))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.objective = Objective()
        self.way = RUN_BY[workload.implementation](self.network, workload.timesteps)

    def _samples(self, generator: torch.Generator) -> torch.Tensor:
        images = torch.rand((self.workload.batch, *self.network.input_shape), generator=generator)
        if self.network.reads_analog:
            return images.unsqueeze(0)
        return rate_spikes(images, self.workload.timesteps, generator)

    def describe_samples(self) -> str:
        """The trace's description of the samples."""
        coding = "" if self.network.reads_analog else ", rate-coded"
        shape = "x".join(map(str, self.network.input_shape))
        return f"synthetic: uniform noise of {shape}{coding}, random labels (a dense step costs the same)"

    def gradients(self, ops: Plain, way: Implementation | None = None) -> torch.Tensor:
        """Computes the gradients of a step, which stand in .grad afterwards. Returns the loss.

        way: another implementation than the workload's.
        """
        ops.set("data")
        inputs, labels = self.inputs.to(self.device), self.labels.to(self.device)
        ops.set("optimizer")
        self.optimizer.zero_grad(set_to_none=True)
        return (way or self.way).gradients(ops, inputs, labels, self.objective)

    def step(self, ops: Plain | None = None) -> None:
        """Runs one whole step, the weight update included."""
        ops = ops or Plain(self.network)
        self.gradients(ops)
        ops.set("optimizer")
        self.optimizer.step()

    def prepare(self) -> None:
        """Nothing: the network holds no state from one step to the next."""

    def marked_step(self, clock: Clock) -> tuple[float, dict[Label, float]]:
        """Runs one step with marks: (its seconds, seconds by layer and phase). The latter add up to the former."""
        clock.wait()
        marks = Marks(clock)
        self.step(Marked(self.network, marks))
        return marks.end()

    def check(self) -> None:
        """Raises GpuTraceError if weights are not finite, for a step on such weights may take another time."""
        for name, parameter in self.network.named_parameters():
            if not math.isfinite(float(parameter.detach().sum())):
                raise GpuTraceError(at(self.workload.name, name, "finite weights after the steps", "NaN or Inf"))


def _check_known(name: str, layers: list[dict[str, Any]]) -> None:
    """Raises GpuTraceError for layers that the implementations do not know."""
    if version_of({"layers": layers}) != VERSION:
        wanted = f"those of trace version {VERSION}: convolutions, products, sums, averages that fire"
        raise GpuTraceError(at(name, "layers", wanted, "others"))
    without = [layer["name"] for layer in layers if layer.get("bias") is False]
    if without:
        raise GpuTraceError(at(name, f"layer {without[0]}", "a bias", "none"))
