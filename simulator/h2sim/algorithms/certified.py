"""Certified training (chapter 6): BPTT, and the cross-entropy of bounds that hold for every input near a sample.

The loss is (1 - w) l1 + w l2: l1 of the network over T timesteps, l2 of the lower bounds of its margins over T'
timesteps (see certify.robust). The set's width rises linearly from 0 with the batches; its random numbers are drawn
from the stream of batches, so that a run that goes on draws what the other would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from h2sim.certify.affine import check_layer
from h2sim.certify.bounding import bounds
from h2sim.certify.fire import check_neuron
from h2sim.certify.robust import Bound, boundary, margins, robust_loss
from h2sim.errors import NetworkError, TrainingError, at
from h2sim.export.record import StepRecord
from h2sim.train import bptt
from h2sim.train.batches import Batch
from h2sim.train.recipe import Options, Recipe

if TYPE_CHECKING:
    from h2sim.train.settings import Settings
    from h2sim.train.trainer import Trainer

NEURON: Mapping[str, Any] = {"threshold": 0.25, "decay": 0.25, "window": (-0.25, 0.75)}  # section 6.3.1 and the code


class CertifiedOptions(Options):
    """What is bounded, and how much it weighs."""

    epsilon: float = Field(0.1, ge=0, le=1, description="Width of the box of a pixel, or share of spikes, in the end.")
    certified_timesteps: int = Field(3, ge=1, le=4096, description="T', the timesteps of the bounds.")
    bound: Bound = Field("crown", description="The bounds of the loss: S-CROWN's, S-IBP's, or the larger of both.")
    weight: float = Field(0.6, ge=0, le=1, description="Of the bounds' loss; the rest is the plain one's.")
    ramp: float = Field(0.83, ge=0, le=1, description="Share of the batches over which epsilon rises from 0.")
    clip_norm: float | None = Field(0.25, gt=0, description="Largest norm of the gradient; none: it is not clipped.")


class Certified(Recipe):
    """BPTT with a second loss, of bounds."""

    name = "certified"
    options_type: ClassVar[type[Options]] = CertifiedOptions
    defaults: ClassVar[Mapping[str, Any]] = {**NEURON, "window": "-0.25,0.75", "readout": "rate", "batch": 64}

    def __init__(self, options: CertifiedOptions) -> None:
        super().__init__(options)
        self.how = options

    def settings(self, settings: Settings) -> Settings:
        if settings.timesteps < self.how.certified_timesteps:
            wanted = f"at least {self.how.certified_timesteps}, those of the bounds"
            raise TrainingError(at("recipe certified", "timesteps", wanted, settings.timesteps))
        return settings

    def begin(self, run: Trainer) -> None:
        try:
            for name, layer in run.network.described.items():
                check_layer(layer)
                if layer.spiking:
                    check_neuron(name, run.network.neurons[name])
        except NetworkError as error:
            raise TrainingError(f"recipe certified: {error}") from None

    def epsilon(self, run: Trainer) -> float:
        """The width that the present batch is bounded for."""
        whole = self.how.ramp * run.iterations
        return self.how.epsilon * (min(1.0, run.iteration / whole) if whole > 0 else 1.0)

    def step(self, run: Trainer, batch: Batch) -> float:
        loss = bptt.gradients(run.network, batch, run.settings.timesteps, run.settings.objective)
        return self._updated(run, batch, loss)

    def recorded_step(self, run: Trainer, batch: Batch, samples: int, values: bool) -> tuple[float, list[StepRecord]]:
        """The record is of the plain part: a trace has no bounds."""
        settings = run.settings
        loss, record = bptt.recorded_gradients(
            run.network, batch, settings.timesteps, settings.objective, samples, values
        )
        return self._updated(run, batch, loss), [record]

    def _updated(self, run: Trainer, batch: Batch, plain: float) -> float:
        """Adds the gradient of the bounds to that of the plain loss, and updates. Returns the whole loss."""
        weight, scale = self.how.weight, run.settings.objective.loss_scale
        parameters = [each for each in run.network.parameters() if each.requires_grad]
        for each in parameters:
            if each.grad is not None:
                each.grad *= 1 - weight
        steps = self.how.certified_timesteps
        near = boundary(run.network, batch, self.epsilon(run), steps, run.stream.generator)
        found = bounds(run.network, near.lower, near.upper, batch.labels, timesteps=steps)
        of_bounds = robust_loss(margins(found, self.how.bound))
        if not torch.isfinite(of_bounds):
            raise TrainingError(f"loss of the bounds: expected a finite value; got {float(of_bounds.detach())}")
        torch.autograd.backward(of_bounds * (weight * scale))
        if self.how.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.how.clip_norm * scale)
        run.update()
        return (1 - weight) * plain + weight * float(of_bounds.detach())


def certified_settings(network: str, dataset: str, timesteps: int, **others: Any) -> Settings:
    """Settings of this recipe with its defaults, as the command has them. others: fields of Settings."""
    from h2sim.train.lif import Neuron
    from h2sim.train.objective import Objective
    from h2sim.train.settings import Settings

    given = {
        "recipe": Certified.name, "objective": Objective(readout="rate"), "neuron": Neuron(**NEURON),
        "batch": Certified.defaults["batch"], "epochs": 1,
    }  # fmt: skip
    return Settings(network=network, dataset=dataset, timesteps=timesteps, **{**given, **others})
