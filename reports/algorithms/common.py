"""What the reports on the sources' algorithms share: data, training, cost on H2Learn, tables.

Networks, samples and epochs are smaller than the sources': two cores, minutes. Every report says so. The numbers of
each data set and seed are kept in a JSON file beside the report: a run that was stopped goes on, `--again` begins anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import h2sim
from h2sim.algorithms.ann import ann_settings
from h2sim.algorithms.convert import Balancing, Conversion, convert
from h2sim.algorithms.diet import diet_settings
from h2sim.attacks.activity import spike_counts, spiking_activity
from h2sim.compare.estimate import estimate
from h2sim.datasets import Dataset, load_dataset
from h2sim.export.record import LayerRecord, StepRecord, step_meta
from h2sim.trace import Network, load_network, load_trace, write_trace
from h2sim.trace.summary import trace_counts
from h2sim.train.session import torch_session
from h2sim.train.trainer import Trainer

HERE = Path(__file__).parent
NETWORK = "8C3(Encoding)-AP2(Spikes)-16C3-16C3-AP2(Spikes)-D10-64FC-10FC"
DATA = {"mnist-5k": None, "fashion-mnist": 6000}  # training samples that are used; None: all
TESTED = 1000
SEEDS = (1, 2, 3)
TRACED = 4  # samples of a sub-batch


@dataclass(frozen=True)
class Cost:
    """What H2Learn takes for a sample: cycles, and on-chip and off-chip joules."""

    cycles: float
    joules: float
    offchip_joules: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cycles + other.cycles, self.joules + other.joules, self.offchip_joules + other.offchip_joules)

    def times(self, n: float) -> Cost:
        """The cost of n samples."""
        return Cost(self.cycles * n, self.joules * n, self.offchip_joules * n)

    @classmethod
    def of(cls, kept: Mapping[str, float]) -> Cost:
        """A cost as a record keeps it."""
        return cls(**kept)


NOTHING = Cost(0.0, 0.0, 0.0)


def network_of(data: Dataset, notation: str = NETWORK) -> Network:
    """The network for a data set."""
    return load_network(notation, data.shape, data.classes)


def trained_ann(data: Dataset, seed: int, epochs: int = 8, notation: str = NETWORK, **others: Any) -> Trainer:
    """The network without spikes, trained."""
    network = network_of(data, notation)
    settings = ann_settings(
        network.name, data.name, seed=seed, epochs=epochs, train_samples=DATA.get(data.name), **others
    )
    return finished(Trainer(settings, list(network.layers), data))


def hybrid(data: Dataset, timesteps: int, notation: str = NETWORK, **others: Any) -> Trainer:
    """A spiking network of a recipe that begins with a conversion, not converted yet."""
    network = network_of(data, notation)
    settings = diet_settings(network.name, data.name, timesteps, train_samples=DATA.get(data.name), **others)
    return Trainer(settings, list(network.layers), data)


def finished(run: Trainer, told: Callable[[int], None] = lambda done: None) -> Trainer:
    """The run, trained to its end."""
    while run.iteration < run.iterations:
        run.step()
        told(run.iteration)
    return run


def balanced(run: Trainer, ann: Trainer, scales: Sequence[float], timesteps: int, steps: int = 100) -> Conversion:
    """Converts by balancing; the last scale stays."""
    return convert(run, ann, Balancing(timesteps=steps), scales, 512, timesteps, TESTED)


def training_cost(run: Trainer) -> Cost:
    """What a sample of a training step takes on H2Learn, in a batch of 64 as sub-batches of 4.

    Of a recipe with several updates a batch, the sum over them.
    """
    return traced_cost(run)[0]


def traced_cost(run: Trainer) -> tuple[Cost, dict[str, dict[str, float]]]:
    """What a sample of a step takes, and each layer's shares of zeros: of spikes, and of membrane gradients.

    Of a recipe with several updates a batch, the cost is their sum and the shares are their means.
    """
    _, records, part = run.recorded_step(TRACED, values=False)
    total, zeros = NOTHING, dict[str, dict[str, list[float]]]()
    with tempfile.TemporaryDirectory() as folder:
        for record in records:
            path = Path(folder) / "t.npz"
            run.write_trace(path, record, part, {})
            total += _simulated(path, batch=True)
            for row in trace_counts(load_trace(path)):
                for kind in ("spikes", "grad"):
                    if (share := row.share(kind)) is not None:
                        zeros.setdefault(row.layer.name, {}).setdefault(kind, []).append(1 - float(share))
    return total, {name: {k: statistics.fmean(v) for k, v in kinds.items()} for name, kinds in zeros.items()}


def inference_cost(run: Trainer, timesteps: int | None = None) -> Cost:
    """What the classification of a sample takes on H2Learn, held-out samples of a sub-batch."""
    with inference_trace(run, timesteps) as path:
        return _simulated(path, batch=False)


def estimated(run: Trainer) -> dict[str, float]:
    """uJ of a sample's inference by HIRE-SNN's eq. 8 (45 nm, FP32), and that of the network without spikes."""
    with inference_trace(run) as path:
        found = estimate(load_trace(path), h2sim.load_energy_table("45nm"))
        return {"spiking": found.energy.fp32_pj / 1e6, "without": found.ann_energy.fp32_pj / 1e6}


@contextmanager
def inference_trace(run: Trainer, timesteps: int | None = None) -> Iterator[Path]:
    """The file of a forward pass of held-out samples."""
    steps, data = timesteps or run.settings.timesteps, run.dataset
    images = pictures(run, TRACED)
    record = StepRecord(input_analog=images.unsqueeze(0).numpy())
    record.layers = {layer["name"]: LayerRecord(values=False) for layer in run.network.layers}
    run.network.eval()
    with torch.no_grad():
        run.network(images.unsqueeze(0), steps, record.layers)
    run.network.train()
    layers = [
        layer if (neuron := record.layers[layer["name"]].neuron) is None else {**layer, "neuron": neuron}
        for layer in run.network.layers
        if layer["kind"] != "gate"
    ]
    gates = {layer["name"]: layer["inputs"][0] for layer in run.network.layers if layer["kind"] == "gate"}
    layers = [{**layer, "inputs": [gates.get(name, name) for name in layer["inputs"]]} for layer in layers]
    record.layers = {name: kept for name, kept in record.layers.items() if name not in gates}
    meta = step_meta(
        network=run.settings.network, dataset=data.name, timesteps=steps, batch=TRACED,
        neuron=run.settings.neuron.to_meta(), source={"kind": "inference"}, layers=layers, phases=("forward",),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.npz"
        write_trace(path, meta, record.members())
        yield path


def pictures(run: Trainer, samples: int) -> torch.Tensor:
    """Held-out pictures, (N, C, H, W)."""
    return torch.from_numpy(
        np.ascontiguousarray(run.dataset.test.samples(run.dataset.test.spread(samples)), np.float32)
    )


def simulated_cost(path: Path) -> Cost:
    """What a sample of a trace takes in a steady pipeline."""
    return _simulated(path, batch=False)


def _simulated(path: Path, *, batch: bool) -> Cost:
    result = h2sim.simulate(h2sim.load_arch("h2learn"), load_trace(path))
    activity, n = result.activity, TRACED
    cycles = activity.batch_cycles / (activity.sub_batches * n) if batch else activity.steady_cycles / n
    return Cost(cycles, result.cost.energy_j / n, result.cost.offchip_energy_j / n)


def activity_of(run: Trainer, samples: int = 200) -> dict[str, float]:
    """SA of each layer over held-out samples."""
    return spiking_activity(spike_counts(run, pictures(run, samples)))


@dataclass(frozen=True)
class _Job:
    make: Callable[[str, int], dict[str, Any]]

    def __call__(self, job: tuple[str, int]) -> dict[str, Any]:
        with torch_session(1):
            return self.make(*job)


def kept(name: str, make: Callable[[str, int], dict[str, Any]], of: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """What `make` finds for each of `of` and each seed, from NAME.json or, where it is not there, by a process a core.

    make: a function of a module, whose result is JSON; costs are kept by their fields. The command's `--again` drops
    what was kept.
    """
    parser = argparse.ArgumentParser(description="Makes what is missing, and writes the report.")
    parser.add_argument("--again", action="store_true", help="Make all numbers anew.")
    file = HERE / f"{name}.json"
    record: dict[str, Any] = {}
    if not parser.parse_args().again and file.exists():
        record = json.loads(file.read_text())
    jobs = [(each, seed) for each in of for seed in SEEDS if f"{each} {seed}" not in record]
    with ProcessPoolExecutor(os.cpu_count() or 1, get_context("spawn")) as pool:
        running = {pool.submit(_Job(make), job): job for job in jobs}
        for done in as_completed(running):
            each, seed = running[done]
            record[f"{each} {seed}"] = json.loads(json.dumps(done.result(), default=asdict))
            text = json.dumps({key: record[key] for key in sorted(record)}, indent=1) + "\n"
            file.write_text(text, encoding="utf-8")
            print(f"{name}: {each}, seed {seed}: {len(record)} made", flush=True)
    return {each: [record[f"{each} {seed}"] for seed in SEEDS] for each in of}


def data_set(name: str) -> Dataset:
    """A data set that a package ships."""
    return load_dataset(name)


def spread(values: Iterable[float], form: str = "{:.1%}") -> str:
    """Mean and standard deviation over seeds; a dash of none."""
    kept = list(values)
    if not kept:
        return "-"
    deviation = statistics.stdev(kept) if len(kept) > 1 else 0.0
    return f"{form.format(statistics.fmean(kept))} \u00b1 {form.format(deviation)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers at the right."""
    lines = [f"| {' | '.join(head)} |", "|" + "|".join(["---", *["---:"] * (len(head) - 1)]) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def within_noise(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Whether a difference of means is more than the spread: in words."""
    gap = statistics.fmean(ours) - statistics.fmean(theirs)
    noise = max(statistics.stdev(ours), statistics.stdev(theirs))
    verdict = "within the spread over seeds" if abs(gap) <= noise else "more than the spread over seeds"
    return f"{gap:+.1%}, {verdict}"
