"""`h2sim trace upgrade`: a file of version 1 and its version 2 say the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from h2sim.errors import TraceError
from h2sim.trace import load_trace, write_trace
from h2sim.trace.derived import Derived
from h2sim.trace.model import VERSION
from h2sim.trace.upgrade import upgraded
from tests.helpers.look import RESIDUAL, bad, good, h2sim, inference_trace
from tests.helpers.traces import parts, tiny_trace


def old_traces(folder) -> list:
    """Of spikes, of an analog input with sums of currents, of inference, of real training."""
    return [tiny_trace(folder), RESIDUAL, inference_trace(folder), load_trace("mnist-digits").path]


@pytest.mark.parametrize("number", range(4))
def test_original_and_upgraded_have_the_same_members_operands_and_needed_masks(tmp_path, number):
    path = old_traces(tmp_path)[number]
    assert "version 2 of" in good("upgrade", path, tmp_path / "new.npz")
    old, new = load_trace(path), load_trace(tmp_path / "new.npz")
    new.check()
    assert (old.meta.version, new.meta.version) == (VERSION, 2)
    before, after = np.load(path), np.load(new.path)
    assert sorted(before) == sorted(after)
    for name in set(before) - {"meta"}:
        assert before[name].dtype == after[name].dtype
        np.testing.assert_array_equal(before[name], after[name])
    derived = Derived(old), Derived(new)
    assert derived[0].operands == derived[1].operands
    for layer in old.meta.layers:
        if not layer.spiking or old.has(f"{layer.name}.window"):
            np.testing.assert_array_equal(*(each.needed(layer.name) for each in derived))


@pytest.mark.parametrize("number", range(4))
def test_only_the_version_and_the_kind_of_the_input_change_in_the_metadata(tmp_path, number):
    path = old_traces(tmp_path)[number]
    new = tmp_path / "new.npz"
    good("upgrade", path, new)
    found = h2sim("diff", path, new, "--json", "-")
    document = json.loads(found.stdout)
    assert found.exit_code == 1
    kind = "analog" if load_trace(path).meta.analog else "spikes"
    assert {row["field"]: (row["a"], row["b"]) for row in document["fields"]} == {
        "version": (1, 2), "input.kind": ("(absent)", kind), "input.most": ("(absent)", None),
    }  # fmt: skip
    assert not any(row["differ"] for row in document["masks"])
    assert not any(row["differ"] for row in document["values"])


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        good("upgrade", RESIDUAL, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_trace_of_version_2_and_an_output_over_the_input_are_refused_in_one_line(tmp_path):
    old, new = tiny_trace(tmp_path), tmp_path / "new.npz"
    good("upgrade", old, new)
    written = new.read_bytes()
    for call, said in (
        ((new, tmp_path / "x.npz"), "version: expected 1, to be written as 2; got 2"),
        ((old, old), "it is read by the same command"),
        ((new, new), "it is read by the same command"),
    ):
        line = bad("upgrade", *call)
        assert said in line
        assert line.count("\n") == 1
    assert new.read_bytes() == written
    assert not (tmp_path / "x.npz").exists()
    with pytest.raises(TraceError, match=r"new\.npz: version: expected 1"):
        upgraded(load_trace(new))


def test_arrays_that_version_1_does_not_know_are_left_out_and_named(tmp_path):
    meta, members = parts()
    odd = np.full((1, 1), 7, np.uint8)
    write_trace(tmp_path / "odd.npz", meta, {**members, "pool1.route": odd, "mine": odd})
    result = h2sim("upgrade", tmp_path / "odd.npz", tmp_path / "new.npz")
    assert result.exit_code == 0
    assert "left out" in result.stderr
    assert "mine, pool1.route" in result.stderr
    assert set(np.load(tmp_path / "new.npz")) == {"meta", *members}


def test_a_sum_without_neuron_keeps_its_layer_and_loses_the_gradient_that_version_2_derives(tmp_path):
    meta, members = parts("4C3", (2, 5, 5))
    silent = {**meta["layers"][0], "spiking": False}
    shapes = {"in_shape": [4, 5, 5], "out_shape": [4, 5, 5]}
    join = {"name": "join", "kind": "add", "inputs": ["conv1", "conv2"], "spiking": False, **shapes}
    meta["layers"] = [silent, {**silent, "name": "conv2"}, join, {**join, "name": "last", "inputs": ["join", "conv1"]}]
    grad = members["conv1.grad"]
    members = {"input.spikes": members["input.spikes"]}
    members |= {f"{name}.grad": grad for name in ("conv1", "conv2", "join", "last")}
    write_trace(tmp_path / "old.npz", meta, members)
    result = h2sim("upgrade", tmp_path / "old.npz", tmp_path / "new.npz")
    assert result.exit_code == 0
    assert "join.grad, last.grad" in result.stderr
    old, new = load_trace(tmp_path / "old.npz"), load_trace(tmp_path / "new.npz")
    assert Derived(old).operands == Derived(new).operands
