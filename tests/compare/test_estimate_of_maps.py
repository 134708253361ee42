"""The back-of-envelope estimate of networks of maps: planes, groups, analog values and sums, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

import h2sim
from h2sim.compare.estimate import estimate, load_estimate_data
from h2sim.trace import Sparsity, load_trace, synthesise, write_trace
from h2sim.trace.derived import Derived
from h2sim.trace.synth import Counts
from tests.helpers.gated import gated
from tests.helpers.operands import T, draw
from tests.traces.test_synth_of_maps import maps, network

DATA, T45 = load_estimate_data(), h2sim.load_energy_table("45nm")


def set_bits(values) -> int:
    return sum(bin(int(value)).count("1") for value in np.ravel(values))


def reached(size: int, out: int, kernel: int, stride: int, padding: int) -> list[list[int]]:
    """What each output of one axis reads inside the input."""
    return [[o * stride - padding + tap for tap in range(kernel) if 0 <= o * stride - padding + tap < size]
            for o in range(out)]  # fmt: skip


def test_a_count_takes_an_addition_for_each_set_bit_of_its_planes(tmp_path):
    path = gated(tmp_path)
    trace = load_trace(path)
    conv, pool, gate, fc = estimate(trace, T45).layers
    counts = np.load(path)["input.counts"]
    axis = reached(4, 4, 3, 1, 1)
    loops = sum(set_bits(counts[:, :, 0, y, x]) for rows in axis for columns in axis for y in rows for x in columns)
    assert (conv.operation, conv.input_spikes, conv.accumulates) == ("AC", set_bits(counts), loops)
    assert conv.zeta == pytest.approx(set_bits(counts) / (2 * 16))
    assert conv.energy.fp32_pj == pytest.approx(9 * 16 * conv.zeta * 0.9)
    read = Derived(trace).counts("gate1")
    assert read.max() > 1
    assert (fc.operation, fc.input_spikes, fc.accumulates) == ("AC", set_bits(read), 3 * set_bits(read))
    assert (gate.operation, gate.ann_flops, gate.accumulates, gate.energy.fp32_pj) == ("none", 0, 0, 0)
    spikes = int(Derived(trace).counts("conv1").sum())
    assert (pool.operation, pool.ann_flops, pool.input_spikes, pool.accumulates) == ("AC", 16, spikes, spikes)
    assert pool.energy.fp32_pj == pytest.approx(spikes / 2 * 0.9)
    assert pool.ann_energy.fp32_pj == pytest.approx(16 * 0.9)


def test_twice_the_planes_of_the_same_bit_cost_twice(tmp_path):
    zeros, seen = 0.0, {}
    for most in (3, 15):
        meta, members = synthesise(maps(), 2, 2, Sparsity(0.5, 0.5, 0.5), 1, counts=Counts(most, zeros))
        held = dict(members)
        held["input.counts"] = np.full_like(held["input.counts"], most)
        write_trace(tmp_path / "t.npz", meta, held)
        seen[most] = estimate(load_trace(tmp_path / "t.npz"), T45).layers[0]
    assert seen[15].accumulates == 2 * seen[3].accumulates
    assert seen[15].energy.fp32_pj == pytest.approx(2 * seen[3].energy.fp32_pj)


@pytest.mark.parametrize("seed", range(30))
def test_every_row_of_a_random_network_is_what_loops_count(tmp_path, seed):
    trace = draw(seed).trace(tmp_path)
    derived, n = Derived(trace), trace.meta.batch
    for row in estimate(trace, T45).layers:
        layer = trace.meta.layer(row.layer)
        kinds = [derived.operands[name].kind for name in layer.inputs]
        if layer.kind == "fc" and kinds == ["analog"]:
            assert (row.operation, row.zeta, row.accumulates) == ("MAC", T, None)
            assert row.energy.fp32_pj == pytest.approx(row.ann_flops * T * 4.6)
        elif layer.kind == "fc":
            bits = set_bits(derived.counts(layer.inputs[0]))
            assert (row.operation, row.accumulates) == ("AC", 2 * bits)
        elif layer.is_map and layer.kind == "add" and layer.op == "sum":
            assert row.ann_flops == len(layer.inputs) * layer.neurons
            if "analog" not in kinds:
                assert row.accumulates == sum(np.count_nonzero(derived.counts(name)) for name in layer.inputs)
                assert row.snn_flops * n == pytest.approx(row.accumulates)
        elif layer.is_map and layer.kind == "pool" and layer.mode != "max" and not layer.adaptive:
            sizes = zip(layer.in_chw[1:], layer.out_chw[1:], layer.kernel, layer.stride, layer.padding, strict=True)
            rows, columns = (reached(*axis) for axis in sizes)
            pairs = [(y, x) for r in rows for c in columns for y in r for x in c]
            assert row.ann_flops == layer.in_chw[0] * len(pairs)
            if kinds == ["analog"]:
                assert (row.operation, row.accumulates, row.zeta) == ("AC", None, trace.meta.timesteps)
            else:
                k = derived.counts(layer.inputs[0])
                assert row.accumulates == sum(np.count_nonzero(k[:, :, :, y, x]) for y, x in pairs)
        elif layer.is_map and layer.kind not in ("pool",):
            assert (row.operation, row.ann_flops, row.snn_flops) == ("none", 0, 0)


def test_groups_divide_the_operations_and_the_additions(tmp_path):
    size = {"in_shape": [4, 6, 6], "out_shape": [6, 6, 6]}
    conv = {"name": "conv1", "kind": "conv", "inputs": ["input"], **size, "kernel": [3, 3], "stride": [1, 1],
            "padding": [1, 1]}  # fmt: skip
    found = []
    for groups in (1, 2):
        described = network([{**conv, "groups": groups}], (4, 6, 6))
        write_trace(tmp_path / "t.npz", *synthesise(described, 2, 2, Sparsity(0.5, 0.5, 0.5), 1))
        trace = load_trace(tmp_path / "t.npz")
        for padding in ("counted", "skipped"):
            chosen = DATA.assumptions.model_copy(update={"padding": padding})
            found.append(estimate(trace, T45, assumptions=chosen).layers[0])
    whole, halves = found[:2], found[2:]
    for one, two in zip(whole, halves, strict=True):
        assert (two.ann_flops * 2, two.accumulates * 2) == (one.ann_flops, one.accumulates)
    assert whole[0].ann_flops == 9 * 4 * 6 * 36


def test_notes_say_what_neither_source_knows(tmp_path):
    (tmp_path / "a").mkdir()
    notes = "\n".join(estimate(load_trace(gated(tmp_path / "a")), T45).notes)
    assert "counts of up to 9 bit planes (conv1, fc1): an addition for each set bit of every plane" in notes
    assert "sums of maps without neuron (pool1): an addition for each value that is not 0" in notes
    write_trace(tmp_path / "t.npz", *synthesise(maps(), 2, 2, Sparsity(0.5, 0.5, 0.5), 1))
    notes = "\n".join(estimate(load_trace(tmp_path / "t.npz"), T45).notes)
    assert "analog values behind the input (conv3): MACs at every timestep" in notes


def test_the_same_network_in_either_version_has_the_same_estimate(tmp_path):
    from h2sim.trace.upgrade import upgraded

    old = load_trace("mnist-digits")
    write_trace(tmp_path / "new.npz", *upgraded(old))
    assert estimate(old, T45).layers == estimate(load_trace(tmp_path / "new.npz"), T45).layers


def test_totals_are_finite_and_add_up(tmp_path):
    for seed in range(10):
        found = estimate(draw(seed).trace(tmp_path), T45)
        assert found.energy.fp32_pj == pytest.approx(math.fsum(row.energy.fp32_pj for row in found.layers))
        assert math.isfinite(found.diet_operations)
