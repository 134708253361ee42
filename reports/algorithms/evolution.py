"""Neuroevolution: `python reports/algorithms/evolution.py [NETWORK ...]` writes reports/algorithms/evolution.md.

Every network's numbers are kept in evolution.json beside it; one that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import HERE, TESTED, data_set, hybrid, inference_cost, spread, table, trained_ann
from scipy.stats import spearmanr

from h2sim.algorithms.convert import accuracy_over_time, convert
from h2sim.attacks.gradient_sign import Attack, attacked
from h2sim.evolve.cost import Weights, steps_to
from h2sim.evolve.search import Search, Tried, best_scale, evolve
from h2sim.evolve.significance import components, eigenvalues, noise_sensitivity, significance
from h2sim.evolve.trial import Trial, set_thresholds, tries
from h2sim.train.session import torch_session

NETWORKS = {
    "four layers": "8C3(Encoding)-AP2(Spikes)-16C3-16C3-AP2(Spikes)-64FC-10FC",
    "seven layers": "8C3(Encoding)-8C3-AP2(Spikes)-16C3-16C3-AP2(Spikes)-32C3-32C3-64FC-10FC",
}
DATA, SEEDS, ANN_EPOCHS, WINDOW, IMAGES = "mnist-5k", (1, 2, 3), 8, 16, 1000
ANN_RATE = 0.05  # at the source's 0.01 so few steps learn nothing
SCALES = tuple(round(0.3 + 0.05 * n, 2) for n in range(25))
SHARES = (0.95, 0.98, 0.99)
WEIGHTS = Weights(1, 10, 100)  # gamma: one picture of 1,000 is a tenth of a step
RECORD = HERE / "evolution.json"
COLUMNS = ("as converted", "best single scale", "evolved")


def one(notation: str, seed: int) -> dict[str, Any]:
    """A network of one seed: its conversion, the best single scale, and what evolution finds."""
    data = data_set(DATA)
    with torch_session(1):
        ann = trained_ann(data, seed, ANN_EPOCHS, notation, learning_rate=ANN_RATE)
        run = hybrid(data, WINDOW, notation, seed=seed)
        conversion = convert(run, ann, 99.7, [1.0], 512, WINDOW, TESTED)
    trial = Trial.of(run, IMAGES, WINDOW)
    first = list(trial.thresholds.values())
    how = Search(population=15, generations=12, seed=seed, weights=WEIGHTS)
    began, tried = time.monotonic(), Tried(None, {})
    with tries(trial, os.cpu_count() or 1) as made:
        scale, control = best_scale(first, SCALES, made, how, 0.1, tried)
        _, as_it_is = best_scale(first, [1.0], made, how, 0.1, tried)
        by_scale = time.monotonic() - began
        best = evolve(first, made, how, 0.1, tried)
    found: dict[str, Any] = {
        "ann": conversion.ann_accuracy, "scale": scale, "nfe": best.nfe, "generations": len(best.by_generation),
        "seconds": [by_scale, time.monotonic() - began - by_scale],
        "training_cost": IMAGES * best.nfe / len(data.train), "layers": list(trial.thresholds), "first": first,
    }  # fmt: skip
    for name, result in zip(COLUMNS, (as_it_is, control, best), strict=True):
        set_thresholds(run.network, result.thresholds)
        curve = accuracy_over_time(run.network, data, run.coding, TESTED)
        found[name] = {"thresholds": list(result.thresholds), "cost": result.cost, "curve": curve}
        steps = steps_to(curve, 0.99 * found["as converted"]["curve"][-1])
        spent = inference_cost(run, steps or WINDOW)
        found[name] |= {"cycles": spent.cycles, "joules": spent.joules, "ans": sensitivity(run, ann)}
    found["components"], found["squared"] = principal(ann)
    return found


def principal(ann: Any) -> tuple[list[int], list[int]]:
    """Principal components of each layer's pre-activations that hold 99.9 %, by both readings of eq. 13."""
    images = torch.from_numpy(np.ascontiguousarray(ann.dataset.test.samples(np.arange(200)), np.float32))
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


def sensitivity(run: Any, ann: Any) -> list[float]:
    """ANS of spike counts (eq. 15) by layer, on pictures that FGSM, epsilon 0.1, made on the network without spikes."""
    from h2sim.export.record import LayerRecord

    rows = np.arange(200)
    images = torch.from_numpy(np.ascontiguousarray(run.dataset.test.samples(rows), np.float32))
    labels = torch.from_numpy(np.asarray(run.dataset.test.labels[rows], np.int64))
    moved = attacked(ann.network, images, labels, 1, ann.settings.objective, Attack("fgsm", 0.1), torch.Generator())
    counts = []
    with torch.no_grad():
        for each in (images, moved):
            records = {layer["name"]: LayerRecord(values=False) for layer in run.network.layers}
            run.network.eval()
            run.network(each.unsqueeze(0), WINDOW, records)
            spikes = {name: record.spikes for name, record in records.items() if record.spikes is not None}
            counts.append({name: np.unpackbits(packed, axis=-1).sum(0) for name, packed in spikes.items()})
    return [noise_sensitivity(counts[0][name], counts[1][name]) for name in counts[0]]


def steps_said(values: list[int | None]) -> str:
    return ", ".join("-" if value is None else str(value) for value in values)


def page(record: dict[str, list[dict[str, Any]]]) -> str:
    """The report of what was made so far."""
    weights = f"alpha {WEIGHTS.alpha:g}, beta {WEIGHTS.beta:g}, gamma {WEIGHTS.gamma:g}"
    text = f"""# Neuroevolution of layer thresholds, and one scale for all

Made by `python reports/algorithms/evolution.py`. MNIST (5,000 real digits), conversion by activations (99.7), IF
neurons, T = {WINDOW}; cost of eq. 11 ({weights}) on {IMAGES} training pictures; population 15, up to 12 generations,
rand1bin; single scales {SCALES[0]:g} to {SCALES[-1]:g}. Accuracies are of {TESTED} held-out pictures, which no search
saw; seeds {", ".join(map(str, SEEDS))}. The source's networks are VGG11 and VGG15 on CIFAR and ImageNet. The single
scale is a control that the source lacks.

"""
    return text + "".join(section(name, runs) for name, runs in record.items())


def section(name: str, runs: list[dict[str, Any]]) -> str:
    rows = []
    for column in COLUMNS:
        found = [run[column] for run in runs]
        curves = [each["curve"] for each in found]
        plateaus = [run["as converted"]["curve"][-1] for run in runs]
        reached = [[steps_to(c, share * p) for c, p in zip(curves, plateaus, strict=True)] for share in SHARES]
        rows.append([column, spread((each["cost"] for each in found), "{:.2f}"), *map(steps_said, reached),
                     spread(curve[-1] for curve in curves), spread((each["cycles"] for each in found), "{:,.0f}"),
                     spread((each["joules"] * 1e6 for each in found), "{:.2f}"),
                     spread((float(np.mean(each["ans"])) for each in found), "{:.3f}")])  # fmt: skip
    head = ["thresholds", "cost", *(f"steps to {share:.0%}" for share in SHARES), f"accuracy at T = {WINDOW}",
            "cycles a sample to 99 %", "uJ", "ANS, mean of layers"]  # fmt: skip
    shares = [np.array(run["evolved"]["thresholds"]) / np.array(run["first"]) for run in runs]
    of_layers = [[layer, *(f"{each[n]:.2f}" for each in shares), *(str(run["components"][n]) for run in runs)]
                 for n, layer in enumerate(runs[0]["layers"])]  # fmt: skip
    seeds = SEEDS[: len(runs)]
    scales = ", ".join(f"{run['scale']:g}" for run in runs)
    seconds = ", ".join(f"{run['seconds'][0]:.0f} and {run['seconds'][1]:.0f}" for run in runs)
    ranks = ", ".join(f"{correlation(run):.2f}" for run in runs)
    return f"""## {name}: `{NETWORKS[name]}`

{table(head, rows)}
Steps are of each seed. Best single scales: {scales}. Without spikes: {spread(run["ann"] for run in runs)}. nfe
{", ".join(str(run["nfe"]) for run in runs)}; training cost (eq. 17)
{spread((run["training_cost"] for run in runs), "{:.1f}")} epochs; seconds of the scan and of evolution: {seconds}.

Evolved thresholds as shares of the converted ones, and principal components (99.9 % of the variance), by seed:

{table(["layer", *(f"share, {s}" for s in seeds), *(f"k, {s}" for s in seeds)], of_layers)}
Rank correlation of a layer's share with its rise in components: {ranks}.

"""


def correlation(run: dict[str, Any]) -> float:
    """Spearman's, over the layers that have one before them."""
    shares = np.array(run["evolved"]["thresholds"]) / np.array(run["first"])
    return float(spearmanr(shares[1:], significance(run["components"])[1:]).statistic)


def main() -> None:
    """Makes what is missing and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    given = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in given.networks:
        for seed in SEEDS[len(record.get(name, [])) :]:
            record.setdefault(name, []).append(one(NETWORKS[name], seed))
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
            print(name, seed, {c: record[name][-1][c]["curve"] for c in COLUMNS}, flush=True)
    (HERE / "evolution.md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
