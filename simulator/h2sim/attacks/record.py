"""An iteration of an attack as a trace: a forward pass and a backward pass that goes on to the input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from h2sim.train import bptt
from h2sim.train.batches import held_out
from h2sim.train.trainer import Trainer


def write_iteration(run: Trainer, path: Path, samples: int = 4) -> None:
    """Writes the trace of the first iteration on held-out samples, its masks alone.

    Sampling, sign and transform are no work of the engines: they are not in it.
    """
    batch = next(held_out(run.dataset, run.coding, samples, part=samples))
    batch = replace(batch, inputs=batch.inputs.clone().requires_grad_())
    was_training = run.network.training
    run.network.eval()
    try:
        _, record = bptt.recorded_gradients(
            run.network, batch, run.settings.timesteps, run.settings.objective, len(batch.labels), values=False
        )
    finally:
        run.network.train(was_training)
        run.network.zero_grad(set_to_none=True)
    source = {"attack": "spike-compatible, iteration 1"}
    run.write_trace(path, record, batch, source, phases=("forward", "backward"), input_gradient=True)
