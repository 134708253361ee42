"""What differs between two traces, each number against an independent count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.report.trace_diff import diff_traces
from h2sim.trace import load_trace
from h2sim.trace.bits import pack
from tests.helpers.look import RESIDUAL, bad, bits_of, good, h2sim, inference_trace, written
from tests.helpers.traces import parts, tiny_trace


@pytest.fixture
def trace(tmp_path) -> Path:
    return tiny_trace(tmp_path)


def test_a_trace_does_not_differ_from_itself(tmp_path, trace):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(trace.read_bytes())
    assert "the same: 13 masks and 0 values agree in every bit" in good("diff", trace, copy)
    found = diff_traces(load_trace(RESIDUAL), load_trace(RESIDUAL))
    assert found.same
    assert found.values
    assert {value.max_absolute for value in found.values} == {0.0}


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_differing_bits_and_rates_are_numpys(tmp_path_factory, seed):
    folder, rng = tmp_path_factory.mktemp("diff"), np.random.default_rng(seed)
    meta, members = parts()
    a = load_trace(written(folder, "a.npz", meta, members))
    neurons = a.meta.layer("conv2").neurons
    other = (rng.random((3, 2, neurons)) < rng.random()).astype(np.uint8)
    b = load_trace(written(folder, "b.npz", meta, {**members, "conv2.window": pack(other)}))
    rows = {row.member: row for row in diff_traces(a, b).masks}
    row, mine = rows["conv2.window"], bits_of(a, "conv2", "window").reshape(3, 2, neurons)
    assert (row.rate_a, row.rate_b) == pytest.approx((mine.mean(), other.mean()))
    assert row.bits == mine.size
    assert row.only_a == np.count_nonzero((mine == 1) & (other == 0))
    assert row.only_b == np.count_nonzero((mine == 0) & (other == 1))
    assert row.differ == np.count_nonzero(mine != other)
    assert {name for name, r in rows.items() if r.differ} <= {"conv2.window"}


def test_diff_of_values_is_their_largest_absolute_and_relative_difference(tmp_path):
    meta, members = parts()
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    moved = weight.copy()
    moved[0, 0, 0, 0], moved[3, 1, 2, 2] = weight[0, 0, 0, 0] + 8, 1e-6
    weight[3, 1, 2, 2] = -1e-6
    a = written(tmp_path, "a.npz", meta, {**members, "conv1.weight": weight})
    b = written(tmp_path, "b.npz", meta, {**members, "conv1.weight": moved})
    (row,) = diff_traces(load_trace(a), load_trace(b)).values
    assert (row.elements, row.differ) == (72, 2)
    assert row.max_absolute == pytest.approx(8)
    assert row.max_relative == pytest.approx(2)
    result = h2sim("diff", a, b)
    assert result.exit_code == 1
    assert "they DIFFER: 0 metadata fields, 0 of 13 masks, 1 of 1 values, 0 members in one only" in result.stdout


def test_equal_values_of_another_type_differ_in_their_type(tmp_path):
    meta, members = parts()
    weight = np.ones((4, 2, 3, 3), np.float32)
    a = load_trace(written(tmp_path, "a.npz", meta, {**members, "conv1.weight": weight}))
    b = load_trace(written(tmp_path, "b.npz", meta, {**members, "conv1.weight": weight.astype(np.float16)}))
    found = diff_traces(a, b)
    assert (found.values[0].a, found.values[0].b) == ("float32 (4, 2, 3, 3)", "float16 (4, 2, 3, 3)")
    assert found.values[0].differ == 0
    assert not found.same


def test_metadata_differs_field_by_field_with_its_two_values(tmp_path, trace):
    meta, members = parts()
    meta["dataset"], meta["neuron"]["decay"] = "other", 0.5
    meta["source"]["note"] = "more"
    meta["layers"][2]["neuron"] = {"threshold": 0.7}
    found = diff_traces(load_trace(trace), load_trace(written(tmp_path, "b.npz", meta, members)))
    fields = {row.field: (row.a, row.b) for row in found.fields}
    assert fields["dataset"] == ("none", "other")
    assert fields["neuron.decay"] == (0.25, 0.5)
    assert fields["source.note"] == ("(absent)", "more")
    assert fields["layers.conv2.neuron.threshold"] == ("(absent)", 0.7)
    assert not any(name.startswith("layers.conv1") for name in fields)
    assert not found.same
    assert all(mask.differ == 0 for mask in found.masks)


def test_members_of_one_trace_only_are_named(tmp_path, trace):
    forward = inference_trace(tmp_path)
    found = diff_traces(load_trace(trace), load_trace(forward))
    assert found.members_only_a == ("conv1.grad", "pool1.grad", "conv2.grad", "fc1.grad")
    assert found.members_only_b == ()
    assert {row.field for row in found.fields} == {"phases"}
    text = h2sim("diff", trace, forward).stdout
    assert "members only in A: conv1.grad, pool1.grad, conv2.grad, fc1.grad" in text


def test_traces_of_other_layers_and_shapes_are_compared_by_rates(tmp_path, trace):
    other = tiny_trace(tmp_path, "other.npz", notation="8C3-8C3-10FC", timesteps=2)
    result = h2sim("diff", trace, other, "--json", "-")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert (data["layers_only_a"], data["layers_only_b"]) == (["pool1"], [])
    fields = {row["field"]: (row["a"], row["b"]) for row in data["fields"]}
    assert fields["timesteps"] == (3, 2)
    assert fields["layers"] == (["conv1", "pool1", "conv2", "fc1"], ["conv1", "conv2", "fc1"])
    assert fields["layers.conv1.out_shape"] == ([4, 9, 9], [8, 9, 9])
    row = next(r for r in data["masks"] if r["member"] == "conv1.spikes")
    assert row["rate_a"] == pytest.approx(bits_of(load_trace(trace), "conv1", "spikes").mean())
    assert row["rate_b"] == pytest.approx(bits_of(load_trace(other), "conv1", "spikes").mean())
    assert (row["bits"], row["differ"], row["only_a"]) == (None, None, None)
    assert "layers only in A: pool1" in result.stderr
    assert "shapes differ" in result.stderr


def test_maps_of_another_shape_but_as_many_bytes_are_not_compared_bit_by_bit(tmp_path, trace):
    meta, members = parts(notation="4C3-AP2-6C3-10FC", shape=(2, 9, 9))
    meta["layers"][3]["out_features"] = 9
    members |= {n: members[n] & np.uint8([0xFF, 0x80]) for n in ("fc1.spikes", "fc1.window", "fc1.grad")}
    rows = diff_traces(load_trace(trace), load_trace(written(tmp_path, "b.npz", meta, members))).masks
    assert {row.member for row in rows if row.differ is None} == {"fc1.spikes", "fc1.window", "fc1.grad"}


def test_values_of_another_shape_are_told_apart(tmp_path):
    meta, members = parts()
    a = written(tmp_path, "a.npz", meta, {**members, "fc1.bias": np.zeros(10, np.float32)})
    wide, more = parts(notation="4C3-AP2-6C3-12FC")
    b = written(tmp_path, "b.npz", wide, {**more, "fc1.bias": np.zeros(12, np.float32)})
    (row,) = diff_traces(load_trace(a), load_trace(b)).values
    assert (row.a, row.b, row.differ) == ("float32 (10,)", "float32 (12,)", None)
    assert "float32 (10,) / float32 (12,)" in h2sim("diff", a, b).stdout


def test_diff_writes_json_that_says_what_the_table_says(tmp_path, trace):
    meta, members = parts()
    members["fc1.grad"] ^= np.uint8([0x80, 0])
    other = written(tmp_path, "b.npz", meta, members)
    assert h2sim("diff", trace, other, "--json", tmp_path / "d.json").exit_code == 1
    data = json.loads((tmp_path / "d.json").read_text())
    assert (data["schema"], data["version"], data["same"]) == ("h2sim-trace-diff", 1, False)
    assert [(m["member"], m["differ"]) for m in data["masks"] if m["differ"]] == [("fc1.grad", 6)]


def test_diff_refuses_what_it_cannot_read_or_write(tmp_path, trace):
    assert "no such trace file" in bad("diff", trace, tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(trace.read_bytes()[:200])
    assert "bad.npz: " in bad("diff", tmp_path / "bad.npz", trace)
    assert "no folder" in bad("diff", trace, trace, "--json", tmp_path / "no" / "d.json")
