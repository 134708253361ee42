"""An iteration of an attack as a trace: a forward pass and a backward pass that goes on to the input."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from h2sim.attacks.networks import OwnNetwork
from h2sim.attacks.reading import aims
from h2sim.train import bptt
from h2sim.train.batches import held_out
from h2sim.train.trainer import Trainer


def write_iteration(
    run: Trainer, path: Path, samples: int = 4, *, threshold: float | None = None, targeted: bool = False
) -> None:
    """Writes the trace of the first iteration on held-out samples, its masks alone.

    threshold: of the penultimate layer, of a network that reads spikes; the trace says it. targeted: the loss is of
    the class after the label. Signs, sampling and what else becomes of the input's gradient are no work of the
    engines: they are not in it. Raises TrainingError for a threshold that cannot be set.
    """
    network = None if run.network.reads_analog and threshold is None else OwnNetwork(run, threshold)
    batch = next(held_out(run.dataset, run.coding, samples, part=samples))
    (wanted, *_) = aims(batch.labels, run.network.classes, targeted=targeted)
    batch = replace(
        batch, inputs=batch.inputs.clone().requires_grad_(), labels=batch.labels if wanted is None else wanted
    )
    was_training = run.network.training
    run.network.eval()
    try:
        with nullcontext() if network is None else network.evaluated(tuned=True):
            _, record = bptt.recorded_gradients(
                run.network, batch, run.settings.timesteps, run.settings.objective, len(batch.labels), values=False
            )
    finally:
        run.network.train(was_training)
        run.network.zero_grad(set_to_none=True)
    for name, neuron in ({} if network is None else network.tuned).items():
        record.layers[name].neuron = neuron.to_meta()
    aim = ", towards the class after the label" if targeted else ""
    source = {"attack": f"iteration 1{aim}"}
    run.write_trace(path, record, batch, source, phases=("forward", "backward"), input_gradient=True)
