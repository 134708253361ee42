"""The gradient of the network input: a backward job of the first layer, where a trace says that it was asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from h2sim.arch import load_arch
from h2sim.errors import TraceError
from h2sim.pipeline.step import simulate_job, simulate_step
from h2sim.trace import Sparsity, like, load_network, load_trace, parse_notation, synthesise, write_trace
from h2sim.trace.network import Network

FIRST = "64C3(Encoding)-AP2-128C3-128C3-AP2-256FC-10FC"
VALUE = 2  # bytes


def written(folder, network, timesteps=6, batch=4, zeros=(0.8, 0.8, 0.8), asked=True, name="t", **others):
    meta, members = synthesise(network, timesteps, batch, Sparsity(*zeros), 0, **others)
    if asked:
        meta["input_gradient"] = True
    write_trace(folder / f"{name}.npz", meta, dict(members))
    return load_trace(folder / f"{name}.npz")


def job(trace, layer="conv1", **changes):
    arch = load_arch("h2learn").with_(changes)
    return simulate_job(arch, trace, layer, "backward", ideal_memory=True).layers[0]


@pytest.mark.parametrize(("zeros", "cycles"), [(0.0, 171_456), (0.8, 63_464), (0.95, 34_352)])
def test_the_first_layer_of_the_source_takes_the_cycles_that_were_measured_before(tmp_path, zeros, cycles):
    """Those of the specification's authors, of other random masks; with dense gradients there is no chance in it."""
    found = job(written(tmp_path, load_network(FIRST, (1, 28, 28)), zeros=(0.8, 0.8, zeros))).compute_cycles
    assert found == cycles if zeros == 0 else abs(found / cycles - 1) < 0.005


@pytest.mark.parametrize("mode", ["dual", "input_only", "output_only", "dense"])
def test_it_is_the_pass_of_a_convolution_whose_input_is_needed_everywhere(tmp_path, mode):
    """A layer of spikes whose window is open at every neuron stands in for the input."""
    shape = (3, 9, 7)
    tail = parse_notation("5C3S2-AP2-6C3-4FC", shape)
    first = {"name": "under", "kind": "conv", "inputs": ["input"], "in_shape": list(shape), "out_shape": list(shape),
             "kernel": [1, 1], "stride": [1, 1], "padding": [0, 0]}  # fmt: skip
    deep = Network(name="deep", input_shape=shape, input_kind="spikes", timesteps=3,
                   layers=(first, {**tail[0], "inputs": ["under"]}, *tail[1:]))  # fmt: skip
    own = {"under": Sparsity(0.5, 0.0, 0.5)}
    below = written(tmp_path, deep, 3, 2, name="deep", asked=False, layers=own)
    meta = json.loads(bytes(np.load(tmp_path / "deep.npz")["meta"]))
    held = dict(np.load(tmp_path / "deep.npz"))
    members = {name: value for name, value in held.items() if name != "meta" and not name.startswith("under")}
    members["input.spikes"] = held["under.spikes"]
    meta |= {"layers": [{**tail[0]}, *tail[1:]], "input_gradient": True}
    write_trace(tmp_path / "flat.npz", meta, members)
    flat = load_trace(tmp_path / "flat.npz")
    changes = {"engines.backward.mode": mode, "engines.backward.rows": 4, "engines.backward.columns": 2}
    ours, theirs = job(flat, **changes), job(below, **changes)
    assert ours.compute_cycles == theirs.compute_cycles > 0
    assert ours.pe_array == theirs.pe_array
    assert ours.acc == theirs.acc
    assert ours.neuron.grad_element == 0 < theirs.neuron.grad_element
    elements = 3 * 2 * 3 * 9 * 7
    # dm of spikes goes down with its mask, that of the input alone
    assert theirs.offchip_write_bytes - ours.offchip_write_bytes == pytest.approx(elements / 8, abs=8)
    assert ours.offchip_write_bytes == VALUE * elements


def test_that_of_a_picture_that_stands_still_is_summed_over_time_and_written_once(tmp_path):
    trace = written(tmp_path, load_network(FIRST, (1, 28, 28)))
    assert trace.analog_steps == 1
    found = job(trace)
    assert found.offchip_write_bytes == VALUE * 4 * 28 * 28
    dense = job(trace, **{"engines.backward.mode": "dense"})
    assert dense.offchip_write_bytes == found.offchip_write_bytes


def test_a_step_has_it_only_where_it_was_asked_for_and_costs_more_by_it(tmp_path):
    network = load_network(FIRST, (1, 28, 28))
    with_it, without = written(tmp_path, network), written(tmp_path, network, asked=False, name="plain")
    arch = load_arch("h2learn")
    ours, plain = simulate_step(arch, with_it), simulate_step(arch, without)
    rows = [{(row.layer, row.phase) for row in step.layers} for step in (ours, plain)]
    assert rows[0] - rows[1] == {("conv1", "backward")}
    assert ours.steady_cycles > plain.steady_cycles
    inference = written(tmp_path, network, name="inference", phases=("forward",))
    assert {row.phase for row in simulate_step(arch, inference).layers} == {"forward"}


def test_two_readers_of_the_input_add_up(tmp_path):
    """The job of the first reader, which runs last, reads the part that the other left."""
    shape = [2, 6, 6]
    conv = {"kind": "conv", "inputs": ["input"], "in_shape": shape, "out_shape": shape, "kernel": [3, 3],
            "stride": [1, 1], "padding": [1, 1], "spiking": False}  # fmt: skip
    layers = (
        {**conv, "name": "left"}, {**conv, "name": "right"},
        {"name": "both", "kind": "add", "inputs": ["left", "right"], "in_shape": shape, "out_shape": shape},
        {"name": "out", "kind": "fc", "inputs": ["both"], "in_features": 72, "out_features": 2},
    )  # fmt: skip
    network = Network(name="two", input_shape=(2, 6, 6), input_kind="spikes", timesteps=3, layers=layers)
    trace = written(tmp_path, network, 3, 2)
    left, right = job(trace, "left"), job(trace, "right")
    elements = 3 * 2 * 72
    assert left.offchip_write_bytes == right.offchip_write_bytes == VALUE * elements
    assert left.offchip_read_bytes - right.offchip_read_bytes == VALUE * elements


def test_a_twin_asks_for_it_as_its_original_does(tmp_path):
    trace = written(tmp_path, load_network("4C3-AP2-2FC", (1, 6, 6)))
    assert like(trace, 0)[0]["input_gradient"] is True
    assert "input_gradient" not in like(written(tmp_path, load_network("4C3-AP2-2FC", (1, 6, 6)), asked=False), 0)[0]


def test_it_is_a_flag_and_nothing_else(tmp_path):
    meta, members = synthesise(load_network("4C3-AP2-2FC", (1, 6, 6)), 2, 1, Sparsity(0.5, 0.5, 0.5), 0)
    with pytest.raises(TraceError, match="meta: input_gradient: expected"):
        write_trace(tmp_path / "t.npz", {**meta, "input_gradient": "yes"}, dict(members))
