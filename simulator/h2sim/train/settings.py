"""Everything that decides what a training run computes; a run's folder holds it as run.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from h2sim.train.lif import Neuron
from h2sim.train.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train: Adam, whose rate falls linearly from learning_rate to 0 over all iterations.

    shift_pixels is augmentation; train_samples uses only the first so many samples of the training split.
    initial_deviation scales the initial weights until every layer's current has that standard deviation over the first
    batch (None: as drawn). start_from is the run folder whose weights this one starts with (None: random, from seed).
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        return {**asdict(self), "neuron": self.neuron.to_meta()}

    def to_source(self) -> dict[str, Any]:
        """What a trace's `source` says of the run, beside framework, epoch and accuracy."""
        shifts = f"shifts of up to {self.shift_pixels} pixels" if self.shift_pixels else "none"
        return {
            "recipe": self.recipe,
            **self.objective.to_source(self.batch),
            "optimizer": f"Adam, rate {self.learning_rate} falling linearly to 0, batch {self.batch}",
            "augmentation": shifts,
            "seed": self.seed,
            **({"start_from": self.start_from} if self.start_from else {}),
        }
