"""Ways to run a network's training step in PyTorch, by name: the baselines that an accelerator is compared with.

All but SpikingJelly's fused ones compute the reference's values: the same loss and gradients, but for rounding.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.utils.checkpoint import checkpoint

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.network import Plain, by_layer, spread, through_steps, vanilla
from h2sim.gpu.trace import RowPhase
from h2sim.train.lif import Neuron, lif
from h2sim.train.network import Layer, SpikingNetwork
from h2sim.train.objective import Objective
from h2sim.train.units import Flow, Watch, Work

REFERENCE = "layerwise"
COMPILER = "inductor"  # of torch.compile


class Implementation:
    """One way to run the step of a network. A subclass overrides what differs.

    marked: whether marks can divide its step among layers and phases. warm_up: the fewest steps before any counts.
    compiles: whether its first step makes code. counts_memory: whether torch counts the tensors that its step holds.
    notes: what a reader must know of its numbers.
    """

    marked: ClassVar[bool] = True
    warm_up: ClassVar[int] = 0
    compiles: ClassVar[bool] = False
    counts_memory: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, network: SpikingNetwork, timesteps: int) -> None:
        self.network, self.timesteps = network, timesteps

    @classmethod
    def lacks(cls, neurons: list[Neuron], device: str) -> tuple[str, str] | None:
        """(What it needs, what there is instead), in words; None where it can run."""
        return None

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        """The last layer's output (T, N, classes) for inputs (T or 1, N, C, H, W)."""
        raise NotImplementedError

    def gradients(self, ops: Plain, inputs: torch.Tensor, labels: torch.Tensor, objective: Objective) -> torch.Tensor:
        """The loss of a batch, whose gradients stand in the parameters' .grad afterwards; .grad is None before."""
        output = self.output(ops, inputs)
        ops.set("loss")
        loss = objective.value(output.flatten(2), labels)
        torch.autograd.backward(loss)
        return loss.detach()


class Vanilla(Implementation):
    """Timesteps outside, layers inside, each operation by autograd: the source's baseline (section 3.3.1; STBP)."""

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        return vanilla(ops, inputs, self.timesteps)


class Layerwise(Implementation):
    """Layer by layer over all timesteps, as SpikingNetwork runs with the backend 'plain': the reference.

    On a GPU the neurons are a Python loop over timesteps; m and s are kept.
    """

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        return by_layer(ops, inputs, self.timesteps, lif)


class Compiled(Implementation):
    """torch.compile of the layer-by-layer pass, whose neurons are plain operations of each timestep, in one graph."""

    marked, compiles, warm_up = False, True, 3
    notes = ("rows: none; torch.compile fuses operations of several layers, and a mark would break its graph",)

    def __init__(self, network: SpikingNetwork, timesteps: int) -> None:
        super().__init__(network, timesteps)
        ops = Plain(network)

        def run(inputs: torch.Tensor) -> torch.Tensor:
            return by_layer(ops, inputs, timesteps, through_steps)

        torch.compiler.reset()
        self._run = torch.compile(run, fullgraph=True, dynamic=False, backend=COMPILER)

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():  # Dynamo makes an instance of each autograd.Function, and torch warns of it
            warnings.filterwarnings("ignore", message=".*should not be instantiated", category=DeprecationWarning)
            return self._run(inputs)

    def gradients(self, ops: Plain, inputs: torch.Tensor, labels: torch.Tensor, objective: Objective) -> torch.Tensor:
        try:
            return super().gradients(ops, inputs, labels, objective)
        except torch.OutOfMemoryError:
            raise
        except Exception as fault:  # a compiler that is missing, or what one cannot compile, in classes of many kinds
            said = " ".join(str(fault).split()) or type(fault).__name__
            wanted = "torch.compile to make code here"
            raise GpuTraceError(at("gpu record", "--implementation compiled", wanted, said[:200])) from fault


class Graph(Vanilla):
    """Forward and backward pass of `vanilla` as a CUDA graph, which is replayed: no launch waits for the processor."""

    marked, counts_memory, warm_up = False, False, 3
    notes = (
        "rows: none; the replayed graph is one launch",
        "loss, forward and backward pass are the graph; copies of the batch and the optimizer run outside it",
        "most memory held: not known, torch counts none of a graph's own while it is replayed",
    )

    def __init__(self, network: SpikingNetwork, timesteps: int) -> None:
        super().__init__(network, timesteps)
        self._graph: torch.cuda.CUDAGraph | None = None

    @classmethod
    def lacks(cls, neurons: list[Neuron], device: str) -> tuple[str, str] | None:
        return None if device.startswith("cuda") else ("--device cuda", device)

    def gradients(self, ops: Plain, inputs: torch.Tensor, labels: torch.Tensor, objective: Objective) -> torch.Tensor:
        if self._graph is None:
            self._capture(inputs, labels, objective)
        assert self._graph is not None
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._graph.replay()
        for parameter, grad in self._grads:
            parameter.grad = grad  # the optimizer's zero_grad took it away
        return self._loss.detach()

    def _capture(self, inputs: torch.Tensor, labels: torch.Tensor, objective: Objective) -> None:
        """Records one pass. The passes before it, on a stream of their own, choose algorithms and fill caches."""
        plain, parameters = Plain(self.network), list(self.network.parameters())
        self._inputs, self._labels = inputs.clone(), labels.clone()

        def run() -> torch.Tensor:
            return super(Graph, self).gradients(plain, self._inputs, self._labels, objective)

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self.warm_up):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in parameters:
            parameter.grad = None  # so that the graph makes gradients of its own and adds to none
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = run()
        self._grads = [(parameter, parameter.grad) for parameter in parameters]


class Checkpointed(Implementation):
    """torch.utils.checkpoint around each [LIF -> operation]: currents are kept, m and s computed again."""

    notes = ("what the backward pass computes again stands in the forward rows",)

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        network = self.network
        readers = Counter(source for layer in network.layers for source in layer["inputs"])
        values: dict[str, torch.Tensor] = {"input": inputs}
        waiting: dict[str, Layer] = {}  # whose value is a current that has not fired yet
        for layer in network.layers:
            name, read = layer["name"], [values[source] for source in layer["inputs"]]
            firing = [waiting.get(source) for source in layer["inputs"]]
            value = self._again(self._reads(ops, layer, firing), read) if any(firing) else _current(ops, layer, read)
            value = spread(value, self.timesteps)
            if not layer.get("spiking", True):
                value = ops.leave(layer, value)
            elif readers[name] == 1:
                waiting[name] = layer
            else:  # several layers read the spikes, or the loss does
                value = self._again(lambda x, layer=layer: self._fired(ops, layer, x), [value])
            values[name] = value
        return values[network.layers[-1]["name"]]

    def _again(self, region: Callable[..., torch.Tensor], read: list[torch.Tensor]) -> torch.Tensor:
        made: torch.Tensor = checkpoint(region, *read, use_reentrant=False, preserve_rng_state=False)
        return made

    def _reads(self, ops: Plain, layer: Layer, firing: list[Layer | None]) -> Callable[..., torch.Tensor]:
        """The layer's current from what it reads; the currents of `firing` layers become spikes first."""

        def region(*read: torch.Tensor) -> torch.Tensor:
            spikes = [x if of is None else self._fired(ops, of, x) for of, x in zip(firing, read, strict=True)]
            return _current(ops, layer, spikes)

        return region

    def _fired(self, ops: Plain, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        ops.enter(layer)
        return ops.leave(layer, lif(x, self.network.neurons[layer["name"]]))


def _current(ops: Plain, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
    ops.enter(layer)
    return ops.current(layer, inputs)


class Units(Implementation):
    """Chapter 4 of the source: units [LIF -> operation] of h2sim.fused, which keep currents alone."""

    notes = ("what the backward pass computes again stands in the forward rows",)

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        return _MarkedFlow(ops, self.timesteps).output(inputs)


class _MarkedFlow(Flow):
    """Flow, with a mark where the work of a layer and phase begins."""

    def __init__(self, ops: Plain, timesteps: int) -> None:
        super().__init__(ops.network, timesteps, None)
        self.ops, self.entries = ops, {layer["name"]: layer for layer in ops.network.layers}

    def made(self, layer: Any, record: Any) -> torch.Tensor:
        entry = self.entries[layer.name]
        self.ops.enter(entry)
        return self.ops.leave(entry, super().made(layer, record))

    def current(self, layer: Any, reads: list[torch.Tensor], record: Any) -> torch.Tensor:
        return self.ops.current(self.entries[layer.name], reads)

    def watch(self, neurons: str, reader: str) -> Watch:
        rows: dict[Work, tuple[str, RowPhase]] = {
            "spikes": (neurons, "forward"), "reading": (reader, "forward"), "weights": (reader, "weight_update"),
            "inputs": (reader, "backward"), "neurons": (neurons, "backward"),
        }  # fmt: skip
        return lambda work: self.ops.begin(*rows[work])
