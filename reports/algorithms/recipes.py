"""All recipes side by side: `python reports/algorithms/recipes.py` writes reports/algorithms/recipes.md. An hour."""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from common import (
    DATA,
    HERE,
    NETWORK,
    NOTHING,
    SEEDS,
    TESTED,
    Cost,
    activity_of,
    balanced,
    data_set,
    hybrid,
    inference_cost,
    kept,
    network_of,
    spread,
    table,
    traced_cost,
    trained_ann,
)

import h2sim
from h2sim.algorithms.convert import convert
from h2sim.attacks.evaluate import outcome
from h2sim.attacks.gradient_sign import Attack
from h2sim.energy import area
from h2sim.evolve.cost import Weights
from h2sim.evolve.search import Search, Tried, best_scale, evolve
from h2sim.evolve.trial import Trial, set_thresholds, tries
from h2sim.train.settings import Settings
from h2sim.train.trainer import Trainer

T, RATE, ANN_RATE, SCALE, STEPS, BALANCED = 6, 5e-4, 0.05, 0.4, 100, 512
BPTT_EPOCHS, ANN_EPOCHS, EPOCHS = 10, (2, 8), 3
SCALES = tuple(round(0.3 + 0.1 * n, 1) for n in range(8))
SEARCHED = 500  # training pictures of a search
EPSILON = {"mnist-5k": 0.1, "fashion-mnist": 8 / 255}
NOISE = {"mnist-5k": 0.1, "fashion-mnist": 0.05}
TARGETS = {"mnist-5k": (0.93, 0.945, 0.955, 0.96), "fashion-mnist": (0.80, 0.82, 0.83, 0.84)}
Course = list[dict[str, Any]]  # after each epoch: accuracy, and the cost of the spiking part so far


def one(name: str, seed: int) -> dict[str, Any]:
    """Every recipe on a data set and a seed: its course, what it ends with, and what came before it."""
    data = data_set(name)
    found: dict[str, Any] = {"samples": 0}
    plain = network_of(data)
    settings = Settings(network=plain.name, dataset=data.name, epochs=BPTT_EPOCHS, timesteps=T, seed=seed, batch=64,
                        train_samples=DATA[name], initial_deviation=0.3)  # fmt: skip
    run = Trainer(settings, list(plain.layers), data)
    found["samples"] = run.stream.available
    found["BPTT"] = {"before": NOTHING, **course(name, run)}
    for epochs in ANN_EPOCHS:
        ann = trained_ann(data, seed, epochs, learning_rate=ANN_RATE)
        first = copied(ann, traced_cost)[0].times(run.stream.available * epochs)
        balancing = balanced_start(data, seed, ann)
        start, cost = balancing
        before = first + cost
        for label, recipe, options in (
            ("DIET", "diet", {}), ("HIRE", "hire", {"noise_step": NOISE[name]}),
        ):  # fmt: skip
            batch = 32 if recipe == "hire" else 64
            trained = hybrid(data, T, seed=seed, epochs=EPOCHS, learning_rate=RATE, recipe=recipe, batch=batch,
                             recipe_options=options)  # fmt: skip
            trained.network.load_state_dict(start.network.state_dict())
            found[f"{label}, ANN of {epochs} epochs"] = {"before": before, **course(name, trained)}
        for label, made in (("one scale", scaled), ("evolved", evolved)):
            spiking = hybrid(data, T, seed=seed)
            convert(spiking, ann, 99.7, [1.0], BALANCED, T, 10)
            searching = made(spiking, seed)
            found[f"conversion, {label}, ANN of {epochs} epochs"] = {
                "before": first + searching, "course": [{"accuracy": spiking.accuracy(TESTED), "cost": NOTHING}],
                "training": None, **ends(name, spiking),
            }  # fmt: skip
    return found


def balanced_start(data: Any, seed: int, ann: Trainer) -> tuple[Trainer, Cost]:
    """The converted network from which hybrid recipes start, and what balancing takes: inference of T_b steps."""
    start = hybrid(data, T, seed=seed)
    balanced(start, ann, [SCALE], T, STEPS)
    return start, inference_cost(start, STEPS).times(BALANCED)


def copied(run: Trainer, use: Any) -> Any:
    """What `use` finds in a copy of the run, which goes on as if nothing had been asked."""
    data = run.dataset
    memo = {id(data): data}
    return use(copy.deepcopy(run, memo))


def course(name: str, run: Trainer) -> dict[str, Any]:
    """Trains to the end. The cost of each epoch is that of a step at its end, times its samples."""
    spent, found, cost, zeros = NOTHING, list[dict[str, Any]](), NOTHING, {}
    while run.iteration < run.iterations:
        run.step()
        if run.iteration % run.iterations_per_epoch == 0:
            cost, zeros = copied(run, traced_cost)
            spent += cost.times(run.iterations_per_epoch * run.settings.batch)
            found.append({"accuracy": run.accuracy(TESTED), "cost": spent})
    return {"course": found, "training": cost, "zeros": zeros, **ends(name, run)}


def ends(name: str, run: Trainer) -> dict[str, Any]:
    """What a network ends with: accuracy under PGD, spikes a neuron, and the cost of inference."""
    attack = Attack("pgd", EPSILON[name])
    activity = activity_of(run)
    return {"pgd": outcome(run, attack, 300).accuracy, "activity": activity, "inference": inference_cost(run)}


def scaled(run: Trainer, seed: int) -> Cost:
    """Gives all thresholds the best single scale by eq. 11 on training pictures; returns what the scan takes."""
    trial = Trial.of(run, SEARCHED, T)
    first = list(trial.thresholds.values())
    with tries(trial, 1) as made:
        _, best = best_scale(first, SCALES, made, search(seed), 0.1, Tried(None, {}))
    set_thresholds(run.network, best.thresholds)
    return inference_cost(run).times(SEARCHED * best.nfe)


def evolved(run: Trainer, seed: int) -> Cost:
    """Gives each layer the threshold that evolution finds; returns what the search takes."""
    trial = Trial.of(run, SEARCHED, T)
    with tries(trial, 1) as made:
        best = evolve(list(trial.thresholds.values()), made, search(seed), 0.1, Tried(None, {}))
    set_thresholds(run.network, best.thresholds)
    return inference_cost(run).times(SEARCHED * best.nfe)


def search(seed: int) -> Search:
    return Search(population=12, generations=10, seed=seed, weights=Weights(1, 10, 100))


def labels(seeds: list[dict[str, Any]]) -> list[str]:
    return [label for label in seeds[0] if label != "samples"]


def reached(run: dict[str, Any], target: float) -> dict[str, Any] | None:
    """The first point of a course that is at a target."""
    return next((point for point in run["course"] if point["accuracy"] >= target), None)


def price(run: dict[str, Any], target: float, *, before: bool) -> Cost | None:
    """What a seed's training takes on H2Learn until its accuracy is at a target, with or without what came before."""
    point = reached(run, target)
    if point is None:
        return None
    return Cost.of(point["cost"]) + Cost.of(run["before"]) if before else Cost.of(point["cost"])


def to_a_target(name: str, seeds: list[dict[str, Any]], *, before: bool) -> str:
    """mJ and Mcycles on H2Learn to each accuracy; of the seeds that come there."""
    rows = []
    for label in labels(seeds):
        cells = []
        for target in TARGETS[name]:
            prices = [price(seed[label], target, before=before) for seed in seeds]
            there = [each for each in prices if each is not None]
            few = "" if len(there) == len(seeds) else f" ({len(there)} of {len(seeds)})"
            mj = statistics.fmean(each.joules * 1e3 for each in there) if there else 0.0
            mc = statistics.fmean(each.cycles / 1e6 for each in there) if there else 0.0
            cells.append(f"{mj:.0f} mJ, {mc:.0f} Mcycles{few}" if there else "-")
        rows.append([label, *cells])
    return table(["training", *(f"{target:.1%}" for target in TARGETS[name])], rows)


def cheapest(name: str, seeds: list[dict[str, Any]]) -> str:
    """For each accuracy the training of least energy, of those of which every seed comes there."""
    said = []
    for target in TARGETS[name]:
        found = []
        for label in labels(seeds):
            prices = [price(seed[label], target, before=True) for seed in seeds]
            whole = [each.joules * 1e3 for each in prices if each is not None]
            if len(whole) == len(seeds):
                found.append((statistics.fmean(whole), label))
        plain = [value for value, label in found if label == "BPTT"]
        if found:
            least, label = min(found)
            beside = f" (BPTT {plain[0]:.0f} mJ)" if plain and label != "BPTT" else ""
            said.append(f"{target:.1%}: {label}, {least:.0f} mJ{beside}")
        else:
            said.append(f"{target:.1%}: none in every seed")
    return f"**{name}**, cheapest to an accuracy, everything counted: {'; '.join(said)}."


def side_by_side(seeds: list[dict[str, Any]]) -> str:
    rows = []
    for label in labels(seeds):
        runs = [seed[label] for seed in seeds]
        samples = seeds[0]["samples"]
        epoch = None if runs[0]["training"] is None else mean_of([Cost.of(run["training"]) for run in runs])
        inference = mean_of([Cost.of(run["inference"]) for run in runs])
        before = mean_of([Cost.of(run["before"]) for run in runs])
        spiking = mean_of([Cost.of(run["course"][-1]["cost"]) for run in runs])
        rows.append([
            label, spread(run["course"][-1]["accuracy"] for run in runs), spread(run["pgd"] for run in runs),
            "-" if epoch is None else f"{epoch.cycles:,.0f}", "-" if epoch is None else f"{epoch.joules * 1e6:.1f}",
            "-" if epoch is None else f"{epoch.times(samples).joules * 1e3:.0f}",
            f"{spiking.joules * 1e3:.0f}", f"{(spiking + before).joules * 1e3:.0f}",
            f"{(spiking + before).cycles / 1e6:.0f}", f"{inference.cycles:,.0f}", f"{inference.joules * 1e6:.2f}",
        ])  # fmt: skip
    return table(
        ["training", "accuracy", "under PGD", "cycles a sample", "uJ a sample", "mJ an epoch", "mJ, spiking part",
         "mJ, all", "Mcycles, all", "inference: cycles a sample", "uJ"], rows,
    )  # fmt: skip


def mean_of(costs: Sequence[Cost]) -> Cost:
    return sum(costs, NOTHING).times(1 / len(costs))


def sparsities(seeds: list[dict[str, Any]]) -> str:
    layers = list(seeds[0]["BPTT"]["activity"])
    rows = []
    for label in labels(seeds):
        runs = [seed[label] for seed in seeds]
        spikes = [f"{1 - np.mean([run['activity'][n] for run in runs]) / T:.1%}" for n in layers]
        grads = ["-" if runs[0]["training"] is None else
                 f"{np.mean([run['zeros'][n]['grad'] for run in runs]):.1%}" for n in layers]  # fmt: skip
        rows.append([label, *spikes, *grads])
    return table(["zeros of", *(f"spikes {n}" for n in layers), *(f"gradient {n}" for n in layers)], rows)


def masked(record: dict[str, list[dict[str, Any]]]) -> str:
    """A warning about accuracies under PGD that differ wildly between seeds."""
    said = []
    for name, seeds in record.items():
        for label in labels(seeds):
            values = [seed[label]["pgd"] for seed in seeds]
            if max(values) - min(values) > 0.4:
                shown = ", ".join(f"{value:.1%}" for value in values)
                said.append(f"{name}, {label}: under PGD {shown} by seed: so wide a spread rather says that the attack "
                            "finds no gradient in some of them than that they are robust (`h2sim attack --checks` "
                            "looks for that).")  # fmt: skip
    return " ".join(said)


def main() -> None:
    """Trains everything and writes the report."""
    machine, prices = h2sim.load_arch("h2learn"), h2sim.load_energy_table("28nm")
    mm2, of_ann = area(machine, prices).total_um2 / 1e6, " or ".join(map(str, ANN_EPOCHS))
    record = kept("recipes", one, DATA)
    verdicts = [cheapest(name, seeds) for name, seeds in record.items()]
    text = f"""
Made by `python reports/algorithms/recipes.py`. Network
`{NETWORK}`, T = {T}; h2learn, {mm2:.2f} mm2 at 28 nm for all of them; on-chip energy,
table 28nm. An epoch's cost is that of a step at its end, in sub-batches of four, times its samples. BPTT: LIF neurons
(0.3, 0.25) from random weights, Adam 1e-3, {BPTT_EPOCHS} epochs. ANN: SGD {ANN_RATE:g}, {of_ann}
epochs, priced with analog operands and T = 1. DIET and HIRE (N = 2): {EPOCHS} epochs, Adam (amsgrad) {RATE:g}, from
balanced thresholds times {SCALE:g}; balancing counts as inference of {BALANCED} pictures over {STEPS} steps.
Conversion: by activations, thresholds by the best single scale of {len(SCALES)}, or evolved (P = 12, G = 10),
on {SEARCHED} training pictures; a search counts as their inference, nfe times. HIRE's steps have
the gradient of the pixels in them.
MNIST: 5,000 digits; Fashion-MNIST: every tenth picture; {TESTED} held-out pictures, PGD (epsilon 0.1 and 8/255) on 300;
seeds {", ".join(map(str, SEEDS))}. Rates and epochs are not tuned for each recipe beyond what its own report says. An
accuracy counts as reached at the end of the first epoch that shows it on the held-out pictures; accuracies a point
apart are within the spread over seeds.

{masked(record)}

"""
    for name, seeds in record.items():
        text += f"""## {name}

{side_by_side(seeds)}
To an accuracy, everything counted:

{to_a_target(name, seeds, before=True)}
The spiking part alone, as if the rest had been there:

{to_a_target(name, seeds, before=False)}
Sparsity, held-out samples for spikes, a training step for gradients:

{sparsities(seeds)}
"""
    title = "# What each recipe costs on H2Learn, and which trains cheapest"
    (HERE / "recipes.md").write_text("\n\n".join([title, *verdicts]) + "\n" + text, encoding="utf-8")


if __name__ == "__main__":
    main()
