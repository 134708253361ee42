"""What thresholds come to: the accuracy of a network over time on some pictures, by this process or by several."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from h2sim.arch import Arch
from h2sim.arrays import Array, Float32s, Ints
from h2sim.energy import EnergyTable
from h2sim.errors import TrainingError, at
from h2sim.evolve.cost import Latency
from h2sim.evolve.search import Accuracies
from h2sim.export.record import LayerRecord, StepRecord, step_meta
from h2sim.facade import simulate
from h2sim.trace import load_trace, write_trace
from h2sim.train.batches import coded_batch
from h2sim.train.lif import Neuron
from h2sim.train.network import Layer, SpikingNetwork, over_time
from h2sim.train.session import torch_session
from h2sim.train.trainer import Trainer

PART = 250  # pictures that are classified at once
TRACED = 4  # pictures of a trace
Measure = Literal["steps", "cycles", "joules"]


@dataclass(frozen=True)
class Trial:
    """A network and pictures: all that a process needs to say what thresholds come to.

    state: its weights by name, thresholds and leaks among them. images: (N, C, H, W); labels: (N,). timesteps: T.
    """

    layers: list[Layer]
    neuron: Neuron
    input_entry: dict[str, Any] | None
    state: Mapping[str, Array]
    images: Float32s
    labels: Ints
    timesteps: int

    @classmethod
    def of(cls, run: Trainer, images: int, timesteps: int) -> Trial:
        """A trial of a trained network on `images` pictures of its training split, chosen by the run's seed.

        Raises TrainingError for a network that reads no pixels or whose thresholds are not trained.
        """
        if not run.network.reads_analog or run.dataset.kind == "events":
            raise TrainingError(at("evolution", "network", "one whose first layer encodes pixels", "spikes or frames"))
        if not run.settings.trained_neurons:
            raise TrainingError(
                at("evolution", "network", "one with a threshold for each layer (h2sim convert)", "none")
            )
        data, seed = run.dataset, run.settings.seed
        rows = np.random.default_rng([seed, 2]).permutation(len(data.train))[:images]
        batch = coded_batch(data, data.train, rows, run.coding, torch.Generator(), shift=False)
        return cls(
            run.network.layers, run.settings.neuron, run.input_entry,
            {name: value.numpy().copy() for name, value in run.network.state_dict().items()},
            batch.inputs[0].numpy(), batch.labels.numpy(), timesteps,
        )  # fmt: skip

    def network(self) -> SpikingNetwork:
        """The network, ready to classify."""
        generator = torch.Generator().manual_seed(0)
        made = SpikingNetwork(self.layers, self.neuron, generator, input_entry=self.input_entry, trained_neurons=True)
        made.load_state_dict({name: torch.from_numpy(value) for name, value in self.state.items()})
        return made.eval()

    @property
    def thresholds(self) -> dict[str, float]:
        """The network's own thresholds by layer, in order."""
        network = self.network()
        names = [name for name, layer in network.described.items() if layer.spiking]
        return {name: float(network.thresholds[name].detach()) for name in names}


class Running:
    """A trial in this process."""

    def __init__(self, trial: Trial) -> None:
        self._trial, self._network = trial, trial.network()
        self._images = torch.from_numpy(trial.images)
        self._labels = torch.from_numpy(trial.labels)

    @torch.no_grad()
    def accuracies(self, thresholds: Sequence[float]) -> Accuracies:
        """Accuracy by the output summed up to t = 1 .. T, with these thresholds."""
        set_thresholds(self._network, thresholds)
        steps = self._trial.timesteps
        right = torch.zeros(steps, dtype=torch.int64)
        for start in range(0, len(self._images), PART):
            images, labels = self._images[start : start + PART], self._labels[start : start + PART]
            scores = over_time(self._network(images.unsqueeze(0), steps), steps).cumsum(0)
            right += (scores.argmax(2) == labels).sum(1)
        return tuple(int(n) / len(self._images) for n in right)

    @torch.no_grad()
    def activity(self, thresholds: Sequence[float], timesteps: int, folder: Path) -> Path:
        """An inference trace of the first pictures with these thresholds over so many timesteps."""
        set_thresholds(self._network, thresholds)
        images = self._images[:TRACED]
        record = StepRecord()
        record.layers = {layer["name"]: LayerRecord(values=False) for layer in self._network.layers}
        self._network(images.unsqueeze(0), timesteps, record.layers)
        record.input_analog = images.unsqueeze(0).numpy()
        neurons = {name: found.neuron for name, found in record.layers.items()}
        layers = [layer if neurons[layer["name"]] is None else {**layer, "neuron": neurons[layer["name"]]}
                  for layer in self._network.layers]  # fmt: skip
        meta = step_meta(
            network="evolved", dataset="training pictures", timesteps=timesteps, batch=len(images),
            neuron=self._trial.neuron.to_meta(), source={"kind": "inference"}, layers=layers, phases=("forward",),
            input=self._trial.input_entry,
        )  # fmt: skip
        path = folder / f"{timesteps}.npz"
        write_trace(path, meta, record.members(), compress=False)
        return path


def set_thresholds(network: SpikingNetwork, thresholds: Sequence[float]) -> None:
    """Gives the layers that fire these thresholds, in their order."""
    names = [name for name, layer in network.described.items() if layer.spiking]
    with torch.no_grad():
        for name, threshold in zip(names, thresholds, strict=True):
            network.thresholds[name].fill_(threshold)


_running: Running | None = None  # of a worker process


def _begin(trial: Trial) -> None:
    global _running
    torch.set_num_threads(1)
    _running = Running(trial)


def _accuracies(thresholds: Sequence[float]) -> Accuracies:
    assert _running is not None
    return _running.accuracies(thresholds)


@contextmanager
def tries(trial: Trial, workers: int) -> Iterator[Callable[[Iterable[Sequence[float]]], Iterator[Accuracies]]]:
    """A function from thresholds to accuracies, in their order, by so many processes; 1: this one.

    Each uses one thread, so that the same thresholds come to the same accuracies however many there are.
    """
    if workers == 1:
        with torch_session(1):
            running = Running(trial)
            yield lambda rows: map(running.accuracies, rows)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (trial,)) as pool:
        yield lambda rows: pool.map(_accuracies, list(rows))


def simulated(trial: Trial, measure: Measure, arch: Arch, table: EnergyTable) -> Callable[[Sequence[float]], Latency]:
    """A latency that is simulated: cycles or on-chip joules of a sub-batch's inference up to a timestep.

    They are counted in those that one timestep takes with the network's own thresholds, so that alpha weighs the same.
    """
    running, kept = Running(trial), dict[tuple[tuple[float, ...], int], float]()

    def taken(thresholds: Sequence[float], timesteps: int) -> float:
        key = (tuple(thresholds), timesteps)
        if key not in kept:
            with tempfile.TemporaryDirectory(prefix="h2sim-evolve-") as folder:
                result = simulate(arch, load_trace(running.activity(thresholds, timesteps, Path(folder))), table)
            cycles, joules = float(result.activity.steady_cycles), result.cost.energy_j
            kept[key] = cycles if measure == "cycles" else joules
        return kept[key]

    unit = taken(tuple(trial.thresholds.values()), 1)
    return lambda thresholds: lambda timestep: taken(thresholds, timestep) / unit
