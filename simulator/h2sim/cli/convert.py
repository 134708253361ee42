"""`h2sim convert`: a spiking network with the weights of one without spikes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.lists import Several
from h2sim.cli.names import DATA_SET, NETWORK
from h2sim.cli.outputs import check_name, check_outputs
from h2sim.cli.support import emit, extra, find_network, say, show
from h2sim.cli.trained import data_options
from h2sim.cli.types import Finite, Positive
from h2sim.errors import TrainingError, at

if TYPE_CHECKING:
    from h2sim.algorithms.convert import Conversion
    from h2sim.document import Document

MOST_STEPS = 4096


SCALES = Several("scale,...", Positive(1e6))
TIMES = Several("T,...", click.IntRange(1, MOST_STEPS))


@click.command()
@click.argument("network", type=NETWORK)
@click.argument("dataset", type=DATA_SET)
@click.option("--ann", metavar="DIR", required=True, help="The run of `h2sim train --recipe ann` on the same network.")
@click.option("-o", "--output", metavar="DIR", help="A run's folder, to go on from with --start-from; of one scale.")
@click.option(
    "--by",
    type=click.Choice(["balancing", "activations"]),
    default="balancing",
    show_default=True,
    help="Thresholds: of currents in the spiking network, or of activations in the other.",
)
@click.option("--percentile", type=Finite(50, 100), default=99.7, show_default=True)
@click.option(
    "--scale",
    "scales",
    type=SCALES,
    default="1",
    show_default=True,
    help="That thresholds are multiplied by.",
)
@click.option(
    "--timesteps",
    type=TIMES,
    default="5,10,20,50",
    show_default=True,
    help="To say accuracies for.",
)
@click.option("--balancing-steps", type=click.IntRange(1, MOST_STEPS), default=100, show_default=True)
@click.option(
    "--images",
    type=click.IntRange(1, 1_000_000),
    default=512,
    show_default=True,
    help="Training samples that thresholds are sought with.",
)
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True)
@click.option("--test-samples", type=click.IntRange(1), help="Held out, spread over them [default: all].")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the accuracy at every timestep ('-': stdout).")
@data_options
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
def convert(network: str, dataset: str, **options: Any) -> None:
    """Convert a network without spikes to a spiking one: its weights stay, each layer gets a threshold.

    The accuracy is said for every scale over time. With -o the converted network is a run's folder, with which hybrid
    training starts.

    \b
    Examples:
      h2sim train '8C3(Encoding)-10FC' mnist-5k --recipe ann --epochs 8 -o ann
      h2sim convert '8C3(Encoding)-10FC' mnist-5k --ann ann --scale 1,0.5,0.3
      h2sim convert '8C3(Encoding)-10FC' mnist-5k --ann ann --scale 0.4 -o converted
      h2sim train '8C3(Encoding)-10FC' mnist-5k --recipe diet --timesteps 5 --epochs 2 --start-from converted -o diet
    """
    from h2sim.train.session import prepare_process

    scales, times = options["scales"], options["timesteps"]
    if options["output"]:
        check_name(options["output"])
        if len(scales) > 1:
            raise click.UsageError("-o takes one --scale, that of the network that is written")
    check_outputs(options["csv_file"])
    prepare_process()
    with extra("train"):
        from h2sim.train.session import torch_session
    with torch_session(options["threads"]):
        found = _converted(network, dataset, options)
    show(_document(found, times), err=options["csv_file"] == "-")
    if options["csv_file"]:
        emit(options["csv_file"], _csv(found))


def _converted(network: str, dataset: str, options: dict[str, Any]) -> Conversion:
    from h2sim.algorithms.ann import ann_settings
    from h2sim.algorithms.convert import Balancing
    from h2sim.algorithms.convert import convert as converted
    from h2sim.algorithms.diet import diet_settings
    from h2sim.datasets import load_dataset
    from h2sim.train.folder import RunFolder, start_weights
    from h2sim.train.run_json import settings_of
    from h2sim.train.trainer import Trainer

    steps = max(options["timesteps"])
    data = load_dataset(
        dataset, folder=options["data"], size=options["size"], timesteps=steps, channels=options["channels"]
    )
    described = find_network(network, data.shape, data.classes)
    layers = list(described.layers)
    recipe = settings_of(Path(options["ann"])).recipe
    if recipe != "ann":
        raise TrainingError(at(options["ann"], "recipe", "'ann', a network without spikes", repr(recipe)))
    ann = Trainer(ann_settings(described.name, dataset), layers, data, described.input_entry)
    start_weights(ann, Path(options["ann"]))
    settings = diet_settings(described.name, dataset, steps, seed=options["seed"], start_from=options["ann"])
    spiking = Trainer(settings, layers, data, described.input_entry)
    how = Balancing(options["percentile"], options["balancing_steps"])
    by = how if options["by"] == "balancing" else options["percentile"]
    say(f"converting {network}, by {options['by']}, with {options['images']} images")
    found = converted(spiking, ann, by, options["scales"], options["images"], steps, options["test_samples"])
    if options["output"]:
        folder = RunFolder(Path(options["output"]))
        folder.start(spiking.settings)
        folder.save(spiking)
    return found


def _document(found: Conversion, times: tuple[int, ...]) -> Document:
    from h2sim.document import Document, percent, table

    best_scale, best = max(
        ((s, a[t - 1], -t) for s, a in found.accuracies.items() for t in times), key=lambda x: x[1:]
    )[:2]
    rows = [[f"{scale:g}", *(percent(a[t - 1], 2) for t in times)] for scale, a in found.accuracies.items()]
    verdict = (
        f"without spikes {percent(found.ann_accuracy, 2)}; converted at best {percent(best, 2)}, scale {best_scale:g}."
    )
    thresholds = [[name, f"{value:.4g}"] for name, value in found.thresholds.items()]
    return Document(verdict, (
        table("Accuracy over timesteps", ["scale"], [f"T = {t}" for t in times], rows),
        table("Thresholds, not scaled", ["layer"], ["v"], thresholds),
    ))  # fmt: skip


def _csv(found: Conversion) -> str:
    lines = ["scale,timestep,accuracy"]
    lines += [f"{scale:g},{t},{value}" for scale, a in found.accuracies.items() for t, value in enumerate(a, 1)]
    return "\n".join(lines) + "\n"
