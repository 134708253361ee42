"""Regenerates the committed traces: python -m h2sim.train.make_traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from h2sim.errors import H2SimError

if TYPE_CHECKING:
    from h2sim.train.presets import Preset
    from h2sim.train.trainer import Trainer

SUB_BATCH = 4
NAMES = ("mnist-digits", "encode-residual")


def make_trace(preset: Preset, path: Path, progress: Progress) -> str:
    """Trains the preset's network, traces the first samples of the next batch, and returns a line for the user.

    The accuracy in it is that of the weights rounded to float16, which are what the trace holds.
    """
    from h2sim.datasets import load_dataset
    from h2sim.trace import load_network
    from h2sim.train.session import torch_session
    from h2sim.train.trainer import Trainer

    path.parent.mkdir(parents=True, exist_ok=True)
    settings = preset.settings
    task = progress.add_task(settings.network, total=None, loss="")
    with torch_session():
        dataset = load_dataset(settings.dataset, size=preset.size)
        trainer = Trainer(settings, list(load_network(settings.network).layers), dataset)
        while trainer.iteration < trainer.iterations:
            loss = trainer.step()
            progress.update(task, total=trainer.iterations, completed=trainer.iteration, loss=f"loss {loss:.3f}")
        accuracy = trace_next(trainer, path)
    return f"{path}: accuracy {accuracy:.1%} on {len(dataset.test)}, {path.stat().st_size} bytes"


def trace_next(trainer: Trainer, path: Path) -> float:
    """Rounds the weights to float16, then traces the first SUB_BATCH samples of the next batch alone.

    Returns the accuracy.
    """
    from h2sim.train import bptt

    settings, network = trainer.settings, trainer.network
    network.round_to_float16()
    accuracy = trainer.accuracy()
    batch = next(trainer.stream).part(0, SUB_BATCH)
    trainer.optimizer.zero_grad(set_to_none=True)
    loss, record = bptt.recorded_gradients(
        network, batch, settings.timesteps, settings.objective, SUB_BATCH, values=True
    )
    source = {
        **settings.objective.to_source(SUB_BATCH),
        "epoch": settings.epochs,
        "accuracy": accuracy,
        "loss_value": loss,
        "samples": f"the first {SUB_BATCH} of the batch after training: rows {batch.rows.tolist()} of mnist_5k.csv.gz",
    }
    trainer.write_trace(path, record, batch, source, level=None)
    return accuracy


@click.command(epilog="Example: python -m h2sim.train.make_traces --only encode-residual -o out")
@click.option("--only", type=click.Choice(NAMES), help="Make this trace and not the others.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files [default: their places in the checkout, which is then the current folder].",
)
def main(only: str | None, output: Path | None) -> None:
    """Train the networks of the committed traces and write their traces, with fixed seeds and one thread.

    Two runs on one machine write the same bytes; another kind of CPU may add in another order, and so differ.
    """
    try:
        from h2sim.train.presets import PRESETS
    except ModuleNotFoundError as error:
        click.echo(f"error: training needs {error.name}: pip install 'h2sim[train]'", err=True)
        sys.exit(2)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for name, preset in PRESETS.items():
            if only not in (None, name):
                continue
            path = output / Path(preset.file).name if output else Path(preset.file)
            try:
                progress.console.print(make_trace(preset, path, progress))
            except (H2SimError, OSError) as error:
                click.echo(f"error: {error}", err=True)
                sys.exit(2)


if __name__ == "__main__":
    main()
