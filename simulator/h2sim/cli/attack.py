"""`h2sim attack`: how a trained network stands against changed pictures and spikes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from h2sim.cli.lists import Several
from h2sim.cli.names import DATA_SET, NETWORK
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import emit, extra, progress, say, show
from h2sim.cli.trained import data_options, load_data, load_trained, sha256_of_run
from h2sim.cli.types import Finite, Positive

if TYPE_CHECKING:
    from h2sim.attacks.evaluate import Check, Outcome
    from h2sim.attacks.gradient_sign import Method
    from h2sim.attacks.summary import SpikeSummary
    from h2sim.document import Document, Part
    from h2sim.train.trainer import Trainer

SCHEMA = "h2sim-robustness"
EPSILONS = Several("EPS,...", Finite(0, 1))
OF_BOXES = ("epsilons", "steps", "step_size", "random_start", "checks")
OF_SPIKES = (
    "iterations", "gamma", "pull", "targeted", "penultimate_threshold", "sampling", "max_perturbation", "fresh",
    "trace",
)  # fmt: skip


@dataclass
class _Found:
    """What was found of a run."""

    clean: float
    outcomes: list[Outcome] = field(default_factory=list)
    signs: list[Check] = field(default_factory=list)
    spikes: list[SpikeSummary] = field(default_factory=list)


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
@click.option("--targeted", is_flag=True, help="Of spike: towards each other class in turn.")
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
    help="Of spike: write an iteration as a trace, for h2sim run.",
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
      h2sim attack run mnist-5k --epsilon 0.1,0.2
      h2sim attack run mnist-5k --method pgd --steps 20 --epsilon 0.1 --black-box other --json robustness.json
      h2sim attack run mnist-5k --epsilon 0.1 --checks
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
        _check_read(click.get_current_context(), methods)
        found = _attacked(target, source, methods, options)
        if options["trace"]:
            from h2sim.attacks.record import write_iteration

            write_iteration(target, Path(options["trace"]))
    show(_document(run, found), err=options["json_file"] == "-")
    if options["json_file"]:
        emit(options["json_file"], _json(run, target, found, options))


def _check_read(ctx: click.Context, methods: tuple[str, ...]) -> None:
    """Exits with a line for an option that none of the methods reads."""
    unread = (*(() if {*methods} - {"spike"} else OF_BOXES), *(() if "spike" in methods else OF_SPIKES))
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in unread and given:
            raise click.UsageError(f"{parameter.opts[0]}: no method of {', '.join(methods)} reads it")


def _attacked(target: Trainer, source: Trainer | None, methods: tuple[str, ...], options: dict[str, Any]) -> _Found:
    from h2sim.attacks.evaluate import checks, outcome
    from h2sim.attacks.gradient_sign import Attack

    samples = options["test_samples"]

    def told(what: str) -> None:
        say(f"attacking: {what}")

    found = _Found(target.accuracy(samples))
    for method in methods:
        for epsilon in options["epsilons"] if method != "spike" else ():
            how = Attack(
                cast("Method", method), epsilon, options["steps"], options["step_size"], options["random_start"]
            )
            for of in _boxes(target, source):
                told(f"{method}, epsilon {epsilon:g}{', black box' if of else ''}")
                found.outcomes.append(outcome(target, how, samples, of, options["seed"]))
    if options["checks"]:
        found.signs = checks(target, source, options["epsilons"][0], samples, told)
    if "spike" in methods:
        found.spikes = _by_spikes(target, source, options)
    return found


def _boxes(target: Trainer, source: Trainer | None) -> tuple[Trainer | None, ...]:
    """White box, where the network encodes pixels, and black box, where another is given."""
    white: tuple[Trainer | None, ...] = (None,) if target.network.reads_analog or source is None else ()
    return (*white, *(() if source is None else (source,)))


def _by_spikes(target: Trainer, source: Trainer | None, options: dict[str, Any]) -> list[SpikeSummary]:
    from h2sim.attacks.spike import SpikeAttack
    from h2sim.attacks.summary import spike_summary

    how = SpikeAttack(
        options["iterations"], options["gamma"], options["pull"], epsilon=options["max_perturbation"],
        sampling=options["sampling"], fresh=options["fresh"], seed=options["seed"],
    )  # fmt: skip
    found = []
    for of in (None, source) if source is not None else (None,):
        what = f"attacking: spike{', black box' if of else ''}, {how.iterations} iterations"
        say(what)
        with progress(what) as report:
            summary = spike_summary(
                target, how, options["test_samples"], source=of, threshold=options["penultimate_threshold"],
                targeted=options["targeted"], told=partial(report, ""),
            )  # fmt: skip
        found.append(summary)
    return found


def _document(run: str, found: _Found) -> Document:
    from h2sim.document import Document, percent, table

    parts: list[Part] = []
    if found.outcomes:
        rows = [
            [f"{each.attack.method}{', black box' if each.black_box else ''}", f"{each.attack.epsilon:g}",
             "1" if each.attack.method == "fgsm" else str(each.attack.steps), percent(each.accuracy, 2),
             f"{each.distance:.3g}"]
            for each in found.outcomes
        ]  # fmt: skip
        parts.append(table("Attacks", ["attack"], ["epsilon", "steps", "accuracy", "distance (2-norm)"], rows))
    if found.signs:
        shown = [
            [each.name, ", ".join(percent(v, 1) for v in each.values), "yes" if each.found else "no"]
            for each in found.signs
        ]
        parts.append(table("Signs of masked gradients", ["sign", "accuracies"], ["there"], shown))
    parts += _spike_parts(found.spikes)
    return Document(_verdict(run, found), tuple(parts))


def _spike_parts(found: list[SpikeSummary]) -> list[Part]:
    from h2sim.document import percent, table

    if not found:
        return []

    def share(value: float | None) -> str:
        return "-" if value is None else percent(value, 1)

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}"

    rows = [
        [each.name, str(each.attacked), share(each.success), share(each.null), share(each.fresh),
         number(each.norms["perturbation"]), number(each.iterations), share(each.vanished), number(each.flips),
         share(each.kept)]
        for each in found
    ]  # fmt: skip
    heads = ["attacked", "success", "by resampling alone", "again on fresh spikes", "mean square", "iterations",
             "no gradient at first", "flips", "kept by G2S"]  # fmt: skip
    norms = [[each.name, *(number(each.norms[name]) for name in each.norms)] for each in found]
    names = {"perturbation": "mean square", "l2_over_n": "2-norm / N", "l2": "2-norm", "linf": "largest",
             "l0_over_n": "share moved"}  # fmt: skip
    return [
        table("Spike-compatible attack", ["attack"], heads, rows),
        table("Distances of the examples", ["attack"], [names[name] for name in found[0].norms], norms),
    ]


def _verdict(run: str, found: _Found) -> str:
    from h2sim.document import percent

    if not found.outcomes:
        best = max(found.spikes, key=lambda each: each.success or 0)
        success = "none" if best.success is None else percent(best.success, 1)
        null = "" if best.null is None else f"; resampling alone of {percent(best.null, 1)}"
        return f"{run}: {best.name} finds examples of {success} of the {best.attacked} that were read right{null}."
    worst = min(found.outcomes, key=lambda each: each.accuracy)
    box = ", black box" if worst.black_box else ""
    return (
        f"{run}: {percent(found.clean, 2)} of the pictures as they are, {percent(worst.accuracy, 2)} under "
        f"{worst.attack.method.upper()}{box} with epsilon {worst.attack.epsilon:g}."
    )


def _json(run: str, target: Trainer, found: _Found, options: dict[str, Any]) -> str:
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
        "samples": len(target.dataset.test.spread(options["test_samples"])),
        "seed": options["seed"],
        "clean_accuracy": found.clean,
        "attacks": [
            {"method": each.attack.method, "epsilon": each.attack.epsilon, "black_box": each.black_box,
             **({"steps": each.attack.steps, "step_size": each.attack.step} if each.attack.method != "fgsm" else {}),
             **({"random_start": each.attack.random_start} if each.attack.method == "pgd" else {}),
             "accuracy": each.accuracy, "mean_distance": each.distance}
            for each in found.outcomes
        ],
        "spike_attacks": [each.to_dict() for each in found.spikes],
        "masked_gradients": [{"sign": s.name, "values": list(s.values), "found": s.found} for s in found.signs],
    }  # fmt: skip
    return json.dumps(data, indent=1) + "\n"
