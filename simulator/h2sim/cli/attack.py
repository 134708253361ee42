"""`h2sim attack`: how a trained network stands against changed pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.lists import Several
from h2sim.cli.names import DATA_SET, NETWORK
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import emit, extra, say, show
from h2sim.cli.trained import data_options, load_data, load_trained, sha256_of_run
from h2sim.cli.types import Finite, Positive

if TYPE_CHECKING:
    from h2sim.attacks.evaluate import Check, Outcome
    from h2sim.document import Document
    from h2sim.train.trainer import Trainer

SCHEMA = "h2sim-robustness"
EPSILONS = Several("EPS,...", Finite(0, 1))


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("dataset", type=DATA_SET)
@click.option("--method", "methods", type=click.Choice(["fgsm", "pgd"]), multiple=True, help="[default: both]")
@click.option(
    "--epsilon",
    "epsilons",
    type=EPSILONS,
    default="0.0314",
    show_default=True,
    help="By how much a pixel may change, of 0 to 1.",
)
@click.option("--steps", type=click.IntRange(1, 1000), default=7, show_default=True, help="Of PGD.")
@click.option("--step-size", type=Positive(1), help="Of PGD [default: epsilon * 0.01 / (8/255)].")
@click.option("--random-start/--from-picture", default=True, show_default=True, help="Where PGD begins.")
@click.option("--black-box", metavar="RUN2", help="Also with pictures that are made on this network.")
@click.option("--checks", is_flag=True, help="Look for signs of masked gradients, with the first epsilon.")
@click.option("--network", type=NETWORK, help="The network of RUN, where its name is not enough.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True)
@click.option("--test-samples", type=click.IntRange(1), help="Held out, spread over them [default: all].")
@click.option("--json", "json_file", metavar="FILE", help="Write the numbers ('-': stdout).")
@data_options
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
def attack(run: str, dataset: str, **options: Any) -> None:
    """Attack the held-out pictures of DATASET through the network of a training run, whose weights stay.

    FGSM is one step along the sign of the gradient by the pixels, PGD several within the box. With --black-box the
    pictures are made on another run's network, too.

    \b
    Examples:
      h2sim attack run mnist-5k --epsilon 0.1,0.2
      h2sim attack run mnist-5k --method pgd --steps 20 --epsilon 0.1 --black-box other --json robustness.json
      h2sim attack run mnist-5k --epsilon 0.1 --checks
    """
    from h2sim.train.session import prepare_process

    check_outputs(options["json_file"])
    prepare_process()
    with extra("train"):
        from h2sim.attacks.evaluate import checks, outcome
        from h2sim.attacks.gradient_sign import METHODS, Attack
        from h2sim.train.session import torch_session
    samples = options["test_samples"]

    def told(what: str) -> None:
        say(f"attacking: {what}")

    with torch_session(options["threads"]):
        data = load_data(run, dataset, options)
        target = load_trained(run, data, options["network"])
        source = load_trained(options["black_box"], data, options["network"]) if options["black_box"] else None
        hows = [
            Attack(method, epsilon, options["steps"], options["step_size"], options["random_start"])
            for method in options["methods"] or METHODS
            for epsilon in options["epsilons"]
        ]
        clean = target.accuracy(samples)
        found = []
        for how in hows:
            for of in (None, source) if source else (None,):
                told(f"{how.method}, epsilon {how.epsilon:g}{', black box' if of else ''}")
                found.append(outcome(target, how, samples, of, options["seed"]))
        signs = checks(target, source, options["epsilons"][0], samples, told) if options["checks"] else []
    show(_document(run, clean, found, signs), err=options["json_file"] == "-")
    if options["json_file"]:
        emit(options["json_file"], _json(run, target, clean, found, signs, options))


def _document(run: str, clean: float, found: list[Outcome], signs: list[Check]) -> Document:
    from h2sim.document import Document, Part, percent, table

    worst = min(found, key=lambda each: each.accuracy)
    rows = [
        [f"{each.attack.method}{', black box' if each.black_box else ''}", f"{each.attack.epsilon:g}",
         str(each.attack.steps) if each.attack.method == "pgd" else "1", percent(each.accuracy, 2),
         f"{each.distance:.3g}"]
        for each in found
    ]  # fmt: skip
    parts: list[Part] = [table("Attacks", ["attack"], ["epsilon", "steps", "accuracy", "distance (2-norm)"], rows)]
    if signs:
        shown = [
            [each.name, ", ".join(percent(v, 1) for v in each.values), "yes" if each.found else "no"] for each in signs
        ]
        parts.append(table("Signs of masked gradients", ["sign", "accuracies"], ["there"], shown))
    box = ", black box" if worst.black_box else ""
    verdict = (
        f"{run}: {percent(clean, 2)} of the pictures as they are, {percent(worst.accuracy, 2)} under "
        f"{worst.attack.method.upper()}{box} with epsilon {worst.attack.epsilon:g}."
    )
    return Document(verdict, tuple(parts))


def _json(
    run: str, target: Trainer, clean: float, found: list[Outcome], signs: list[Check], options: dict[str, Any]
) -> str:
    from h2sim._version import __version__

    settings = target.settings
    data = {
        "schema": SCHEMA,
        "version": 1,
        "h2sim": __version__,
        "run": {"recipe": settings.recipe, "network": settings.network, "checkpoint_sha256": sha256_of_run(run)},
        "black_box_sha256": sha256_of_run(options["black_box"]) if options["black_box"] else None,
        "dataset": target.dataset.name,
        "timesteps": settings.timesteps,
        "samples": min(len(target.dataset.test), options["test_samples"] or len(target.dataset.test)),
        "seed": options["seed"],
        "clean_accuracy": clean,
        "attacks": [
            {"method": each.attack.method, "epsilon": each.attack.epsilon, "black_box": each.black_box,
             **({"steps": each.attack.steps, "step_size": each.attack.step, "random_start": each.attack.random_start}
                if each.attack.method == "pgd" else {}),
             "accuracy": each.accuracy, "mean_distance": each.distance}
            for each in found
        ],
        "masked_gradients": [{"sign": s.name, "values": list(s.values), "found": s.found} for s in signs],
    }  # fmt: skip
    return json.dumps(data, indent=1) + "\n"
