"""`h2sim attack`: how a trained network stands against changed pictures and spikes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from h2sim.cli.attack_views import Found, attack_document, attack_json
from h2sim.cli.lists import Several
from h2sim.cli.names import DATA_SET, NETWORK
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import emit, extra, progress, say, show
from h2sim.cli.trained import data_options, load_data, load_trained
from h2sim.cli.types import Finite, Positive

if TYPE_CHECKING:
    from h2sim.attacks.gradient_sign import Method
    from h2sim.attacks.summary import SpikeSummary
    from h2sim.train.trainer import Trainer

EPSILONS = Several("EPS,...", Finite(0, 1))
_BOX = ("epsilons", "checks", "targeted", "trace")
_STEPS = (*_BOX, "steps", "step_size")
READS = {  # the options that a method reads, beside those that all do
    "fgsm": _BOX,
    "pgd": (*_STEPS, "random_start"),
    "bim": _STEPS,
    "spike": (
        "iterations", "gamma", "pull", "pull_factor", "box", "targeted", "penultimate_threshold", "sampling",
        "max_perturbation", "fresh", "trace",
    ),
}  # fmt: skip
OF_PICTURES = ("pull", "pull_factor", "box", "fresh")  # which spike does not read where the data set is of events


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("dataset", type=DATA_SET)
@click.option(
    "--method",
    "methods",
    type=click.Choice(["fgsm", "pgd", "bim", "spike"]),
    multiple=True,
    help="[default: fgsm and pgd where RUN encodes pixels, else spike]",
)
@click.option(
    "--epsilon",
    "epsilons",
    type=EPSILONS,
    default="0.0314",
    show_default=True,
    help="By how much a pixel may change, of 0 to 1.",
)
@click.option("--steps", type=click.IntRange(1, 1000), default=7, show_default=True, help="Of PGD and BIM.")
@click.option("--step-size", type=Positive(1), help="Of PGD and BIM [default: epsilon * 0.01 / (8/255)].")
@click.option("--random-start/--from-picture", default=True, show_default=True, help="Where PGD begins.")
@click.option("--checks", is_flag=True, help="Look for signs of masked gradients, with the first epsilon.")
@click.option("--iterations", type=click.IntRange(1, 10_000), default=25, show_default=True, help="Of spike, at most.")
@click.option(
    "--gamma",
    type=Finite(0, 1),
    default=0.05,
    show_default=True,
    help="Of spike: probability of a flip where the gradient is 0 everywhere.",
)
@click.option(
    "--pull",
    type=Finite(0, 1),
    default=0.0,
    show_default=True,
    help="Of spike on pictures: c of the 2-norm's way back (CWL2).",
)
@click.option(
    "--pull-factor",
    type=click.Choice(["1", "2"]),
    default="2",
    show_default=True,
    help="Of spike on pictures: by which c is multiplied; 2 as eq. 5.9 has it, 1 as the authors' code.",
)
@click.option("--box", type=Finite(0, 1), help="Of spike on pictures: how far a pixel may go [default: anywhere].")
@click.option("--targeted", is_flag=True, help="Towards each other class in turn.")
@click.option(
    "--penultimate-threshold",
    type=Finite(0, 1000),
    help="Of spike: threshold of the layer before the last as examples are made [default: its own].",
)
@click.option("--sampling/--no-sampling", default=True, show_default=True, help="Of spike: G2S draws what it keeps.")
@click.option("--max-perturbation", type=Finite(0, 1), help="Of spike: largest mean square from the sample.")
@click.option(
    "--fresh",
    type=click.IntRange(0, 10_000),
    default=20,
    show_default=True,
    help="Of spike on pictures: fresh spikes on which an example is tried again.",
)
@click.option(
    "--trace",
    metavar="FILE",
    help="Write an iteration through RUN as a trace, for h2sim run.",
)
@click.option("--black-box", metavar="RUN2", help="Also with examples that are made on this network.")
@click.option("--network", type=NETWORK, help="The network of RUN, where its name is not enough.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True)
@click.option("--test-samples", type=click.IntRange(1), help="Held out, spread over them [default: all].")
@click.option("--json", "json_file", metavar="FILE", help="Write the numbers ('-': stdout).")
@data_options
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
def attack(run: str, dataset: str, **options: Any) -> None:
    """Attack the held-out samples of DATASET through the network of a training run, whose weights stay.

    FGSM is one step along the sign of the gradient by the pixels, PGD and BIM are several within the box; the network
    has to encode pixels. The spike-compatible attack turns the gradient by the spikes into spikes or pictures. With
    --black-box the examples are made on another run's network, too.

    \b
    Examples:
      h2sim attack analog mnist-5k --epsilon 0.1,0.2
      h2sim attack analog mnist-5k --method pgd --steps 20 --epsilon 0.1 --black-box other --json robustness.json
      h2sim attack analog mnist-5k --epsilon 0.1 --checks
      h2sim attack rated mnist-5k --test-samples 100 --penultimate-threshold 1
      h2sim attack rated mnist-5k --method spike --targeted --test-samples 20 --trace iteration.npz
    """
    from h2sim.train.session import prepare_process

    check_outputs(options["json_file"], *([options["trace"]] if options["trace"] else []))
    prepare_process()
    with extra("train"):
        from h2sim.train.session import torch_session
    with torch_session(options["threads"]):
        data = load_data(run, dataset, options)
        target = load_trained(run, data, options["network"])
        source = load_trained(options["black_box"], data, None) if options["black_box"] else None
        pixels = (source or target).network.reads_analog
        methods = options["methods"] or (("fgsm", "pgd") if pixels else ("spike",))
        _check_read(click.get_current_context(), methods, data.kind)
        found = _attacked(target, source, methods, options)
        if options["trace"]:
            from h2sim.attacks.record import write_iteration

            threshold = options["penultimate_threshold"]
            write_iteration(target, Path(options["trace"]), threshold=threshold, targeted=options["targeted"])
    show(attack_document(run, found), err=options["json_file"] == "-")
    if options["json_file"]:
        emit(options["json_file"], attack_json(run, target, found, options))


def _check_read(ctx: click.Context, methods: tuple[str, ...], kind: str) -> None:
    """Exits with a line for an option that none of the methods reads, of a data set of this kind."""
    read = {name for method in methods for name in READS[method]} - {*(OF_PICTURES if kind == "events" else ())}
    unread = {name for names in READS.values() for name in names} - read
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in unread and given:
            of = " on events" if kind == "events" else ""
            raise click.UsageError(f"{parameter.opts[0]}: no method of {', '.join(methods)} reads it{of}")


def _attacked(target: Trainer, source: Trainer | None, methods: tuple[str, ...], options: dict[str, Any]) -> Found:
    from h2sim.attacks.evaluate import checks, outcome
    from h2sim.attacks.gradient_sign import Attack

    samples = options["test_samples"]

    def told(what: str) -> None:
        say(f"attacking: {what}")

    found = Found(target.accuracy(samples))
    for method in methods:
        for epsilon in options["epsilons"] if method != "spike" else ():
            how = Attack(
                cast("Method", method), epsilon, options["steps"], options["step_size"], options["random_start"],
                options["targeted"],
            )  # fmt: skip
            for of in _boxes(source, white=target.network.reads_analog):
                told(f"{method}, epsilon {epsilon:g}{', black box' if of else ''}")
                found.outcomes.append(outcome(target, how, samples, of, options["seed"]))
    if options["checks"]:
        found.signs = checks(target, source, options["epsilons"][0], samples, told)
    if "spike" in methods:
        found.spikes = _by_spikes(target, source, options)
    return found


def _boxes(source: Trainer | None, *, white: bool) -> tuple[Trainer | None, ...]:
    """White box (None), where the method can read the network, and black box, where another is given."""
    return (*((None,) if white or source is None else ()), *(() if source is None else (source,)))


def _by_spikes(target: Trainer, source: Trainer | None, options: dict[str, Any]) -> list[SpikeSummary]:
    from h2sim.attacks.spike import SpikeAttack
    from h2sim.attacks.summary import spike_summary

    how = SpikeAttack(
        options["iterations"], options["gamma"], options["pull"], float(options["pull_factor"]),
        epsilon=options["max_perturbation"], box=options["box"], sampling=options["sampling"],
        fresh=options["fresh"], seed=options["seed"],
    )  # fmt: skip
    found = []
    for of in _boxes(source, white=not target.network.reads_analog):
        what = f"attacking: spike{', black box' if of else ''}, {how.iterations} iterations"
        say(what)
        with progress(what) as report:
            summary = spike_summary(
                target, how, options["test_samples"], source=of, threshold=options["penultimate_threshold"],
                targeted=options["targeted"], told=partial(report, ""),
            )  # fmt: skip
        found.append(summary)
    return found
