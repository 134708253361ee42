"""Which job completes which gradient: held to a backward pass that hands parts on one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from h2sim.errors import TraceError
from h2sim.trace import parse_meta, write_trace
from h2sim.trace.bits import pack
from h2sim.trace.gradients import Gradients
from tests.helpers.operands import NEURON, draw


def parts_of(meta, gradients, job):
    """What a job adds to each map when it runs, found by walking down from it: 1 for each map that it reaches."""
    reached, waiting = Counter(), list(dict.fromkeys(meta.layer(job).inputs))
    while waiting:
        name = waiting.pop()
        if name == "input" or reached[name]:
            continue
        reached[name] += 1
        below = meta.layer(name)
        if below.is_map and gradients.jobs_of(name)[-1] == job:
            waiting += below.inputs
    return reached


@pytest.mark.parametrize("seed", range(150))
def test_every_trained_map_is_completed_once_by_the_last_job_that_reaches_it(seed):
    meta = parse_meta(draw(seed, steps=9).meta(), "random")
    gradients = Gradients(meta)
    left, complete = Counter(), set()
    for layer in reversed(meta.layers):
        if layer.is_map:
            continue
        reached = {n for n in parts_of(meta, gradients, layer.name) if gradients.trained(n)}
        shares = gradients.shares(layer.name)
        assert {share.name for share in shares} == reached
        for share in shares:
            assert share.name not in complete
            if share.complete:
                assert left[share.name] == share.others
                complete.add(share.name)
            else:
                left[share.name] += 1
    read = {name for layer in meta.layers for name in layer.inputs}
    assert complete == {n for n in read if n != "input" and gradients.trained(n) and gradients.jobs_of(n)}
    assert complete


def test_a_gate_under_a_mean_over_time_has_one_mask_a_sample(tmp_path):
    shape = {"in_shape": [1, 2, 2], "out_shape": [1, 2, 2]}
    layers = [
        {"name": "a", "kind": "conv", "inputs": ["input"], **shape, "kernel": [1, 1], "stride": [1, 1],
         "padding": [0, 0]},
        {"name": "g", "kind": "gate", "inputs": ["a"], **shape},
        {"name": "out", "kind": "fc", "inputs": ["g"], "in_features": 4, "out_features": 2, "spiking": False},
    ]  # fmt: skip
    bits = {"input.spikes": 4, "a.spikes": 4, "a.window": 4, "a.grad": 4, "g.kept": 4, "out.grad": 2}
    members = {name: pack(np.ones((3, 2, count))) for name, count in bits.items()}
    meta = {"format": "h2sim-trace", "version": 2, "network": "", "dataset": "", "timesteps": 3, "batch": 2,
            "phases": ["forward", "backward"], "neuron": NEURON, "source": {"kind": "synthetic"},
            "layers": layers}  # fmt: skip
    write_trace(tmp_path / "t.npz", meta, members)
    layers[-1]["mean_over_time"] = True
    with pytest.raises(TraceError, match=r"g\.kept: expected uint8 \(1, 2, 1\); got uint8 \(3, 2, 1\)"):
        write_trace(tmp_path / "t.npz", meta, members)
    write_trace(tmp_path / "t.npz", meta, members | {"g.kept": members["g.kept"][:1]})
