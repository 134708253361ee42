"""The network at the end of a training run, as commands that train nothing read it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.support import Decorated, IntsType, find_network
from h2sim.errors import TrainingError, at

if TYPE_CHECKING:
    from h2sim.datasets import Dataset
    from h2sim.train.trainer import Trainer


def data_options(command: Decorated) -> Decorated:
    """`--data`, `--size` and `--channels`: how a command finds and reads a data set of pictures."""
    for option in (
        click.option("--channels", type=click.IntRange(1, 1024), help="Grey images are repeated in so many."),
        click.option("--size", type=IntsType("H,W"), help="H,W that samples are resized to."),
        click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="Where the data set's files are."),
    ):
        command = option(command)
    return command


def load_data(run: str, dataset: str, options: Mapping[str, Any]) -> Dataset:
    """The data set, over the run's timesteps. options: `data`, `size` and `channels`, as `h2sim train` has them."""
    from h2sim.datasets import load_dataset
    from h2sim.train.run_json import settings_of

    steps = settings_of(Path(run)).timesteps
    size, channels = options["size"], options["channels"]
    return load_dataset(dataset, folder=options["data"], size=size, timesteps=steps, channels=channels)


def sha256_of_run(run: str) -> str:
    """Which weights a run has: the hash of its checkpoint."""
    return hashlib.sha256((Path(run) / "checkpoint.pt").read_bytes()).hexdigest()


def load_trained(run: str, data: Dataset, network: str | None) -> Trainer:
    """The network at the end of a run. network: its file, where the name in run.json does not lead to it."""
    from h2sim.train.folder import start_weights
    from h2sim.train.run_json import settings_of
    from h2sim.train.trainer import Trainer

    settings = settings_of(Path(run))
    described = find_network(network or settings.network, data.shape, data.classes)
    if network and described.name != settings.network:
        raise TrainingError(at(run, "network", repr(settings.network), repr(described.name)))
    settings = replace(settings, batch=1, train_samples=None, initial_deviation=None)  # nothing is trained
    trainer = Trainer(settings, list(described.layers), data, described.input_entry)
    start_weights(trainer, Path(run))
    return trainer
