"""A training run in memory: its steps, its state to stop and continue, and the trace of a step."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from h2sim.datasets import Dataset
from h2sim.errors import TrainingError, at
from h2sim.export.record import StepRecord, step_meta
from h2sim.trace import write_trace
from h2sim.train import bptt
from h2sim.train.backends import decided
from h2sim.train.batches import Batch, BatchStream, Coding
from h2sim.train.network import Layer, SpikingNetwork
from h2sim.train.recipe import make_recipe
from h2sim.train.settings import Settings


def with_readout(layers: list[Layer], spikes: bool) -> list[Layer]:
    """A copy of the layers in which the last one spikes (spikes = True) or does not."""
    last = {key: value for key, value in layers[-1].items() if key != "spiking"}
    return [*layers[:-1], last if spikes else {**last, "spiking": False}]


class Trainer:
    """Trains the `layers` of a network on a data set by `settings`. Nothing else decides the outcome.

    input_entry: what metadata have under `input` (see trace.Network). device: torch's name of where the network is.
    iteration: batches that were trained. Raises TrainingError for an unknown recipe, and if network and data set do not
    fit.
    """

    def __init__(
        self,
        settings: Settings,
        layers: list[Layer],
        dataset: Dataset,
        input_entry: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.dataset = make_recipe(settings.recipe, settings.recipe_options), dataset
        given = self.recipe.options.model_dump(mode="json", exclude_defaults=True)
        self.settings = settings = self.recipe.settings(replace(settings, recipe_options=given))
        layers = self.recipe.layers(with_readout(layers, settings.objective.last_layer_spikes))
        generator = torch.Generator().manual_seed(settings.seed)
        self.input_entry = input_entry
        self.network = SpikingNetwork(
            layers, settings.neuron, generator, settings.objective.gradient_dtype,
            input_entry=input_entry, dropout_mask=settings.dropout_mask, trained_neurons=settings.trained_neurons,
        )  # fmt: skip
        self.network.backend = decided(settings, self.network)
        self.settings = settings = replace(settings, backend=self.network.backend)
        self.network.to(device)
        most = self.network.most_count or 1
        self.coding = Coding(settings.timesteps, self.network.reads_analog, settings.shift_pixels, most)
        self._check_fit()
        self.stream = BatchStream(dataset, self.coding, settings.batch, settings.seed, settings.train_samples)
        self.network.generator = self.stream.generator  # whose state a checkpoint holds
        if settings.initial_deviation is not None:
            self._normalise(settings.initial_deviation)
        self.iteration = 0
        self.recipe.begin(self)
        self.optimizer = self.recipe.optimizer(self)

    def _normalise(self, deviation: float) -> None:
        """Scales the initial weights by the first batch. Training uses this batch again."""
        first = BatchStream(self.dataset, self.coding, self.settings.batch, self.settings.seed, self.stream.available)
        self.network.normalise(next(first).inputs, self.settings.timesteps, deviation)

    def _check_fit(self) -> None:
        network, dataset = self.network, self.dataset
        shape = dataset.shape if len(network.input_shape) == 3 else (math.prod(dataset.shape),)
        if network.input_shape != tuple(shape):
            wanted = f"{list(network.input_shape)}, the network's input"
            raise TrainingError(at(dataset.name, "sample shape", wanted, list(dataset.shape)))
        if network.classes != dataset.classes:
            wanted = f"{dataset.classes}, the classes of {dataset.name}"
            raise TrainingError(at(self.settings.network, "last layer's features", wanted, network.classes))
        self.coding.check(dataset)

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations of one epoch."""
        return self.stream.batches_per_epoch

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return self.settings.epochs * self.iterations_per_epoch

    @property
    def epoch(self) -> int:
        """Number of epochs completed."""
        return self.iteration // self.iterations_per_epoch

    def step(self) -> float:
        """Trains one iteration. Returns its loss."""
        batch = self._next()
        loss = self.recipe.step(self, batch)
        self.iteration += 1
        return loss

    def recorded_step(self, samples: int, values: bool) -> tuple[float, list[StepRecord], Batch]:
        """Trains one iteration and records its first `samples`: (loss, a record of each update, the recorded samples).

        After the last iteration of the run nothing changes but the place in the data. values: see
        bptt.recorded_gradients.
        """
        batch, ended = self._next(), self.iteration >= self.iterations
        before = copy.deepcopy(self.state()) if ended else None
        loss, records = self.recipe.recorded_step(self, batch, samples, values)
        self.iteration += 1
        if before is not None:
            self.load_state({**before, "stream": self.stream.state()})
        return loss, records, batch.part(0, samples)

    def _next(self) -> Batch:
        self.optimizer.zero_grad(set_to_none=True)
        return next(self.stream)

    def update(self) -> None:
        """Updates the weights by their gradients, at the rate of this iteration, and clears the gradients.

        Raises TrainingError if a gradient is not finite.
        """
        for group, rate in zip(self.optimizer.param_groups, self.recipe.rates(self), strict=True):
            group["lr"] = rate
        try:
            bptt.update(self.network, self.optimizer, self.settings.objective)
        except TrainingError as error:
            raise TrainingError(f"iteration {self.iteration + 1}: {error}") from None
        self.optimizer.zero_grad(set_to_none=True)
        self.network.keep_neurons_possible()

    def accuracy(self, samples: int | None = None) -> float:
        """Share of the held-out samples that the network now classifies correctly, as the recipe reads it.

        samples: use so many only, spread over them (None: all).
        """
        return self.recipe.accuracy(self, samples)

    def state(self) -> dict[str, Any]:
        """Everything that changes while training."""
        return {
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stream": self.stream.state(),
            **({"recipe": kept} if (kept := self.recipe.state()) else {}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues where the run was whose state() returned `state`, and gives the same bytes as that run would
        have."""
        self.iteration = state["iteration"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.load_state(state["stream"])
        self.recipe.load_state(state.get("recipe", {}))

    def write_trace(
        self,
        path: Path,
        record: StepRecord,
        batch: Batch,
        source: dict[str, Any],
        level: int | None = 1,
        *,
        phases: tuple[str, ...] | None = None,
        input_gradient: bool | None = None,
    ) -> None:
        """Writes the trace of a recorded sub-batch.

        source: entries of the trace's `source` beside those of the settings (epoch, accuracy). level: compression, as
        in trace.write_trace; the default is fast, because training waits for it. phases, input_gradient: what was done
        with it [default: a training step, and what the recipe says].
        """
        fixed = {"kind": "training", "framework": f"torch {'.'.join(torch.__version__.split('+')[0].split('.')[:2])}"}
        of_phases: dict[str, Any] = {"phases": phases} if phases else {}
        meta = step_meta(
            network=self.settings.network,
            dataset=f"{self.dataset.name}, {'x'.join(map(str, self.dataset.shape[1:]))}",
            timesteps=self.recipe.trace_timesteps(self.settings),
            batch=len(batch.labels),
            neuron=self.settings.neuron.to_meta(),
            source={**fixed, **self._source(), "labels": batch.labels.tolist(), **source},
            layers=[self._entry(layer, record.layers[layer["name"]].neuron) for layer in self.network.layers],
            input=self.input_entry,
            input_gradient=self.recipe.input_gradient if input_gradient is None else input_gradient,
            **of_phases,
        )
        write_trace(path, meta, record.members(), level=level)

    def _source(self) -> dict[str, Any]:
        """The settings in the words of a trace's `source`; of dropout and norms only where there are any."""
        gates = any(layer["kind"] == "gate" for layer in self.network.layers)
        norms = {"norm_statistics": "of the traced samples alone"} if len(self.network.norms) else {}
        optimizer = self.recipe.optimizer_words(self.settings)
        words = self.settings.to_source(optimizer, self.recipe.options.model_dump(mode="json"))
        return {**words, **({"dropout_mask": self.settings.dropout_mask} if gates else {}), **norms}

    def _entry(self, layer: Layer, neuron: dict[str, Any] | None) -> Layer:
        """A layer of the network as a trace has it: weights with a bias, or without; neuron: of one that is trained."""
        name = layer["name"]
        layer = layer if neuron is None else layer | {"neuron": neuron}
        return layer | ({"bias": name in self.network.biases} if name in self.network.weights else {})
