"""Rivals on traces of version 2: what they cannot run is said in a line, and never run as something else."""

from __future__ import annotations

import pytest

import h2sim
from h2sim.errors import H2SimError
from h2sim.rivals.operands import unknown_operand
from h2sim.trace import parse_meta
from h2sim.trace.model import KINDS_OF_2
from tests.helpers.steps import draw_step


@pytest.mark.parametrize("machine", ["loihi", "spinalflow"])
@pytest.mark.parametrize("seed", range(25))
def test_a_random_step_is_refused_in_a_line_or_leaves_its_maps_out(machine, seed, tmp_path):
    trace, ran, said = draw_step(seed, tmp_path), set[str](), ""
    try:
        ran = {row.layer for row in h2sim.simulate(h2sim.load_machine(machine), trace).rows}
    except H2SimError as error:
        said = str(error)
    assert ran or said.count(trace.path.name) == 1
    assert "\n" not in said
    for layer in trace.meta.layers:
        new = layer.kind in KINDS_OF_2 or layer.is_map or layer.groups > 1 or layer.mode != "average"
        assert not (new and layer.name in ran)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mode": "max"}, "a pool of mode 'max': the machine averages over one window"),
        ({"spiking": False}, "kind 'pool' without neurons: the machine passes on spikes of neurons alone"),
    ],
)
def test_loihi_names_the_layer(change, why):
    from h2sim.rivals.loihi.wiring import wire

    shapes = {"in_shape": [1, 4, 4], "out_shape": [1, 2, 2], "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]}
    pool = {"name": "p", "kind": "pool", "inputs": ["input"], **shapes, **change}
    out = {"name": "out", "kind": "fc", "inputs": ["p"], "in_features": 4, "out_features": 2, "spiking": False}
    meta = parse_meta(
        {"format": "h2sim-trace", "version": 2, "network": "", "dataset": "", "timesteps": 1, "batch": 1,
         "phases": ["forward"], "neuron": {"threshold": 1.0, "decay": 0.0, "window": [0.0, 1.0]},
         "source": {"kind": "synthetic"}, "layers": [pool, out]}, "t",
    )  # fmt: skip
    with pytest.raises(H2SimError, match=f"layer p: expected neurons and weights; got {why}"):
        wire(meta, "t.npz")


SHAPE = {"in_shape": [2, 4, 4], "out_shape": [2, 4, 4]}
WINDOW = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0]}


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ({"kind": "add", "inputs": ["a", "b"], "op": "and", **SHAPE}, "an 'and' of spikes: the machine sums"),
        ({"kind": "conv", "inputs": ["a"], "groups": 2, **SHAPE, **WINDOW}, "2 groups of channels"),
        ({"kind": "gate", "inputs": ["a"], **SHAPE}, "kind 'gate' without neurons"),
        ({"kind": "pool", "inputs": ["a"], "adaptive": True, **SHAPE}, "a pool of mode 'average', adaptive"),
        ({"kind": "add", "inputs": ["a", "b"], **SHAPE}, None),
        ({"kind": "conv", "inputs": ["a"], "norm": {"kind": "batch"}, **SHAPE, **WINDOW}, None),
    ],
)
def test_what_no_rival_has_a_place_for(layer, why):
    read = [{"name": name, "kind": "conv", "inputs": ["input"], **SHAPE, **WINDOW} for name in ("a", "b")]
    meta = parse_meta(
        {"format": "h2sim-trace", "version": 2, "network": "", "dataset": "", "timesteps": 1, "batch": 1,
         "phases": ["forward"], "neuron": {"threshold": 1.0, "decay": 0.0, "window": [0.0, 1.0]},
         "source": {"kind": "synthetic"}, "layers": [*read, {"name": "new", **layer}]}, "t",
    )  # fmt: skip
    said = unknown_operand(meta, meta.layer("new"))
    assert said is None if why is None else (said or "").startswith(why)
    assert unknown_operand(meta, meta.layer("a")) is None
