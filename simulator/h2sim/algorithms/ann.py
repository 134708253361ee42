"""The network without spikes of the same shape: a relu in place of each neuron, one timestep, no biases.

A spiking network of the same weights is made of it by `h2sim convert`. Its traces are those of analog operands, so that
the machine can be asked what this training costs, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from h2sim.errors import TrainingError, at
from h2sim.train.network import Layer
from h2sim.train.recipe import Options, Recipe

if TYPE_CHECKING:
    from h2sim.train.settings import Settings
    from h2sim.train.trainer import Trainer

NEURONS = ("encode", "conv", "fc", "pool", "add")  # kinds that fire unless they say otherwise
FC_DEVIATION = 0.01  # of the first weights of fully connected layers, as the authors' code has it


class AnnOptions(Options):
    """How the network without spikes is trained."""

    momentum: float = Field(0.9, ge=0, lt=1, description="Of SGD.")
    initialisation: Literal["he", "uniform"] = Field(
        "he", description="First weights: normal, deviation sqrt(2 / (k^2 C_out)) (fc: 0.01), or uniform by fan in."
    )


class Ann(Recipe):
    """SGD on the network without spikes."""

    name = "ann"
    options_type: ClassVar[type[Options]] = AnnOptions
    defaults: ClassVar[Mapping[str, Any]] = {"timesteps": 1, "learning_rate": 0.01, "batch": 64}
    options: AnnOptions

    def settings(self, settings: Settings) -> Settings:
        if settings.timesteps != 1:
            raise TrainingError(at("recipe ann", "timesteps", "1, for nothing spikes", settings.timesteps))
        if settings.objective.last_layer_spikes:
            raise TrainingError(at("recipe ann", "readout", "current or sum, for nothing spikes", "rate"))
        return settings

    def layers(self, layers: list[Layer]) -> list[Layer]:
        return without_spikes(without_biases(layers))

    def begin(self, run: Trainer) -> None:
        if self.options.initialisation == "he":
            draw_weights(run)

    def optimizer(self, run: Trainer) -> torch.optim.Optimizer:
        return torch.optim.SGD(run.network.parameters(), lr=run.settings.learning_rate, momentum=self.options.momentum)

    def optimizer_words(self, settings: Settings) -> str:
        how = f"SGD, momentum {self.options.momentum:g}, rate {settings.learning_rate}{settings.course}"
        return f"{how}, batch {settings.batch}"


def without_biases(layers: list[Layer]) -> list[Layer]:
    """The layers, of which none adds a bias: what conversion scales is the weights alone."""
    return [layer | {"bias": False} if layer["kind"] in ("encode", "conv", "fc") else layer for layer in layers]


def without_spikes(layers: list[Layer]) -> list[Layer]:
    """The layers with a relu in place of each neuron; a layer keeps its name, its relu is `<name>.relu`."""
    made: list[Layer] = []
    read_as: dict[str, str] = {}
    for layer in layers:
        inputs = [read_as.get(name, name) for name in layer["inputs"]]
        plain = {key: value for key, value in layer.items() if key not in ("neuron", "inputs")}
        if layer["kind"] in NEURONS and layer.get("spiking", True):
            shape = layer["out_shape"] if "out_shape" in layer else [layer["out_features"], 1, 1]
            made.append({**plain, "inputs": inputs, "spiking": False})
            relu = f"{layer['name']}.relu"
            made.append(
                {"name": relu, "kind": "relu", "inputs": [layer["name"]], "in_shape": shape, "out_shape": shape}
            )
            read_as[layer["name"]] = relu
        else:
            made.append({**plain, "inputs": inputs})
    return made


@torch.no_grad()
def draw_weights(run: Trainer) -> None:
    """First weights as the authors' code draws them: convolutions N(0, 2 / (k^2 C_out)), fc N(0, 0.01^2)."""
    generator = torch.Generator().manual_seed(run.settings.seed)
    for name, layer in run.network.described.items():
        if not layer.has_weights:
            continue
        weight = run.network.weights[name]
        deviation = FC_DEVIATION
        if layer.kind != "fc":
            assert layer.kernel is not None
            deviation = math.sqrt(2 / (math.prod(layer.kernel) * layer.out_chw[0]))
        weight.normal_(0.0, deviation, generator=generator)


def ann_settings(network: str, dataset: str, **others: Any) -> Settings:
    """Settings of this recipe with its defaults, as the command has them. others: fields of Settings."""
    from h2sim.train.settings import Settings

    given = {"recipe": Ann.name, "epochs": 1, **Ann.defaults}
    return Settings(network=network, dataset=dataset, **{**given, **others})
