"""Bytes, Grad's work and notes of small networks with one rule each, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import h2sim
from h2sim.arch import load_arch
from h2sim.trace import load_trace, write_trace
from h2sim.trace.bits import pack

T, N = 2, 1
CONV = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1]}
POOL = {"name": "p", "kind": "pool", "inputs": ["a"], "in_shape": [2, 4, 4], "out_shape": [2, 2, 2], "kernel": [2, 2],
        "stride": [2, 2], "padding": [0, 0], "spiking": False}  # fmt: skip
ELEMENTS = T * N * 2 * 2 * 2  # of the pooled map
NEURONS = T * N * 2 * 4 * 4  # of the layer below it


def conv(name: str, source: str, size: int, **more: Any) -> dict[str, Any]:
    """A convolution of 2 channels that keeps its size."""
    shape = [1 if source == "input" else 2, size, size]
    return {"name": name, "kind": "conv", "inputs": [source], "in_shape": shape, "out_shape": [2, size, size],
            "bias": False, **CONV, **more}  # fmt: skip


def fc(source: str, size: int, **more: Any) -> dict[str, Any]:
    return {"name": "out", "kind": "fc", "inputs": [source], "in_features": 2 * size * size, "out_features": 3,
            "spiking": False, "bias": False, **more}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Runs a step of layers, with random masks, and returns its result and members."""

    def made(layers: list[dict[str, Any]], **changes: object) -> tuple[Any, dict[str, Any]]:
        rng = np.random.default_rng(0)
        meta = {"format": "h2sim-trace", "version": 2, "network": "n", "dataset": "", "timesteps": T, "batch": N,
                "phases": ["forward", "backward", "weight_update"], "source": {"kind": "synthetic"}, "layers": layers,
                "neuron": {"threshold": 0.5, "decay": 0.25, "window": [0.0, 1.0]}}  # fmt: skip
        members = {"input.spikes": pack(rng.integers(0, 2, (T, N, 16)))}
        for layer in layers:
            neurons = int(np.prod(layer.get("out_shape", [3])))
            of_map = layer.get("spiking") is False and layer["kind"] not in ("conv", "fc")
            kinds = () if of_map or layer["kind"] == "gate" else ("grad",) if layer.get("spiking") is False else (
                "spikes", "window", "grad")  # fmt: skip
            for kind in kinds:
                steps = 1 if layer.get("mean_over_time") else T
                members[f"{layer['name']}.{kind}"] = pack(rng.integers(0, 2, (steps, N, neurons)))
            if layer["kind"] == "gate":
                members[f"{layer['name']}.kept"] = pack(rng.integers(0, 2, (1, N, neurons)))
        write_trace(tmp_path / "t.npz", meta, members)
        arch = load_arch("h2learn").with_(changes)
        return h2sim.simulate(arch, load_trace(tmp_path / "t.npz")), members

    return made


def row(result: Any, layer: str, phase: str) -> Any:
    (found,) = [r for r in result.activity.layers if (r.layer, r.phase) == (layer, phase)]
    return found


def through(found: Any, buffer: str) -> int:
    (traffic,) = [b for b in found.buffers if b.buffer == buffer]
    return int(traffic.read_bytes)


def in_window(members: dict[str, Any], layer: str) -> int:
    return int(np.bitwise_count(members[f"{layer}.window"]).sum())


def state_bytes(members: dict[str, Any], layer: str) -> int:
    """s, ds~ and the m inside the window, of NEURONS neurons."""
    return 2 * NEURONS // 8 + 2 * in_window(members, layer)


def test_an_average_of_spikes_under_a_convolution(run):
    result, members = run([conv("a", "input", 4), POOL, conv("b", "p", 2), fc("b", 2)])
    pooled = row(result, "p", "forward")
    assert pooled.acc.fp16_add == 3 * ELEMENTS
    # written once, 3 bits an element, and where the gradient is needed, a bit
    assert (pooled.offchip_read_bytes, pooled.offchip_write_bytes) == (0, (3 + 1) * ELEMENTS // 8)
    # z = 8 entries, then 3 planes of one turn of T*N samples over 2x2 positions
    assert row(result, "b", "forward").compute_cycles == 8 + 3 * 1 * 4
    assert through(row(result, "b", "forward"), "spikes") == 3 * ELEMENTS // 8
    back = row(result, "b", "backward")
    assert ("p", "backward") not in {(r.layer, r.phase) for r in result.activity.layers}
    assert through(back, "state") == ELEMENTS // 8 + state_bytes(members, "a")
    assert through(back, "output") == 2 * NEURONS + NEURONS // 8
    assert back.neuron.grad_element == NEURONS + in_window(members, "a")  # every element lies in one window
    assert "note: average over 2x2 spikes before b: counts up to 4, 3 bit planes, 3x the windows" in notes(result)


def notes(result: Any) -> str:
    return "\n".join(f"note: {note}" for note in result.notes)


def test_a_map_with_two_readers_collects_a_part(run):
    layers = [conv("a", "input", 4), POOL, conv("b", "p", 2), conv("c", "p", 2),
              {"name": "s", "kind": "add", "inputs": ["b", "c"], "in_shape": [2, 2, 2], "out_shape": [2, 2, 2],
               "spiking": False}, fc("s", 2)]  # fmt: skip
    result, members = run(layers)
    last, first = row(result, "b", "backward"), row(result, "c", "backward")
    part = 2 * ELEMENTS
    assert through(first, "output") == part
    assert first.neuron.grad_element == 0
    assert through(first, "state") == ELEMENTS // 8  # what is needed, for the finders
    assert through(last, "state") == ELEMENTS // 8 + part + state_bytes(members, "a")
    assert through(row(result, "s", "forward"), "spikes") == 2 * ELEMENTS // 8  # two maps of spikes
    assert row(result, "s", "forward").offchip_write_bytes == 2 * ELEMENTS // 8  # counts up to 2, no convolution above


def test_a_gate_under_a_mean_over_time(run):
    gate = {"name": "g", "kind": "gate", "inputs": ["a"], "in_shape": [2, 4, 4], "out_shape": [2, 4, 4], "scale": 2}
    narrow = {"engines.backward.parallelism": 1, "engines.backward.columns": 16}
    result, members = run([conv("a", "input", 4), gate, fc("g", 4, mean_over_time=True)], **narrow)
    kept = N * 32 // 8
    assert row(result, "g", "forward").offchip_write_bytes == NEURONS // 8 + kept
    back = row(result, "out", "backward")
    bits = [np.unpackbits(members[name], axis=-1).astype(bool) for name in ("g.kept", "a.window")]
    assert back.neuron.grad_element == NEURONS + int((bits[0] & bits[1]).sum())
    assert back.compute_cycles == 2  # 32 features on 16 columns, a sample a turn
    assert through(back, "state") == state_bytes(members, "a") + kept
    assert row(result, "out", "forward").offchip_write_bytes == 2 * N * 3
    assert "its gradient once a sample, 1/2 of the Backward Engine's cycles" in notes(result)


def test_batch_norm_takes_two_passes_each_way(run):
    norm = {"kind": "batch"}
    layers = [conv("a", "input", 4, norm=norm), conv("b", "a", 4), fc("b", 4)]
    plain, _ = run([{k: v for k, v in layer.items() if k != "norm"} for layer in layers])
    two, _ = run(layers)
    free, _ = run(layers, **{"normalisation": {"model": "none"}})
    forward = [row(r, "a", "forward") for r in (plain, two, free)]
    back = [row(r, "b", "backward") for r in (plain, two, free)]
    assert forward[0] == forward[2]
    assert back[0] == back[2]
    assert forward[1].offchip_write_bytes - forward[0].offchip_write_bytes == 2 * NEURONS
    assert forward[1].offchip_read_bytes - forward[0].offchip_read_bytes == 2 * NEURONS
    assert forward[1].acc.fp16_add - forward[0].acc.fp16_add == 2 * NEURONS
    assert (forward[1].neuron.fp16_multiply, forward[1].neuron.fp16_add) == (2 * NEURONS, NEURONS)
    assert forward[1].fill_cycles - forward[0].fill_cycles == 1 * 16  # one turn of samples, 4x4 positions
    assert back[1].offchip_read_bytes - back[0].offchip_read_bytes == 6 * NEURONS
    assert back[1].offchip_write_bytes - back[0].offchip_write_bytes == 2 * NEURONS
    assert (back[1].neuron.fp16_multiply, back[1].neuron.fp16_add) == (3 * NEURONS, 2 * NEURONS)
    assert back[1].acc.fp16_add - back[0].acc.fp16_add == 2 * NEURONS
    assert f"{4 * NEURONS} B more to and from memory in the forward pass, {8 * NEURONS} B in the backward" in notes(two)
    assert "flatters the machine" in notes(free)
    assert two.cost.energy_j > free.cost.energy_j


def test_counts_of_many_planes_are_multiplied(run):
    layers = [conv("a", "input", 4), POOL, conv("b", "p", 2), fc("b", 2)]
    result, _ = run(layers, **{"engines.forward.most_planes": {"conv": 2, "fc": 3}})
    assert row(result, "b", "forward").engine == "backward"
    assert row(result, "b", "weight_update").engine == "backward"
    # two timesteps of one turn of 4 positions, 9 taps, and 4 cycles to meet
    assert row(result, "b", "forward").compute_cycles == T * N * (9 + 4)
    assert "3 bit planes, more than the Forward Engine passes: multiplied" in notes(result)


@pytest.fixture
def narrow():
    """A machine on whose arrays two groups of one channel lie side by side, and a third takes a pass of its own."""
    return {f"engines.{engine}.{side}": 2 for engine in ("forward", "backward") for side in ("rows", "columns")} | {
        "engines.weight_update.columns": 2, "engines.forward.sub_luts": 3}  # fmt: skip


def grouped_layers() -> list[dict[str, Any]]:
    """Three groups of one channel, 3x3, on 4x4 positions: one tile."""
    shape = {"in_shape": [3, 4, 4], "out_shape": [3, 4, 4]}
    first = {**conv("a", "input", 4), "out_shape": [3, 4, 4]}
    out = {**fc("b", 4), "in_features": 48}
    return [first, {**conv("b", "a", 4), **shape, "groups": 3}, out]


def test_groups_read_their_own_channels_and_weights(run, narrow):
    result, members = run(grouped_layers(), **narrow)
    forward, back, update = (row(result, "b", phase) for phase in ("forward", "backward", "weight_update"))
    assert forward.compute_cycles == 2 * (8 + 1 * 16)  # two passes, of two groups and of one
    channel = T * N * 16  # spikes, or gradients, of a channel
    assert loaded(forward, "spikes") == (2 * channel) // 8 + channel // 8
    assert loaded(forward, "weights") == 2 * 9 * 3  # FP16, 3x3, no weights off the diagonal
    assert loaded(back, "weights") == 2 * 9 * 3
    assert loaded(back, "gradients") == 3 * (2 * channel + channel // 8)
    assert loaded(update, "spikes") == (2 * channel) // 8 + channel // 8
    assert loaded(update, "gradients") == 3 * 2 * channel
    assert update.offchip_write_bytes == 2 * 9 * 3  # dw
    compressed, _ = run(grouped_layers(), **narrow, **{"engines.backward.dm_compressed": True})
    nonzero = int(np.bitwise_count(members["b.grad"]).sum())
    assert loaded(row(compressed, "b", "backward"), "gradients") == 2 * nonzero + 3 * channel // 8


def loaded(found: Any, buffer: str) -> int:
    """Bytes that memory put into a buffer."""
    (traffic,) = [b for b in found.buffers if b.buffer == buffer]
    return int(traffic.write_bytes)


def test_multiplied_counts_are_read_as_bits_and_analog_values_in_fp16(run):
    few = {"engines.forward.most_planes": {"conv": 2, "fc": 1}}
    result, _ = run([conv("a", "input", 4), POOL, conv("b", "p", 2), fc("p", 2)], **few)
    assert loaded(row(result, "b", "forward"), "gradients") == 3 * ELEMENTS // 8
    assert loaded(row(result, "b", "weight_update"), "gradients") == 3 * ELEMENTS // 8
    assert loaded(row(result, "out", "forward"), "gradients") == 3 * ELEMENTS // 8
    assert loaded(row(result, "out", "weight_update"), "gradients") == 3 * ELEMENTS // 8
    current = {**conv("a", "input", 4), "spiking": False}
    result, _ = run([current, conv("b", "a", 4), fc("b", 4)])
    assert loaded(row(result, "b", "forward"), "gradients") == 2 * NEURONS
    assert row(result, "a", "forward").offchip_write_bytes == 2 * NEURONS
    assert through(row(result, "b", "backward"), "output") == 2 * NEURONS + NEURONS // 8  # dL/dx and its mask


def test_planes_touch_partial_sums_once_each(run):
    result, _ = run([conv("a", "input", 4), POOL, conv("b", "p", 2), fc("p", 2)])
    assert through(row(result, "b", "forward"), "psum") == 3 * 2 * ELEMENTS
    assert through(row(result, "out", "forward"), "psum") == 3 * 2 * T * N * 3


def test_a_pool_nobody_reads_carries_the_loss(run):
    last = {**POOL, "inputs": ["b"]}
    result, members = run([conv("a", "input", 4), conv("b", "a", 4), last])
    back = row(result, "p", "backward")
    assert back.neuron.grad_element == NEURONS + in_window(members, "b")
    assert through(back, "state") == state_bytes(members, "b")
    assert through(back, "output") == 2 * NEURONS + NEURONS // 8
    assert row(result, "p", "forward").offchip_write_bytes == 3 * ELEMENTS // 8


def test_a_map_that_only_a_sum_reads_goes_to_memory_and_one_that_only_a_pool_reads_does_not(run):
    shape = {"in_shape": [2, 2, 2], "out_shape": [2, 2, 2]}
    total = {"name": "s", "kind": "add", "inputs": ["p", "q"], **shape, "spiking": False}
    result, _ = run([conv("a", "input", 4), POOL, {**POOL, "name": "q", "mode": "max"}, total, fc("s", 2)])
    assert row(result, "p", "forward").offchip_write_bytes == 3 * ELEMENTS // 8
    assert row(result, "q", "forward").offchip_write_bytes == ELEMENTS // 8
    assert row(result, "s", "forward").offchip_read_bytes == (3 + 1) * ELEMENTS // 8
    again = {"name": "r", "kind": "pool", "inputs": ["p"], "in_shape": [2, 2, 2], "out_shape": [2, 1, 1],
             "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "spiking": False}  # fmt: skip
    result, _ = run([conv("a", "input", 4), POOL, again, fc("r", 1)])
    assert row(result, "p", "forward").offchip_write_bytes == 0
    assert row(result, "r", "forward").offchip_read_bytes == 0
