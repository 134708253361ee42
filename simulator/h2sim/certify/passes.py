"""S-IBP's forward passes as traces that H2Learn runs: inference on the spikes that bounds are made of.

Eq. 6.8 asks of every layer with weights for w on the lower bounds of its input, and for w+ and w- on what lies between
the bounds. For spikes all three read 0 and 1, which is what the Forward Engine is built for. So a pass is a forward
trace whose layers send those spikes instead of a network's: `lower`, run once with w, and `between`, run twice, with w+
and with w-, whose sub-LUTs are programmed anew. Window masks are those of the lower and of the upper membranes, at
which the surrogate of fire is taken.

What a trace says and bounds do not ask for: Soma's work is counted in each pass, three times, where they need it twice.
What it does not say: the addition of the three sums. S-CROWN has no such trace: no engine holds a row of coefficients
for every class (see operations).
"""

from __future__ import annotations

from pathlib import Path

import torch

from h2sim.certify.bounding import Bounds
from h2sim.errors import NetworkError, at
from h2sim.export.record import LayerRecord, StepRecord, pack_bits, step_meta
from h2sim.trace import write_trace
from h2sim.train.network import SpikingNetwork

TIMES = {"lower": 1, "between": 2}  # how often each pass is run


def write_passes(
    network: SpikingNetwork, lower: torch.Tensor, upper: torch.Tensor, found: Bounds, folder: Path, dataset: str
) -> dict[str, Path]:
    """Writes `lower.npz` and `between.npz` to a folder, of bounds that were `found` for inputs from lower to upper.

    lower, upper: (T', N, ...) spikes, or pixels (N, C, H, W). Raises NetworkError for a network with maps between its
    neurons that no trace of inference has (dropout).
    """
    for name, layer in network.described.items():
        if layer.kind == "gate":
            raise NetworkError(at(name, "kind", "one that a trace of inference has", layer.kind))
    steps, samples = next(iter(found.layers.values())).m_lower.shape[:2]
    paths = {}
    for which in TIMES:
        record = StepRecord()
        sent = lower if which == "lower" else upper - lower
        values = (sent.unsqueeze(0) if sent.dim() == 4 else sent).detach()
        if network.reads_analog:
            record.input_analog = values.to(torch.float32).numpy()
        else:
            record.input_spikes = pack_bits(values.numpy() != 0)
        for name, bounded in found.layers.items():
            kept = record.layers[name] = LayerRecord(values=False)
            if bounded.s_lower is not None and bounded.s_upper is not None:
                spikes = bounded.s_lower if which == "lower" else bounded.s_upper - bounded.s_lower
                membrane = bounded.m_lower if which == "lower" else bounded.m_upper
                kept.spikes = pack_bits(spikes.detach().numpy() != 0)
                kept.window = pack_bits(network.neurons[name].in_window(membrane.detach()).numpy())
        layers = [
            {**entry, "bias": entry["name"] in network.biases} if entry["name"] in network.weights else entry
            for entry in network.layers
        ]
        given = network.checked.meta.input
        meta = step_meta(
            network="bounds", dataset=dataset, timesteps=steps, batch=samples, neuron=network.neuron.to_meta(),
            source={"kind": "inference", "bounds": f"S-IBP, {which}"}, layers=layers, phases=("forward",),
            input=given.model_dump(mode="json", exclude_none=True) if given else None,
        )  # fmt: skip
        paths[which] = folder / f"{which}.npz"
        write_trace(paths[which], meta, record.members())
    return paths
