"""A training algorithm as an object: what it does with a batch and with which optimizer, its options and its state.

A recipe of one's own is a subclass of `Recipe` in any package, registered there under the entry point `h2sim.recipes`:

    [project.entry-points."h2sim.recipes"]
    mine = "my_package.recipes:Mine"

Then `h2sim train --recipe mine` runs it, and `h2sim train --recipe mine --help` lists its options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import ConfigDict, ValidationError

from h2sim.errors import TrainingError
from h2sim.export.record import StepRecord
from h2sim.io.faults import describe
from h2sim.io.strict import Strict
from h2sim.train import bptt
from h2sim.train.batches import Batch
from h2sim.train.network import Layer
from h2sim.train.registry import find_recipe

if TYPE_CHECKING:
    from h2sim.train.settings import Settings
    from h2sim.train.trainer import Trainer


class Options(Strict):
    """The options of a recipe, a field each: its type, default, bounds and description make the command's option.

    Fields are int, float, bool, str or a Literal of words, or one of these or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Recipe:
    """Training by BPTT (eq. 2.1-2.6) and Adam: what a recipe changes of it, it overrides.

    options: an instance of Options. defaults: of the options that every recipe has, by the command's names, where this
    one's differ from the command's. updates: how often a batch updates the weights. A recipe may keep tensors and
    numbers from batch to batch: what `state` returns is in the checkpoint, so that a run that was killed goes on with
    it.
    """

    options_type: ClassVar[type[Options]] = Options
    defaults: ClassVar[Mapping[str, Any]] = {}
    name: ClassVar[str]

    def __init__(self, options: Options) -> None:
        self.options: Any = options

    @property
    def updates(self) -> int:
        """Updates of the weights in a batch."""
        return 1

    @property
    def input_gradient(self) -> bool:
        """Whether a step takes the gradient of the network input, too: traces say so."""
        return False

    def settings(self, settings: Settings) -> Settings:
        """The settings as this recipe takes them. Raises TrainingError for some that it cannot."""
        return settings

    def layers(self, layers: list[Layer]) -> list[Layer]:
        """The layers that are trained, made of those that were asked for."""
        return layers

    def optimizer(self, run: Trainer) -> torch.optim.Optimizer:
        """The optimizer of the network's parameters."""
        return torch.optim.Adam(run.network.parameters(), lr=run.settings.learning_rate)

    def optimizer_words(self, settings: Settings) -> str:
        """The optimizer and its schedule in the words of a trace's `source`."""
        return f"Adam, rate {settings.learning_rate}{settings.course}, batch {settings.batch}"

    def rates(self, run: Trainer) -> list[float]:
        """The learning rate of the present iteration, of each of the optimizer's groups of parameters."""
        rate = run.settings.rate(run.iteration, run.iterations_per_epoch)
        return [rate] * len(run.optimizer.param_groups)

    def begin(self, run: Trainer) -> None:
        """Called once the network has its first weights; those of a checkpoint or of another run come behind."""

    def trace_timesteps(self, settings: Settings) -> int:
        """The timesteps of what a step records."""
        return settings.timesteps

    def step(self, run: Trainer, batch: Batch) -> float:
        """Trains a batch: gradients, then `run.update()`, as often as `updates` says. Returns the loss."""
        loss = bptt.gradients(run.network, batch, run.settings.timesteps, run.settings.objective)
        run.update()
        return loss

    def recorded_step(self, run: Trainer, batch: Batch, samples: int, values: bool) -> tuple[float, list[StepRecord]]:
        """Does what `step` does and records the first `samples` of the batch: (loss, a record of each update).

        values: see bptt.recorded_gradients.
        """
        settings = run.settings
        loss, record = bptt.recorded_gradients(
            run.network, batch, settings.timesteps, settings.objective, samples, values
        )
        run.update()
        return loss, [record]

    def accuracy(self, run: Trainer, samples: int | None) -> float:
        """Share of the held-out samples that are classified correctly (see bptt.accuracy)."""
        return bptt.accuracy(run.network, run.dataset, run.coding, samples)

    def state(self) -> dict[str, Any]:
        """What changes from batch to batch beside network, optimizer and batches: tensors and plain data by name."""
        return {}

    def check_state(self, state: Mapping[str, Any], run: Trainer, iteration: int) -> None:
        """Raises ValueError, `field: expected ...; got ...`, for a state that no run of this recipe can have had.

        iteration: batches that had been trained by then.
        """
        if state:
            raise ValueError(f"{next(iter(state))}: expected no such field; got one")

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with a state."""


class Bptt(Recipe):
    """Backpropagation through time, as it stands in the source."""

    name = "bptt"


def make_recipe(name: str, options: Mapping[str, Any]) -> Recipe:
    """A recipe with its options. Raises TrainingError, a line per option that is unknown or cannot be."""
    kind: type[Recipe] = find_recipe(name)
    try:
        return kind(kind.options_type.model_validate(dict(options)))
    except ValidationError as error:
        raise TrainingError(*describe(error, kind.options_type, f"recipe {name}")) from None
