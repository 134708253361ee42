"""`h2sim train`: train a network and trace steps of the training."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from h2sim.cli.names import DATA_SET, NETWORK, RECIPE
from h2sim.cli.outputs import check_name
from h2sim.cli.plots import plot_options
from h2sim.cli.recipes import RecipeCommand, given_options
from h2sim.cli.support import Decorated, extra, find_network, say, show
from h2sim.cli.trained import data_options
from h2sim.cli.types import ParamType, Positive, is_count
from h2sim.errors import NetworkError, TrainingError, at
from h2sim.train.registry import PLAIN

if TYPE_CHECKING:
    from h2sim.document.pictures import Plots
    from h2sim.trace import Network
    from h2sim.train.folder import Report, RunFolder, TracePlan
    from h2sim.train.settings import Settings
    from h2sim.train.trainer import Trainer

MOST = 1_000_000  # epochs, traced steps of one
MOST_LEARNING_RATE = 1e30  # Adam's first step is ten times that, in float32
RESETS = ("zero", "subtract", "subtract-after-leak", "none")
DTYPES = ("float32", "float16", "float16-flush")


class EpochsType(ParamType[tuple[str, ...]]):
    """0,2,last."""

    name = "epochs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        parts = [part.strip() for part in value.split(",")]
        if not all(part == "last" or is_count(part) for part in parts):
            self.fail(f"expected epochs such as 0,2,last; got {value[:40]!r}", param, ctx)
        return tuple(parts)


class PairType(ParamType[tuple[float, float]]):
    """LOW,HIGH."""

    name = "low,high"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        try:
            low, high = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected two numbers LOW,HIGH; got {value!r}", param, ctx)
        return low, high


def _neuron_options(command: Decorated) -> Decorated:
    for option in (
        click.option(
            "--train-neurons/--no-train-neurons", default=False, help="Train threshold and decay of each layer, too."
        ),
        click.option(
            "--detach-reset/--attach-reset",
            default=False,
            help="Leave the reset's term of eq. 2.4 out of the gradient.",
        ),
        click.option(
            "--surrogate",
            type=click.Choice(["rectangle", "triangle"]),
            help="Its shape; a triangle's window is 0,2 th_f [default: rectangle].",
        ),
        click.option("--reset", type=click.Choice(RESETS), help="What a spike does to m [default: zero]."),
        click.option("--surrogate-scale", type=float, help="eta, the surrogate's height [default: 1]."),
        click.option("--window", type=PairType(), help="th_l,th_r [default: the network's, or 0.05,0.55]."),
        click.option("--decay", type=float, help="alpha [default: the network's, or 0.25]."),
        click.option(
            "--fires-at",
            type=click.Choice(["greater_equal", "greater"]),
            help="m >= th_f, or m > th_f [default: the network's, or greater_equal].",
        ),
        click.option("--threshold", type=float, help="th_f [default: the network's, or 0.3]."),
    ):
        command = option(command)
    return command


def _objective_options(command: Decorated) -> Decorated:
    for option in (
        click.option("--gradient-dtype", type=click.Choice(DTYPES), default="float32", show_default=True,
                     help="What gradients are rounded to; -flush: subnormals are 0."),
        click.option("--loss-scale", type=Positive(), default=1.0, show_default=True),
        click.option("--reduction", type=click.Choice(["mean", "sum"]), default="mean", show_default=True,
                     help="Of the loss over the samples of a batch."),
        click.option("--readout", type=click.Choice(["current", "sum", "rate"]), default="current", show_default=True,
                     help="The last layer's mean current, its sum over time, or its spike rate."),
        click.option("--loss", type=click.Choice(["ce", "mse"]), default="ce", show_default=True),
    ):  # fmt: skip
        command = option(command)
    return command


def _trace_options(command: Decorated) -> Decorated:
    for option in (
        click.option("--trace-values", is_flag=True, help="Also what `h2sim verify` needs (larger files)."),
        click.option("--trace-samples", type=click.IntRange(1), default=4, show_default=True, help="Of a sub-batch."),
        click.option("--trace-batches", type=click.IntRange(1, MOST), default=1, show_default=True,
                     help="Steps an epoch."),
        click.option("--trace-epochs", type=EpochsType(), default="last", show_default=True, metavar="E,E,...",
                     help="Trace the first steps after these epochs (0: before training)."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=RecipeCommand)
@click.argument("network", type=NETWORK)
@click.argument("dataset", type=DATA_SET)
@click.option("-o", "--output", metavar="DIR", required=True, help="The run's folder.")
@click.option("--epochs", type=click.IntRange(1, MOST), required=True)
@click.option(
    "--recipe", type=RECIPE, default=PLAIN, show_default=True,
    help="The training algorithm; `--recipe NAME --help` lists its options.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True)
@click.option("--learning-rate", type=Positive(MOST_LEARNING_RATE), default=1e-3, show_default=True)
@click.option(
    "--schedule",
    type=click.Choice(["linear", "constant"]),
    default="linear",
    show_default=True,
    help="The rate falls to 0 over all epochs, or stays: then more epochs may follow as if they had been planned.",
)
@click.option(
    "--initial-deviation",
    type=Positive(),
    metavar="X",
    help="Scale initial weights until each layer's current deviates by X: deep networks need about th_f.",
)
@click.option(
    "--dropout-mask",
    type=click.Choice(["sample", "timestep"]),
    default="sample",
    show_default=True,
    help="Dropout keeps the same neurons of a sample at all timesteps, or draws anew for each.",
)
@click.option("--timesteps", type=click.IntRange(1, 65536), help="[default: the network's]")
@click.option("--shift", type=click.IntRange(0, 64), default=0, show_default=True, help="Augmentation, in pixels.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True)
@_objective_options
@_neuron_options
@_trace_options
@click.option("--train-samples", type=click.IntRange(1), help="Train on so many, spread over the split.")
@click.option(
    "--test-samples",
    type=click.IntRange(1),
    help="Held out; all after the last epoch [default: all].",
)
@data_options
@click.option("--time-bin-ms", type=Positive(), help="Of event data [default: its own].")
@click.option("--start-from", metavar="DIR", help="Start with the weights of another run.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "plain", "fused"]),
    default="auto",
    show_default=True,
    help="Keep membranes and spikes, or compute them again backwards; auto: again where they pass 1 GiB.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option(
    "--resume", is_flag=True, help="Go on with the run in DIR, from its last checkpoint; --epochs may differ."
)
@plot_options
def train(network: str, dataset: str, output: str, pictures: Plots, **options: Any) -> None:
    """Train NETWORK on DATASET by BPTT; write checkpoints, a log of accuracy, and traces of chosen steps to a folder.

    NETWORK is a shipped network, a network file or the notation; its input and classes follow the data set. A network
    whose first layer encodes reads images as they are, any other reads them rate-coded. Dropout, batch norm, groups and
    what passes on without neuron make traces of version 2. `h2sim workload list` names networks and data sets.

    A run that was killed goes on with --resume and ends in the same bytes. With another number of --epochs it goes on
    to those. With --schedule constant it ends in the bytes of so many epochs at once. A rate that falls to 0 fell over
    the number before: from there it follows the line of the new one, and run.json and the traces say so.

    \b
    Examples:
      h2sim train mnist-small mnist-5k --epochs 4 --shift 2 -o run
      h2sim train mnist-small mnist --data ~/mnist --epochs 2 --trace-epochs 0,1,last -o run
      h2sim train 32C3-AP2-10FC fashion-mnist --epochs 1 --loss mse --readout rate --trace-values -o run
      h2sim train vgg6-bn-max mnist-5k --size 32,32 --channels 3 --epochs 2 --initial-deviation 0.3 -o run
      h2sim train mnist-small mnist-5k --epochs 4 --shift 2 -o run --resume
      h2sim train mnist-small mnist-5k --epochs 6 --shift 2 -o run --resume
      h2sim run h2learn run/traces/epoch-004/batch-00.npz
    """
    from h2sim.train.session import prepare_process

    check_name(output)
    options["recipe_options"] = given_options(click.get_current_context())
    prepare_process()
    with extra("train"):
        from h2sim.train.folder import Report, Run
        from h2sim.train.session import torch_session
    plan = _plan(options)
    say(f"training {network} on {dataset} for {options['epochs']} epochs of {options['recipe']} into {output}")
    with torch_session(options["threads"]):
        trainer, folder = _trainer(network, dataset, Path(output), options)
        with _shown(trainer, Report) as report:
            Run(trainer, folder, plan, options["test_samples"], report).to_the_end()
    _summary(folder, pictures)


def _trainer(network: str, dataset: str, output: Path, options: Mapping[str, Any]) -> tuple[Trainer, RunFolder]:
    """The trainer at the point where it starts or goes on, and its folder."""
    from h2sim.datasets import load_dataset
    from h2sim.train.folder import RunFolder, start_weights
    from h2sim.train.trainer import Trainer

    steps = options["timesteps"] or _own_timesteps(network)
    data = load_dataset(
        dataset, folder=options["data"], size=options["size"], timesteps=steps, time_bin_ms=options["time_bin_ms"],
        channels=options["channels"],
    )  # fmt: skip
    _check_device(options["device"])
    given = network.endswith(".nir")  # a graph's shapes are written out
    described = find_network(network) if given else find_network(network, data.shape, data.classes)
    settings = _settings(described, dataset, steps, options)
    trainer = Trainer(settings, list(described.layers), data, described.input_entry, options["device"])
    folder = RunFolder(output)
    if options["resume"]:
        folder.resume(trainer.settings, trainer)
        _say_replanned(trainer.settings)
    else:
        if options["start_from"]:
            start_weights(trainer, Path(options["start_from"]))
        folder.start(trainer.settings)
    return trainer, folder


def _say_replanned(settings: Settings) -> None:
    """Says that the run's rates are not those of so many epochs at once, where that is so."""
    if settings.earlier:
        last, now = settings.earlier[-1], f"--epochs {settings.epochs}"
        say(
            f"until iteration {last.iterations} the rate fell as for --epochs {last.epochs}, from there as for {now}: "
            f"the run differs from one of {now} at once"
        )


def _own_timesteps(network: str) -> int:
    """A network file's timesteps; 10 for a notation, which has none."""
    try:
        return find_network(network).timesteps
    except NetworkError:  # a notation needs the data set's shape; anything else is reported when that is known
        return 10


def _settings(network: Network, dataset: str, timesteps: int, options: Mapping[str, Any]) -> Settings:
    from h2sim.train.lif import Neuron
    from h2sim.train.objective import Objective
    from h2sim.train.settings import Settings

    given = {name: options[name] for name in ("threshold", "decay", "window", "surrogate_scale", "fires_at", "reset")}
    own = {**Neuron().to_meta(), **(network.neuron or {}), **{k: v for k, v in given.items() if v is not None}}
    shape: Literal["rectangle", "triangle"] = options["surrogate"] or "rectangle"
    neuron = replace(Neuron.from_meta(own), detach_reset=options["detach_reset"], surrogate=shape)
    objective = Objective(
        options["loss"], options["readout"], options["reduction"], options["loss_scale"], options["gradient_dtype"]
    )
    return Settings(
        network=network.name,
        dataset=dataset,
        epochs=options["epochs"],
        batch=options["batch"],
        learning_rate=options["learning_rate"],
        timesteps=timesteps,
        shift_pixels=options["shift"],
        seed=options["seed"],
        train_samples=options["train_samples"],
        recipe=options["recipe"],
        recipe_options=options["recipe_options"],
        objective=objective,
        neuron=neuron,
        initial_deviation=options["initial_deviation"],
        start_from=options["start_from"],
        dropout_mask=options["dropout_mask"],
        schedule=options["schedule"],
        trained_neurons=options["train_neurons"],
        backend=options["backend"],
    )


def _check_device(name: str) -> None:
    """Raises TrainingError for a device that this machine does not have."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError(at("training", "--device", "a GPU that PyTorch can use, or cpu", "none found"))


def _plan(options: Mapping[str, Any]) -> TracePlan:
    from h2sim.train.folder import TracePlan

    epochs = tuple(options["epochs"] if part == "last" else int(part) for part in options["trace_epochs"])
    if max(epochs) > options["epochs"]:
        raise TrainingError(at("--trace-epochs", "epoch", f"at most {options['epochs']}, the last", max(epochs)))
    if options["trace_samples"] > options["batch"]:
        raise TrainingError(
            at("--trace-samples", "samples", f"at most {options['batch']}, the batch", options["trace_samples"])
        )
    return TracePlan(epochs, options["trace_batches"], options["trace_samples"], options["trace_values"])


@contextmanager
def _shown(trainer: Trainer, report_type: type[Report]) -> Iterator[Report]:
    """Lines for epochs and traces on standard output; a bar of iterations where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
               TextColumn("{task.fields[loss]}"), TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task("iteration", total=trainer.iterations, completed=trainer.iteration, loss="")
        yield report_type(
            step=lambda done, total, loss: bar.update(task, completed=done, loss=f"loss {loss:.3f}"),
            epoch=lambda row: say(_epoch_line(row, trainer.settings.epochs)),
            trace=lambda path: say(f"trace {path}"),
        )


def _epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    loss = "" if row["loss"] is None else f", loss {row['loss']:.4f}"
    accuracy = f"accuracy {row['accuracy']:.2%} of {row['test_samples']} held out"
    return f"epoch {row['epoch']} of {epochs}{loss}: {accuracy}, {row['seconds']:.0f} s"


def _summary(folder: RunFolder, pictures: Plots) -> None:
    from h2sim.document import Document
    from h2sim.report.training import draw_log

    drawn = ", ".join(path.name for path in draw_log(folder.rows, folder.path / "training", pictures))
    show(Document(f"{folder.path}: log.csv, {drawn}, checkpoint.pt, run.json, traces/"))
