"""`h2sim certify`: for how many samples a bound proves that nothing near them is classified otherwise."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.lists import Several
from h2sim.cli.names import DATA_SET, NETWORK
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import emit, extra, progress, show
from h2sim.cli.trained import data_options, load_data, load_trained, sha256_of_run
from h2sim.cli.types import Finite

if TYPE_CHECKING:
    from h2sim.certify.robust import RobustError
    from h2sim.document import Document
    from h2sim.train.trainer import Trainer

SCHEMA = "h2sim-certificate"
EPSILONS = Several("EPS,...", Finite(0, 1))


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("dataset", type=DATA_SET)
@click.option(
    "--epsilon",
    "epsilons",
    type=EPSILONS,
    default="0.05,0.1,0.2",
    show_default=True,
    help="Width of a pixel's box; of events, share of spikes that may be flipped.",
)
@click.option("--timesteps", type=click.IntRange(1, 4096), help="T' of the bounds [default: the run's].")
@click.option("--network", type=NETWORK, help="The network of RUN, where its name is not enough.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True, help="Of random spikes.")
@click.option("--test-samples", type=click.IntRange(1), help="Held out, spread over them [default: all].")
@click.option("--json", "json_file", metavar="FILE", help="Write the numbers ('-': stdout).")
@data_options
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
def certify(run: str, dataset: str, **options: Any) -> None:
    """Bound what the network of a training run does for everything near the held-out samples of DATASET.

    A sample is proven where the lower bounds of all margins are above 0: by S-IBP, by S-CROWN, or by the larger of
    both. Pixels lie in a box of width EPS around the picture. Proofs about random spikes hold for the random numbers
    that --seed draws.

    \b
    Examples:
      h2sim train robust-fc mnist-5k --recipe certified --epochs 10 -o robust
      h2sim certify robust mnist-5k --epsilon 0.05,0.1 --timesteps 3
      h2sim certify robust mnist-5k --test-samples 100 --json certificate.json
    """
    from h2sim.train.session import prepare_process

    check_outputs(options["json_file"])
    prepare_process()
    with extra("train"):
        from h2sim.certify.robust import robust_error
        from h2sim.train.session import torch_session
    with torch_session(options["threads"]):
        data = load_data(run, dataset, options)
        target = load_trained(run, data, options["network"])
        steps = options["timesteps"] or target.settings.timesteps
        found = []
        for epsilon in options["epsilons"]:
            with progress(f"bounding, epsilon {epsilon:g}") as report:
                told = partial(report, "")
                found.append(robust_error(target, epsilon, steps, options["test_samples"], options["seed"], told))
    show(_document(run, target, found), err=options["json_file"] == "-")
    if options["json_file"]:
        emit(options["json_file"], _json(run, target, found, options))


def _document(run: str, target: Trainer, found: list[RobustError]) -> Document:
    from h2sim.document import Document, percent, table

    rows = [
        [f"{each.epsilon:g}", percent(each.unstable, 2), percent(each.clean, 2), percent(each.ibp, 2),
         percent(each.crown, 2), percent(each.best, 2)]
        for each in found
    ]  # fmt: skip
    heads = ["may differ", "wrong as it is", "S-IBP", "S-CROWN", "larger of both"]
    shown = table("Robust error: samples for which nothing is proven", ["epsilon"], heads, rows)
    first = found[0]
    drawn = "" if target.network.reads_analog else ", for the random numbers that were drawn"
    verdict = (
        f"{run}: {percent(1 - first.best, 2)} of {first.samples} samples are proven right for all within epsilon "
        f"{first.epsilon:g} over {first.timesteps} timesteps{drawn}."
    )
    return Document(verdict, (shown,))


def _json(run: str, target: Trainer, found: list[RobustError], options: dict[str, Any]) -> str:
    from dataclasses import asdict

    from h2sim._version import __version__

    settings = target.settings
    data = {
        "schema": SCHEMA,
        "version": 1,
        "h2sim": __version__,
        "run": {
            "recipe": settings.recipe, "network": settings.network, "checkpoint_sha256": sha256_of_run(run),
        },
        "dataset": target.dataset.name,
        "seed": options["seed"],
        "certificates": [asdict(each) for each in found],
    }  # fmt: skip
    return json.dumps(data, indent=1) + "\n"
