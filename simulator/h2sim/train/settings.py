"""Everything that decides what a training run computes. A run's folder holds it as run.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from h2sim.train.lif import Neuron
from h2sim.train.network import DropoutMask
from h2sim.train.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train. The optimizer is Adam; its rate falls linearly from learning_rate to 0 over all iterations.

    batch: samples of one weight update. shift_pixels: augmentation (see batches.Coding). train_samples: train on the
    first so many samples of the training split only (None: all). recipe: a name of trainer.RECIPES. initial_deviation:
    scale the initial weights until every layer's current has this standard deviation over the first batch (None: keep
    them as drawn). start_from: the run folder whose weights this run starts with (None: random weights from `seed`).
    dropout_mask: whether dropout keeps the same neurons of a sample at all timesteps, or draws anew for each timestep.
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
    objective: Objective = field(default_factory=Objective)
    neuron: Neuron = field(default_factory=Neuron)
    initial_deviation: float | None = None
    start_from: str | None = None
    dropout_mask: DropoutMask = "sample"

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data for JSON; dropout_mask only where it is not the default."""
        data = {**asdict(self), "neuron": self.neuron.to_meta()}
        if self.dropout_mask == Settings.dropout_mask:
            del data["dropout_mask"]
        return data

    def to_source(self) -> dict[str, Any]:
        """The settings in the words of a trace's `source`; framework, epoch and accuracy are added by others."""
        shifts = f"shifts of up to {self.shift_pixels} pixels" if self.shift_pixels else "none"
        return {
            "recipe": self.recipe,
            **self.objective.to_source(self.batch),
            "optimizer": f"Adam, rate {self.learning_rate} falling linearly to 0, batch {self.batch}",
            "augmentation": shifts,
            "seed": self.seed,
            **({"start_from": self.start_from} if self.start_from else {}),
        }
