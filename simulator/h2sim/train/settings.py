"""Everything that decides what a training run computes. A run's folder holds it as run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from h2sim.train.lif import Neuron
from h2sim.train.network import DropoutMask
from h2sim.train.objective import Objective

Schedule = Literal["linear", "constant"]
Backend = Literal["auto", "plain", "fused"]


@dataclass(frozen=True)
class Plan:
    """How many epochs a run was to have until it had made so many iterations."""

    epochs: int
    iterations: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train. The optimizer is the recipe's.

    schedule: its rate falls linearly from learning_rate to 0 over all iterations, or is constant. earlier: plans for
    other numbers of epochs, over which the rate fell then, the first one first; none where the rate is constant.
    batch: samples of one weight update. shift_pixels: augmentation (see batches.Coding). train_samples: train on so
    many samples of the training split only, spread over it (None: all). recipe: a name of registry.names().
    recipe_options: its own options, of which a trainer keeps those that are not the default. initial_deviation: scale
    the initial weights until every layer's current has this standard deviation over the first batch (None: keep them
    as drawn). start_from: the run folder whose weights this run starts with (None: random weights from `seed`).
    dropout_mask: whether dropout keeps the same neurons of a sample at all timesteps, or draws anew for each timestep.
    trained_neurons: whether threshold and decay of each layer are trained with the weights. backend: whether the
    backward pass finds membranes and spikes as the forward pass left them, or computes them again (see train.units);
    auto: a trainer decides by the network, see backends.decided.
    """

    network: str
    dataset: str
    epochs: int
    batch: int = 32
    learning_rate: float = 1e-3
    timesteps: int = 10
    shift_pixels: int = 0
    seed: int = 0
    train_samples: int | None = None
    recipe: str = "bptt"
    recipe_options: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    neuron: Neuron = field(default_factory=Neuron)
    initial_deviation: float | None = None
    start_from: str | None = None
    dropout_mask: DropoutMask = "sample"
    schedule: Schedule = "linear"
    trained_neurons: bool = False
    backend: Backend = "plain"
    earlier: tuple[Plan, ...] = ()

    def rate(self, iteration: int, per_epoch: int) -> float:
        """The learning rate of an iteration, counted from 0. per_epoch: iterations of one epoch."""
        if self.schedule == "constant":
            return self.learning_rate
        epochs = next((plan.epochs for plan in self.earlier if iteration < plan.iterations), self.epochs)
        return self.learning_rate * (1 - iteration / (epochs * per_epoch))

    def replanned(self, epochs: int, iterations: int) -> Settings:
        """The settings with another number of epochs, from where so many iterations are done.

        A plan by which nothing was done, or that goes on, leaves no trace.
        """
        earlier = self.earlier
        if self.schedule == "linear" and iterations > (earlier[-1].iterations if earlier else 0):
            earlier = (*earlier, Plan(self.epochs, iterations))
        if earlier and earlier[-1].epochs == epochs:
            earlier = earlier[:-1]
        return replace(self, epochs=epochs, earlier=earlier)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data for JSON; of the newer ones only those that are not the default."""
        data = {**asdict(self), "neuron": self.neuron.to_meta()}
        for name in ("dropout_mask", "schedule", "earlier", "recipe_options", "trained_neurons", "backend"):
            if getattr(self, name) == getattr(Settings, name, {}):
                del data[name]
        return data

    def to_source(self, optimizer: str, recipe_options: Mapping[str, Any]) -> dict[str, Any]:
        """The settings in the words of a trace's `source`; framework, epoch and accuracy are added by others.

        optimizer: the recipe's, in words; recipe_options: all that the recipe has.
        """
        shifts = f"shifts of up to {self.shift_pixels} pixels" if self.shift_pixels else "none"
        return {
            "recipe": self.recipe,
            **({"recipe_options": dict(recipe_options)} if recipe_options else {}),
            **self.objective.to_source(self.batch),
            "optimizer": optimizer,
            "augmentation": shifts,
            "seed": self.seed,
            **({"trained_neurons": True} if self.trained_neurons else {}),
            **({"backend": self.backend} if self.backend != "plain" else {}),
            **({"start_from": self.start_from} if self.start_from else {}),
        }

    @property
    def course(self) -> str:
        """How the rate goes, in words: `, falling ...`, or nothing where it stays."""
        if self.schedule == "constant":
            return ""
        if not self.earlier:
            return " falling linearly to 0"
        spans = [f"in {plan.epochs} epochs until iteration {plan.iterations}" for plan in self.earlier]
        return f" falling linearly to 0 {', then '.join([*spans, f'in {self.epochs} epochs'])}"
