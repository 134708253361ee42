"""Neuroevolution: `python reports/algorithms/evolution.py` writes reports/algorithms/evolution.md. An hour."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import HERE, SEEDS, TESTED, data_set, hybrid, inference_cost, kept, pictures, spread, table, trained_ann
from scipy.stats import spearmanr

import h2sim
from h2sim.algorithms.convert import Conversion, accuracy_over_time, convert
from h2sim.attacks.activity import spike_counts
from h2sim.attacks.gradient_sign import Attack, attacked
from h2sim.evolve.cost import Weights, steepest, steps_to
from h2sim.evolve.search import Search, Tried, best_scale, evolve
from h2sim.evolve.significance import components, eigenvalues, noise_sensitivity, significance
from h2sim.evolve.trial import Measure, Running, Trial, set_thresholds, simulated, tries
from h2sim.train.trainer import Trainer

FOUR = "8C3(Encoding)-AP2(Spikes)-16C3-16C3-AP2(Spikes)-64FC-10FC"


@dataclass(frozen=True)
class Plan:
    """A network and how its thresholds are sought. window: T; images: E; population, generations: P and G."""

    notation: str
    window: int = 16
    images: int = 1000
    population: int = 15
    generations: int = 12


NETWORKS = {
    "three convolutions": Plan(FOUR),
    "six convolutions": Plan("8C3(Encoding)-8C3-AP2(Spikes)-16C3-16C3-AP2(Spikes)-32C3-32C3-64FC-10FC", 20, 500, 10, 8),
    "nine convolutions": Plan(
        "8C3(Encoding)-AP2(Spikes)-16C3-16C3-16C3-16C3-AP2(Spikes)-32C3-32C3-32C3-32C3-64FC-10FC", 24, 500, 10, 8
    ),
}
OTHER = Plan(FOUR, 16, 300, 10, 8)  # of the cost's terms, of simulated latency, of attacked pictures
DATA, ANN_EPOCHS, EPSILON = "mnist-5k", 8, 0.1
ANN_RATE = 0.05  # at the source's 0.01 so few steps learn nothing
SCALES = tuple(round(0.3 + 0.05 * n, 2) for n in range(25))
SHARES = (0.95, 0.98, 0.99)
WEIGHTS = Weights(1, 10, 100)  # gamma: one picture of 1,000 is a tenth of a step
TERMS = {"alpha": Weights(1, 0, 0), "beta": Weights(0, 10, 0), "gamma": Weights(0, 0, 100)}
COLUMNS = ("as converted", "best single scale", "evolved")


def start(plan: Plan, seed: int) -> tuple[Trainer, Trainer, Conversion]:
    """The network without spikes, the one that it becomes, and how."""
    data = data_set(DATA)
    ann = trained_ann(data, seed, ANN_EPOCHS, plan.notation, learning_rate=ANN_RATE)
    run = hybrid(data, plan.window, plan.notation, seed=seed)
    return ann, run, convert(run, ann, 99.7, [1.0], 512, plan.window, TESTED)


def search(plan: Plan, seed: int, weights: Weights = WEIGHTS) -> Search:
    return Search(population=plan.population, generations=plan.generations, seed=seed, weights=weights)


def one(name: str, seed: int) -> dict[str, Any]:
    """What a part of the report needs of a seed."""
    others = {"terms": terms, "latency": latency, "attacked": under_attack}
    return others[name](seed) if name in others else of_network(NETWORKS[name], seed)


def of_network(plan: Plan, seed: int) -> dict[str, Any]:
    """A network of one seed: its conversion, the best single scale, and what evolution finds."""
    ann, run, conversion = start(plan, seed)
    trial = Trial.of(run, plan.images, plan.window)
    first, how, tried = list(trial.thresholds.values()), search(plan, seed), Tried(None, {})
    with tries(trial, 1) as made:
        scale, control = best_scale(first, SCALES, made, how, 0.1, tried)
        _, as_it_is = best_scale(first, [1.0], made, how, 0.1, tried)
        best = evolve(first, made, how, 0.1, tried)
    found: dict[str, Any] = {
        "ann": conversion.ann_accuracy, "scale": scale, "nfe": best.nfe, "generations": len(best.by_generation),
        "training_cost": plan.images * best.nfe / len(run.dataset.train), "layers": list(trial.thresholds),
        "first": first,
    }  # fmt: skip
    for name, result in zip(COLUMNS, (as_it_is, control, best), strict=True):
        set_thresholds(run.network, result.thresholds)
        curve = accuracy_over_time(run.network, run.dataset, run.coding, TESTED)
        found[name] = {"thresholds": list(result.thresholds), "cost": result.cost, "curve": curve}
        steps = steps_to(curve, 0.99 * found["as converted"]["curve"][-1])
        spent = inference_cost(run, steps or plan.window)
        found[name] |= {"cycles": spent.cycles, "joules": spent.joules, "ans": sensitivity(run, ann)}
    found["components"], found["squared"] = principal(ann)
    return found


def terms(seed: int) -> dict[str, Any]:
    """What each term of the cost finds alone (figure 1 of the source), and all three."""
    _, run, _ = start(OTHER, seed)
    trial, tried, found = Trial.of(run, OTHER.images, OTHER.window), Tried(None, {}), {}
    with tries(trial, 1) as made:
        for name, weights in {**TERMS, "all three": WEIGHTS}.items():
            best = evolve(list(trial.thresholds.values()), made, search(OTHER, seed, weights), 0.1, tried)
            set_thresholds(run.network, best.thresholds)
            curve = accuracy_over_time(run.network, run.dataset, run.coding, TESTED)
            timestep, rise = steepest(curve, 0.1)
            found[name] = {"J": timestep, "rise": rise, "last": curve[-1]}
    return found


def latency(seed: int) -> dict[str, Any]:
    """What evolution finds where the latency is steps, simulated cycles, or joules."""
    _, run, _ = start(OTHER, seed)
    trial, tried, found = Trial.of(run, OTHER.images, OTHER.window), Tried(None, {}), {}
    arch, prices = h2sim.load_arch("h2learn"), h2sim.load_energy_table("28nm")
    measures: tuple[Measure, ...] = ("steps", "cycles", "joules")
    with tries(trial, 1) as made:
        for measure in measures:
            told = None if measure == "steps" else simulated(trial, measure, arch, prices)
            first = list(trial.thresholds.values())
            best = evolve(first, made, search(OTHER, seed), 0.1, tried, latency=told)
            set_thresholds(run.network, best.thresholds)
            curve = accuracy_over_time(run.network, run.dataset, run.coding, TESTED)
            steps = steepest(curve, 0.1)[0]
            spent = inference_cost(run, steps)
            found[measure] = {"J": steps, "at J": curve[steps - 1], "last": curve[-1], "cycles": spent.cycles,
                              "joules": spent.joules}  # fmt: skip
    return found


def under_attack(seed: int) -> dict[str, Any]:
    """Evolution on pictures that FGSM made on the network without spikes, judged on held-out ones made the same way."""
    ann, run, _ = start(OTHER, seed)
    plain = Trial.of(run, OTHER.images, OTHER.window)
    images, labels = pictures(run, TESTED), run.dataset.test.labels[run.dataset.test.spread(TESTED)]
    trial = replace(plain, images=moved(ann, torch.from_numpy(plain.images), plain.labels).numpy())
    judged = Running(replace(plain, images=moved(ann, images, labels).numpy(), labels=np.asarray(labels)))
    first, how, tried = list(trial.thresholds.values()), search(OTHER, seed), Tried(None, {})
    with tries(trial, 1) as made:
        scale, control = best_scale(first, SCALES, made, how, 0.1, tried)
        _, as_it_is = best_scale(first, [1.0], made, how, 0.1, tried)
        best = evolve(first, made, how, 0.1, tried)
    found: dict[str, Any] = {"scale": scale, "layers": list(trial.thresholds), "first": first}
    for name, result in zip(COLUMNS, (as_it_is, control, best), strict=True):
        set_thresholds(run.network, result.thresholds)
        found[name] = {"curve": list(judged.accuracies(result.thresholds)), "ans": sensitivity(run, ann),
                       "thresholds": list(result.thresholds)}  # fmt: skip
    return found


def moved(ann: Trainer, images: torch.Tensor, labels: Any) -> torch.Tensor:
    """Pictures after FGSM on the network without spikes."""
    wanted = torch.from_numpy(np.asarray(labels, np.int64))
    how = Attack("fgsm", EPSILON)
    return attacked(ann.network, images, wanted, 1, ann.settings.objective, how, torch.Generator())


def principal(ann: Any) -> tuple[list[int], list[int]]:
    """Principal components of each layer's pre-activations that hold 99.9 %, by both readings of eq. 13."""
    images = pictures(ann, 200)
    values, by_variance, squared = {"input": images.unsqueeze(0)}, [], []
    ann.network.eval()
    with torch.no_grad():
        for layer in ann.network.layers:
            described = ann.network.described[layer["name"]]
            values[layer["name"]] = ann.network.current(layer, [values[name] for name in described.inputs])
            if described.has_weights and layer["name"] != ann.network.layers[-1]["name"]:
                x = values[layer["name"]][0]
                rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) if x.dim() == 4 else x
                found = eigenvalues(rows.double().numpy())
                by_variance.append(components(found))
                squared.append(components(found, reading="squared"))
    return by_variance, squared


def sensitivity(run: Trainer, ann: Trainer) -> list[float]:
    """ANS of spike counts (eq. 15) by layer, on pictures that FGSM, epsilon 0.1, made on the network without spikes."""
    images, rows = pictures(run, 200), run.dataset.test.spread(200)
    counts = [spike_counts(run, each) for each in (images, moved(ann, images, run.dataset.test.labels[rows]))]
    return [noise_sensitivity(counts[0][name].numpy(), counts[1][name].numpy()) for name in counts[0]]


def steps_said(values: list[int | None]) -> str:
    return ", ".join("-" if value is None else str(value) for value in values)


def verdict(record: dict[str, list[dict[str, Any]]]) -> str:
    """What was found, a sentence a network."""
    said = []
    for name in NETWORKS:
        steps = {column: [wait(run, column, 0.99) for run in record[name]] for column in COLUMNS}
        last = {column: spread(run[column]["curve"][-1] for run in record[name]) for column in COLUMNS}
        words = "; ".join(f"{column} {steps_said(steps[column])} ({last[column]} at the end)" for column in COLUMNS)
        costs = {column: [run[column]["cost"] for run in record[name]] for column in COLUMNS}
        means = ", ".join(f"{column} {np.mean(values):.2f}" for column, values in costs.items())
        better = sum(a < b for a, b in zip(costs["evolved"], costs["best single scale"], strict=True))
        said.append(
            f"**{name}**: cost on training pictures {means}; evolved thresholds cost less than one scale for all in "
            f"{better} of {len(SEEDS)} seeds. Steps to 99 % of the plateau, held out, by seed: {words}."
        )
    return "\n\n".join(said)


def wait(run: dict[str, Any], column: str, share: float) -> int | None:
    """Steps of a seed to a share of the plateau of its thresholds as converted."""
    return steps_to(run[column]["curve"], share * run["as converted"]["curve"][-1])


def page(record: dict[str, list[dict[str, Any]]]) -> str:
    """The report."""
    weights = f"alpha {WEIGHTS.alpha:g}, beta {WEIGHTS.beta:g}, gamma {WEIGHTS.gamma:g}"
    text = f"""# Neuroevolution of layer thresholds, and one scale for all

{verdict(record)}

Made by `python reports/algorithms/evolution.py`. MNIST (5,000 real digits), conversion by activations (99.7), IF
neurons; cost of eq. 11 ({weights}) on training pictures; rand1bin, M 0.5 to 1.5, C 0.7; single scales {SCALES[0]:g} to
{SCALES[-1]:g}, a control that the source lacks, by the same cost on the same pictures. Accuracies are of {TESTED}
held-out pictures, which no search saw; seeds {", ".join(map(str, SEEDS))}. Steps count from the first and have no
delay between layers. A network that never stays at 99 % is priced at T. The source's networks are VGG11 and VGG15 on
CIFAR and ImageNet; its delays are BindsNET's.

"""
    text += "".join(section(name, record[name]) for name in NETWORKS)
    return text + of_terms(record["terms"]) + of_latency(record["latency"]) + of_attacks(record["attacked"])


def of_terms(runs: list[dict[str, Any]]) -> str:
    rows = [
        [name, ", ".join(str(run[name]["J"]) for run in runs), spread(run[name]["rise"] for run in runs),
         spread(run[name]["last"] for run in runs)]
        for name in runs[0]
    ]  # fmt: skip
    return f"""## Terms of the cost alone (figure 1)

`{FOUR}`, T = {OTHER.window}, E = {OTHER.images}, P = {OTHER.population}, G = {OTHER.generations}.

{table(["weighed", "J, by seed", "steepest rise", "accuracy at T"], rows)}
"""


def of_latency(runs: list[dict[str, Any]]) -> str:
    rows = [
        [name, ", ".join(str(run[name]["J"]) for run in runs), spread(run[name]["at J"] for run in runs),
         spread(run[name]["last"] for run in runs), spread((run[name]["cycles"] for run in runs), "{:,.0f}"),
         spread((run[name]["joules"] * 1e6 for run in runs), "{:.2f}")]
        for name in runs[0]
    ]  # fmt: skip
    return f"""## Latency as steps, simulated cycles, or joules

The latency term counts, in place of steps, the cycles or on-chip joules of h2learn's inference up to the steepest rise,
over those of one step. Network and search as above.

{table(["latency", "J, by seed", "accuracy at J", "accuracy at T", "cycles to J", "uJ to J"], rows)}
"""


def of_attacks(runs: list[dict[str, Any]]) -> str:
    rows = []
    for column in COLUMNS:
        plateaus = [run["as converted"]["curve"][-1] for run in runs]
        reached = [steps_to(run[column]["curve"], 0.99 * p) for run, p in zip(runs, plateaus, strict=True)]
        layers = [spread((run[column]["ans"][n] for run in runs), "{:.3f}") for n in range(len(runs[0]["layers"]))]
        rows.append([column, steps_said(reached), spread(run[column]["curve"][-1] for run in runs), *layers])
    shares = [np.array(run["evolved"]["thresholds"]) / np.array(run["first"]) for run in runs]
    of_layers = [[layer, *(f"{each[n]:.2f}" for each in shares)] for n, layer in enumerate(runs[0]["layers"])]
    head = ["thresholds", "steps to 99 %", "accuracy at T", *(f"ANS {layer}" for layer in runs[0]["layers"])]
    return f"""## On attacked pictures

Evolution and scale on pictures that FGSM, epsilon {EPSILON:g}, moved on the network without spikes; judged on held-out
pictures that were moved the same way. Network and search as above. Best single scales:
{", ".join(f"{run['scale']:g}" for run in runs)}.

{table(head, rows)}
{table(["evolved share of", *(f"seed {s}" for s in SEEDS)], of_layers)}"""


def section(name: str, runs: list[dict[str, Any]]) -> str:
    plan, rows = NETWORKS[name], []
    for column in COLUMNS:
        found = [run[column] for run in runs]
        reached = [[wait(run, column, share) for run in runs] for share in SHARES]
        rows.append([column, spread((each["cost"] for each in found), "{:.2f}"), *map(steps_said, reached),
                     spread(each["curve"][-1] for each in found), spread((each["cycles"] for each in found), "{:,.0f}"),
                     spread((each["joules"] * 1e6 for each in found), "{:.2f}"),
                     spread((float(np.mean(each["ans"])) for each in found), "{:.3f}")])  # fmt: skip
    head = ["thresholds", "cost", *(f"steps to {share:.0%}" for share in SHARES), f"accuracy at T = {plan.window}",
            "cycles a sample to 99 %", "uJ", "ANS, mean of layers"]  # fmt: skip
    shares = [np.array(run["evolved"]["thresholds"]) / np.array(run["first"]) for run in runs]
    of_layers = [
        [layer, *(f"{each[n]:.2f}" for each in shares), *(str(run["components"][n]) for run in runs),
         *(str(run["squared"][n]) for run in runs)]
        for n, layer in enumerate(runs[0]["layers"])
    ]  # fmt: skip
    heads = ["layer", *(f"{what}, {s}" for what in ("share", "k", "k squared") for s in SEEDS)]
    return f"""## {name}: `{plan.notation}`

T = {plan.window}, E = {plan.images}, P = {plan.population}, at most {plan.generations} generations.

{table(head, rows)}
Steps are of each seed. Best single scales: {", ".join(f"{run['scale']:g}" for run in runs)}. Without spikes:
{spread(run["ann"] for run in runs)}. nfe {", ".join(str(run["nfe"]) for run in runs)}; training cost (eq. 17)
{spread((run["training_cost"] for run in runs), "{:.1f}")} epochs, the scan's
{len(SCALES) * runs[0]["training_cost"] / runs[0]["nfe"]:.1f}.

Evolved thresholds as shares of the converted ones; principal components k that hold 99.9 % of the variance of a layer,
by centred eigenvalues and by their squares (eq. 13 as printed); by seed:

{table(heads, of_layers)}
Rank correlation of a layer's share with its rise in components: {", ".join(f"{correlation(run):.2f}" for run in runs)}.

"""


def correlation(run: dict[str, Any]) -> float:
    """Spearman's, over the layers that have one before them."""
    shares = np.array(run["evolved"]["thresholds"]) / np.array(run["first"])
    return float(spearmanr(shares[1:], significance(run["components"])[1:]).statistic)


def main() -> None:
    """Makes what is missing and writes the report."""
    record = kept("evolution", one, [*NETWORKS, "terms", "latency", "attacked"])
    (HERE / "evolution.md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
