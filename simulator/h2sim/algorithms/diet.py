"""DIET-SNN: hybrid training of a converted network by BPTT, with threshold and leak of each layer trained (seed 003).

Membranes are u[t] = lam (u[t-1] - v o[t-1]) + I[t], spikes where u > v, the surrogate a triangle of height gamma, the
loss the cross-entropy of the output summed over time. `h2sim convert` gives the first weights and thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from h2sim.algorithms.ann import without_biases
from h2sim.train.lif import Neuron
from h2sim.train.network import Layer
from h2sim.train.objective import Objective
from h2sim.train.recipe import Options, Recipe

if TYPE_CHECKING:
    from h2sim.train.settings import Settings
    from h2sim.train.trainer import Trainer

GAMMA = 0.3  # height of the triangle, as the authors' code has it
NEURON: Mapping[str, Any] = {
    "threshold": 1.0,
    "decay": 1.0,
    "reset": "subtract",
    "surrogate": "triangle",
    "surrogate_scale": GAMMA,
    "detach_reset": True,
    "fires_at": "greater",
}


class DietOptions(Options):
    """How a converted network is trained."""

    neuron_rate: float | None = Field(
        None, gt=0, description="Learning rate of thresholds and leaks [default: that of the weights]."
    )
    freeze_neurons: bool = Field(False, description="Leave thresholds and leaks as conversion made them.")


class Diet(Recipe):
    """Adam (amsgrad) on weights, thresholds and leaks."""

    name = "diet"
    options_type: ClassVar[type[Options]] = DietOptions
    defaults: ClassVar[Mapping[str, Any]] = {
        **NEURON, "readout": "sum", "train_neurons": True, "learning_rate": 1e-4, "batch": 64,
    }  # fmt: skip

    def layers(self, layers: list[Layer]) -> list[Layer]:
        return without_biases(layers)

    def begin(self, run: Trainer) -> None:
        if self.options.freeze_neurons:
            for parameter in (*run.network.thresholds.parameters(), *run.network.decays.parameters()):
                parameter.requires_grad_(False)

    def optimizer(self, run: Trainer) -> torch.optim.Optimizer:
        network, rate = run.network, run.settings.learning_rate
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        neurons = [*network.thresholds.parameters(), *network.decays.parameters()]
        if self.options.neuron_rate is None or self.options.freeze_neurons or not neurons:
            return torch.optim.Adam(trained, lr=rate, amsgrad=True)
        own = {id(parameter) for parameter in neurons}
        weights = [parameter for parameter in trained if id(parameter) not in own]
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": neurons, "lr": self.options.neuron_rate}]
        return torch.optim.Adam(groups, lr=rate, amsgrad=True)

    def rates(self, run: Trainer) -> list[float]:
        weights, *_ = super().rates(run)
        share = (self.options.neuron_rate or run.settings.learning_rate) / run.settings.learning_rate
        return [weights, weights * share][: len(run.optimizer.param_groups)]

    def optimizer_words(self, settings: Settings) -> str:
        own = (
            f", of neurons {self.options.neuron_rate:g}"
            if self.options.neuron_rate and settings.trained_neurons
            else ""
        )
        return f"Adam (amsgrad), rate {settings.learning_rate}{own}{settings.course}, batch {settings.batch}"


def diet_settings(network: str, dataset: str, timesteps: int, **others: Any) -> Settings:
    """Settings of this recipe with its defaults, as the command has them. others: fields of Settings."""
    from h2sim.train.settings import Settings

    given = {
        "recipe": Diet.name, "objective": Objective(readout="sum"), "neuron": Neuron(**NEURON), "trained_neurons": True,
        "learning_rate": Diet.defaults["learning_rate"], "batch": Diet.defaults["batch"], "epochs": 1,
    }  # fmt: skip
    return Settings(network=network, dataset=dataset, timesteps=timesteps, **{**given, **others})
