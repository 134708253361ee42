"""Regenerates the committed traces: python -m h2sim.train.make_traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from h2sim.errors import H2SimError

if TYPE_CHECKING:
    from h2sim.train.bptt import Recipe
    from h2sim.train.presets import Preset

SUB_BATCH = 4
CHOICE = f"the first {SUB_BATCH} of the batch after training: rows"
NAMES = ("mnist-digits", "encode-residual")


def recipe_entries(recipe: Recipe) -> dict[str, Any]:
    """What a trace's `source` says of the recipe."""
    return {
        "epoch": recipe.epochs,
        "optimizer": f"Adam, rate {recipe.learning_rate} falling linearly to 0, batch {recipe.batch}",
        "augmentation": f"shifts of up to {recipe.shift_pixels} pixels" if recipe.shift_pixels else "none",
        "seed": recipe.seed,
    }


def make_trace(preset: Preset, path: Path, progress: Progress) -> str:
    """Train the preset's network, trace the first samples of the next batch, and say how it went.

    The accuracy is that of the float16 weights, which are what the trace holds.
    """
    import torch

    from h2sim.train import bptt, data, export
    from h2sim.train.network import SpikingNetwork

    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = preset.recipe
    task = progress.add_task(preset.network, total=None, loss="")
    with bptt.torch_session():
        digits = data.load_digits(preset.image_size)
        network = SpikingNetwork(preset.layers, preset.neuron, torch.Generator().manual_seed(recipe.seed))

        def show(step: bptt.Step) -> None:
            progress.update(task, total=step.total, completed=step.iteration, loss=f"loss {step.loss:.3f}")

        stream = bptt.train(network, digits, recipe, show)
        export.round_to_float16(network)
        accuracy = bptt.accuracy(network, digits, recipe.timesteps)
        batch = bptt.first_samples(next(stream), SUB_BATCH)
        rows = digits.train_rows[batch.indices.numpy()].tolist()
        source = {**recipe_entries(recipe), "accuracy": accuracy, "samples": f"{CHOICE} {rows} of mnist_5k.csv.gz"}
        labels = {"name": preset.network, "dataset": f"{data.DATASET}, {preset.image_size}x{preset.image_size}"}
        export.export_trace(path, network, batch, recipe.timesteps, **labels, source=source)
    return f"{path}: accuracy {accuracy:.1%} on {len(digits.test_labels)}, {path.stat().st_size} bytes"


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
        from h2sim.train.presets import presets
    except ModuleNotFoundError as error:
        click.echo(f"error: training needs {error.name}: pip install 'h2sim[train]'", err=True)
        sys.exit(2)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for name, preset in presets().items():
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
