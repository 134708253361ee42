"""`h2sim evolve`: layer thresholds by differential evolution."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.lists import Several
from h2sim.cli.names import ARCH, DATA_SET, NETWORK, TABLE
from h2sim.cli.outputs import check_name
from h2sim.cli.support import extra, say, show
from h2sim.cli.trained import data_options, load_data, load_trained, sha256_of_run
from h2sim.cli.types import Finite, Positive

if TYPE_CHECKING:
    from h2sim.document import Document
    from h2sim.evolve.search import Evolved, Search
    from h2sim.evolve.trial import Trial
    from h2sim.train.trainer import Trainer

SCHEMA = "h2sim-evolution"
SHARES = (0.95, 0.98, 0.99, 0.995)  # of the plateau, to which steps are counted
SCALES = tuple(round(0.3 + 0.025 * n, 3) for n in range(49))  # 0.3 to 1.5
TRIED = "tried.jsonl"
BOUNDS = Several("LOW,HIGH", Positive(100))


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("dataset", type=DATA_SET)
@click.option("-o", "--output", metavar="DIR", required=True, help="Its folder; a search in it goes on.")
@click.option("--timesteps", type=click.IntRange(2, 4096), default=16, show_default=True, help="T, the window.")
@click.option(
    "--images",
    type=click.IntRange(10, 1_000_000),
    default=1000,
    show_default=True,
    help="Training pictures that a cost is taken of.",
)
@click.option("--population", type=click.IntRange(5, 10_000), default=25, show_default=True)
@click.option("--generations", type=click.IntRange(1, 100_000), default=26, show_default=True)
@click.option("--deviation", type=Finite(0, 1), default=0.15, show_default=True, help="Of the first thresholds.")
@click.option("--bounds", type=BOUNDS, default="0.05,2", show_default=True, help="Of thresholds, as shares of RUN's.")
@click.option("--alpha", type=Finite(0, 1e6), default=1.0, show_default=True, help="Weight of the latency.")
@click.option("--beta", type=Finite(0, 1e6), default=10.0, show_default=True, help="Of how slowly accuracy rises.")
@click.option("--gamma", type=Finite(0, 1e6), default=500.0, show_default=True, help="Of the error at T.")
@click.option(
    "--latency",
    type=click.Choice(["steps", "cycles", "joules"]),
    default="steps",
    show_default=True,
    help="What alpha weighs: timesteps, or what they cost on a simulated machine.",
)
@click.option("--arch", type=ARCH, default="h2learn", show_default=True, help="That machine.")
@click.option("--energy-table", type=TABLE, default="28nm", show_default=True, help="Its prices.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes [default: one per core].")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True)
@click.option("--network", type=NETWORK, help="The network of RUN, where its name is not enough.")
@click.option("--test-samples", type=click.IntRange(1), help="Held out, spread over them [default: all].")
@data_options
def evolve(run: str, dataset: str, **options: Any) -> None:
    """Evolve the layer thresholds of a converted network, for accuracy in few timesteps.

    RUN is what `h2sim convert -o` wrote. The cost weighs latency, the steepest rise of accuracy and the error at T, on
    training pictures alone. Beside what evolution finds stands the best single scale of all thresholds, by the same
    cost. DIR becomes a run's folder with the evolved thresholds.

    \b
    Examples:
      h2sim convert '8C3(Encoding)-AP2-10FC' mnist-5k --ann ann --by activations -o converted
      h2sim evolve converted mnist-5k --images 1000 -o evolved
      h2sim evolve converted mnist-5k --latency cycles --arch h2learn -o frugal
    """
    from h2sim.train.session import prepare_process

    check_name(options["output"])
    prepare_process()
    with extra("train"):
        import scipy  # noqa: F401
        import torch  # noqa: F401
    from h2sim.evolve.cost import Weights
    from h2sim.evolve.search import Search

    low, high = options["bounds"] if len(options["bounds"]) == 2 else (0.0, 0.0)
    weights = Weights(options["alpha"], options["beta"], options["gamma"])
    how = Search(options["population"], options["generations"], options["deviation"], (low, high), seed=options["seed"],
                 weights=weights)  # fmt: skip
    found = _evolved(run, dataset, how, options)
    show(_document(found))


def _evolved(run: str, dataset: str, how: Search, options: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the search and its control, writes the folder, and returns what evolution.json holds."""
    from h2sim.evolve.search import Tried, best_scale, settings_of_search
    from h2sim.evolve.search import evolve as evolved
    from h2sim.evolve.trial import Trial, simulated, tries

    data = load_data(run, dataset, options)
    trainer = load_trained(run, data, options["network"])
    trial = Trial.of(trainer, options["images"], options["timesteps"])
    first, chance = trial.thresholds, 1 / trainer.network.classes
    folder = _folder(options["output"])
    head = settings_of_search(how, run=sha256_of_run(run), images=options["images"], timesteps=options["timesteps"])
    tried = Tried(folder / TRIED, head)
    latency = _latency(trial, options, simulated)
    workers = options["workers"] or os.cpu_count() or 1
    say(f"evolving {len(first)} thresholds of {run} with {workers} processes; {len(SCALES)} single scales first")
    values = list(first.values())
    with tries(trial, workers) as made:
        scale, control = best_scale(values, SCALES, made, how, chance, tried, latency=latency)
        _, baseline = best_scale(values, [1.0], made, how, chance, tried, latency=latency)
        best = evolved(values, made, how, chance, tried, latency=latency,
                       told=lambda number, least: say(f"generation {number}: cost {least:.3f}"))  # fmt: skip
    candidates = {"as converted": (1.0, baseline), "best single scale": (scale, control), "evolved": (None, best)}
    found = _told(run, trainer, how, options, list(first), candidates)
    _write(run, folder, trainer, best.thresholds, found)
    return found


def _latency(trial: Trial, options: Mapping[str, Any], simulated: Any) -> Any:
    if options["latency"] == "steps":
        return None
    from h2sim.arch import load_arch
    from h2sim.energy import load_energy_table

    return simulated(trial, options["latency"], load_arch(options["arch"]), load_energy_table(options["energy_table"]))


def _folder(name: str) -> Path:
    from h2sim.errors import OutputError

    folder = Path(name)
    if (folder / "run.json").exists() and not (folder / TRIED).exists():
        raise OutputError(f"{folder}: holds a training run; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}, expected a folder") from None
    return folder


def _told(
    run: str, trainer: Trainer, how: Search, options: Mapping[str, Any], layers: Sequence[str],
    candidates: Mapping[str, tuple[float | None, Evolved]],
) -> dict[str, Any]:  # fmt: skip
    """What was found, with the accuracy over time on held-out pictures, which no search has seen."""
    from dataclasses import asdict, replace

    from h2sim.algorithms.convert import accuracy_over_time
    from h2sim.evolve.cost import steepest, steps_to
    from h2sim.evolve.trial import set_thresholds
    from h2sim.train.session import torch_session

    coding = replace(trainer.coding, timesteps=options["timesteps"], shift_pixels=0)
    rows: list[dict[str, Any]] = []
    for name, (scale, found) in candidates.items():
        set_thresholds(trainer.network, found.thresholds)
        with torch_session(1):
            curve = accuracy_over_time(trainer.network, trainer.dataset, coding, options["test_samples"])
        rows.append({"what": name, "scale": scale, "thresholds": dict(zip(layers, found.thresholds, strict=True)),
                     "cost": found.cost, "nfe": found.nfe, "training_curve": list(found.accuracies),
                     "test_curve": curve})  # fmt: skip
    plateau = rows[0]["test_curve"][-1]
    for row in rows:
        row["steps_to"] = {f"{share:g}": steps_to(row["test_curve"], share * plateau) for share in SHARES}
        row["steepest"] = steepest(row["training_curve"], 1 / trainer.network.classes)[0]
    kept = asdict(how)
    return {"schema": SCHEMA, "version": 1, "run_sha256": sha256_of_run(run), "search": kept,
            "latency": options["latency"], "images": options["images"], "timesteps": options["timesteps"],
            "training_cost": options["images"] * rows[-1]["nfe"] / len(trainer.dataset.train),
            "by_generation": list(candidates["evolved"][1].by_generation), "plateau": plateau,
            "candidates": rows}  # fmt: skip


def _write(run: str, folder: Path, trainer: Trainer, thresholds: Sequence[float], found: Mapping[str, Any]) -> None:
    from h2sim.evolve.trial import set_thresholds
    from h2sim.io.files import write_text
    from h2sim.train.folder import RunFolder
    from h2sim.train.run_json import settings_of, write_run

    set_thresholds(trainer.network, thresholds)
    write_run(folder, settings_of(Path(run)))
    RunFolder(folder).save(trainer)
    write_text(folder / "evolution.json", json.dumps(found, indent=1) + "\n")


def _document(found: Mapping[str, Any]) -> Document:
    from h2sim.document import Document, percent, table

    rows = found["candidates"]
    by_name = {row["what"]: row["steps_to"]["0.99"] for row in rows}

    def steps(value: int | None) -> str:
        return "never" if value is None else f"{value} steps"

    verdict = (
        f"99 % of the plateau in {steps(by_name['evolved'])} evolved, {steps(by_name['best single scale'])} by the "
        f"best single scale, {steps(by_name['as converted'])} as converted."
    )
    shown = [
        [row["what"], f"{row['cost']:.2f}", str(row["nfe"]), *(str(n) if n else "-" for n in row["steps_to"].values()),
         percent(row["test_curve"][-1], 2)]
        for row in rows
    ]  # fmt: skip
    columns = ["cost", "tried", *(f"to {float(share):.1%}" for share in found["candidates"][0]["steps_to"]), "at T"]
    layers = list(rows[0]["thresholds"])
    thresholds = [[name, *(f"{row['thresholds'][name]:.4g}" for row in rows)] for name in layers]
    return Document(verdict, (
        table("Held-out pictures: timesteps to a share of the plateau, and accuracy", ["thresholds"], columns, shown),
        table("Thresholds", ["layer"], [row["what"] for row in rows], thresholds),
    ))  # fmt: skip
