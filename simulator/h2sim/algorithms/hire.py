"""HIRE-SNN: hybrid training on inputs with crafted noise (seed 001, algorithm 1), at the cost of traditional training.

A batch is trained in N periods of T/N timesteps. Each adds the noise kappa to the pixels, takes the gradients of
weights, thresholds, leaks and pixels in one backward pass, moves kappa by the sign of the last (eq. 6), and updates the
rest. kappa is never reset: a batch begins with that of the batch before, and so does a run that goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from h2sim.algorithms.diet import Diet, DietOptions
from h2sim.errors import TrainingError, at
from h2sim.export.record import StepRecord
from h2sim.train import bptt
from h2sim.train.batches import Batch
from h2sim.train.network import Carried
from h2sim.train.recipe import Options

if TYPE_CHECKING:
    from h2sim.train.settings import Settings
    from h2sim.train.trainer import Trainer


class HireOptions(DietOptions):
    """How noise is crafted."""

    periods: int = Field(2, ge=1, le=64, description="N, updates of a batch, each of T / N timesteps.")
    noise_step: float = Field(0.013, ge=0, le=1, description="eps_s, by which a period moves the noise of a pixel.")
    noise_bound: float | None = Field(None, ge=0, le=1, description="eps_t, its largest size [default: the step].")
    noise: Literal["crafted", "gaussian", "none"] = Field(
        "crafted", description="Or, as a control, Gaussian of deviation eps_s anew in each period; or none."
    )
    carry: bool = Field(False, description="Membranes run on from period to period, instead of beginning at 0.")
    clip: bool = Field(False, description="Keep pixels with noise within 0 and 1.")

    @property
    def bound(self) -> float:
        """eps_t."""
        return self.noise_step if self.noise_bound is None else self.noise_bound


class Hire(Diet):
    """DIET-SNN's training on inputs with noise, several periods a batch."""

    name = "hire"
    options_type: ClassVar[type[Options]] = HireOptions
    defaults: ClassVar[Mapping[str, Any]] = {**Diet.defaults, "batch": 32}

    def __init__(self, options: HireOptions) -> None:
        super().__init__(options)
        self.how = options
        self.kappa: torch.Tensor | None = None

    @property
    def updates(self) -> int:
        return self.how.periods

    @property
    def input_gradient(self) -> bool:
        return self.how.noise == "crafted"

    def settings(self, settings: Settings) -> Settings:
        if settings.timesteps < self.how.periods:
            wanted = f"at least {self.how.periods}, a timestep for each period"
            raise TrainingError(at("recipe hire", "timesteps", wanted, settings.timesteps))
        return settings

    def begin(self, run: Trainer) -> None:
        super().begin(run)
        if not run.network.reads_analog or run.dataset.kind == "events":
            raise TrainingError(at("recipe hire", "input", "pixels that the first layer encodes", "spikes or frames"))

    def step(self, run: Trainer, batch: Batch) -> float:
        losses, carried = [], self._carried()
        for part, steps in self._periods(run, batch):
            losses.append(bptt.gradients(run.network, part, steps, run.settings.objective, carried))
            self._move(part.inputs)
            run.update()
        return sum(losses) / len(losses)

    def recorded_step(self, run: Trainer, batch: Batch, samples: int, values: bool) -> tuple[float, list[StepRecord]]:
        losses, records, carried = [], list[StepRecord](), (self._carried(), self._carried())
        for part, steps in self._periods(run, batch):
            values = values and not (self.how.carry and records)  # traces begin with m = 0, and could not be verified
            loss, record = bptt.recorded_gradients(
                run.network, part, steps, run.settings.objective, samples, values, carried
            )
            self._move(part.inputs)
            run.update()
            losses.append(loss)
            records.append(record)
        return sum(losses) / len(losses), records

    def trace_timesteps(self, settings: Settings) -> int:
        return settings.timesteps // self.how.periods

    def _periods(self, run: Trainer, batch: Batch) -> Iterator[tuple[Batch, int]]:
        """The batch with noise and the timesteps, of each period. T / N is rounded down, as in the source."""
        for _ in range(self.how.periods):
            inputs = batch.inputs + self._noise(run, batch.inputs)
            if self.how.clip:
                inputs = inputs.clamp(0, 1)
            if self.input_gradient:
                inputs.requires_grad_()
            yield replace(batch, inputs=inputs), self.trace_timesteps(run.settings)

    def _carried(self) -> Carried | None:
        return {} if self.how.carry else None

    def _noise(self, run: Trainer, inputs: torch.Tensor) -> torch.Tensor:
        if self.how.noise == "gaussian":
            return self.how.noise_step * torch.randn(inputs.shape, generator=run.stream.generator)
        if self.kappa is None:
            self.kappa = torch.zeros_like(inputs)
        return self.kappa

    def _move(self, inputs: torch.Tensor) -> None:
        """Eq. 6: kappa <- clip(kappa + eps_s sign(dL/dx), -eps_t, eps_t)."""
        if self.input_gradient:
            assert inputs.grad is not None
            assert self.kappa is not None
            self.kappa = moved(self.kappa, inputs.grad, self.how.noise_step, self.how.bound)

    def state(self) -> dict[str, Any]:
        return {} if self.kappa is None else {"kappa": self.kappa}

    def check_state(self, state: Mapping[str, Any], run: Trainer, iteration: int) -> None:
        wanted = self.how.noise != "gaussian" and iteration > 0
        super().check_state({name: value for name, value in state.items() if name != "kappa"}, run, iteration)
        kappa = state.get("kappa")
        if kappa is None:
            if wanted:
                raise ValueError("kappa: expected the noise of the last batch; got none")
            return
        shape = (1, run.settings.batch, *run.dataset.shape)
        if not isinstance(kappa, torch.Tensor) or kappa.dtype != torch.float32 or tuple(kappa.shape) != shape:
            got = f"{kappa.dtype} of shape {list(kappa.shape)}" if isinstance(kappa, torch.Tensor) else "no tensor"
            raise ValueError(f"kappa: expected float32 of shape {list(shape)}; got {got}")
        if not bool((kappa.abs() <= torch.tensor(self.how.bound)).all()):  # nan is not
            raise ValueError(f"kappa: expected numbers of at most {self.how.bound:g}; got others")

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.kappa = state.get("kappa")


def moved(kappa: torch.Tensor, gradient: torch.Tensor, step: float, bound: float) -> torch.Tensor:
    """The noise after a period (eq. 6), of the gradient of the loss by the pixels."""
    return (kappa + step * gradient.sign()).clamp(-bound, bound)
