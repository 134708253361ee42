"""Traces: round trips, and every way in which a file can be wrong ends in one clear line."""

from __future__ import annotations

import json
import math
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.errors import NetworkError, OutputError, TraceError
from h2sim.io import library
from h2sim.trace import (
    Sparsity,
    layer_table,
    load_network,
    load_trace,
    parse_meta,
    synthesise,
    write_trace,
)
from h2sim.trace.bits import pack, packed_bytes, popcount, unpack
from tests.helpers.traces import NOTATION, SHAPE, declare, parts, raw_trace, tiny_trace


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_packing_and_unpacking_are_inverse_and_count_alike(neurons, seed):
    bits = (np.random.default_rng(seed).random((2, 3, neurons)) < 0.4).astype(np.uint8)
    packed = pack(bits)
    assert packed.shape == (2, 3, packed_bytes(neurons))
    assert np.array_equal(unpack(packed, neurons), bits)
    assert popcount(packed) == bits.sum()


def test_a_trace_comes_back_as_it_was_written(tmp_path):
    meta, members = parts()
    write_trace(tmp_path / "t.npz", meta, members)
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert [layer.name for layer in trace.meta.layers] == ["conv1", "pool1", "conv2", "fc1"]
    assert np.array_equal(trace.input_spikes(), members["input.spikes"])
    for layer in trace.meta.layers:
        for kind in ("spikes", "window", "grad"):
            assert np.array_equal(trace.mask(layer.name, kind), members[f"{layer.name}.{kind}"])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    assert tiny_trace(tmp_path, "a.npz").read_bytes() == tiny_trace(tmp_path, "b.npz").read_bytes()


def test_a_trace_that_plain_numpy_wrote_is_read(tmp_path):
    load_trace(raw_trace(tmp_path / "n.npz", *parts())).check()


def test_members_that_no_reader_knows_and_later_metadata_keys_are_ignored(tmp_path):
    meta, members = parts()
    meta["written_by"] = "another tool"
    members["comment"] = np.zeros(3)
    members["objects"] = np.array(["text"])
    load_trace(raw_trace(tmp_path / "n.npz", meta, members)).check()


def test_fortran_order_and_big_endian_values_are_read_right(tmp_path):
    meta, members = parts()
    m = np.arange(3 * 2 * 4 * 9 * 9, dtype=np.float32).reshape(3, 2, 4, 9, 9)
    members["conv1.membrane"] = np.asfortranarray(m).astype(">f4")
    trace = load_trace(raw_trace(tmp_path / "n.npz", meta, members))
    assert np.array_equal(trace.values("conv1", "membrane"), m)


def test_summary_counts_spikes_windows_gradients_and_silent_samples(tmp_path):
    meta, members = parts()
    members["conv2.grad"][:, 1] = 0
    write_trace(tmp_path / "t.npz", meta, members)
    rows = {row.layer: row for row in layer_table(load_trace(tmp_path / "t.npz"))}
    row = rows["conv2"]
    total = 3 * 2 * row.neurons
    assert row.neurons == 6 * 4 * 4
    assert row.spike_rate == popcount(members["conv2.spikes"]) / total
    assert row.output_sparsity == 1 - popcount(members["conv2.window"]) / total
    assert row.input_sparsity == 1 - popcount(members["conv2.grad"]) / total
    assert (row.samples_without_gradient, rows["conv1"].samples_without_gradient) == (1, 0)


def test_an_open_trace_can_be_pickled_and_a_forked_child_opens_the_file_itself(tmp_path, monkeypatch):
    trace = load_trace(tiny_trace(tmp_path))
    expected = trace.mask("conv1", "grad")
    again = pickle.loads(pickle.dumps(trace))
    assert np.array_equal(again.mask("conv1", "grad"), expected)
    mine = trace._archive()
    assert trace._archive() is mine
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert trace._archive() is not mine


def test_a_layer_overrides_some_of_the_neuron_parameters():
    meta, _ = parts()
    meta["layers"][3]["neuron"] = {"reset": "none", "surrogate_scale": None}
    found = parse_meta(meta, "x.npz")
    assert found.layer("fc1").neuron.reset == "none"
    assert found.layer("fc1").neuron.surrogate_scale is None
    assert found.layer("fc1").neuron.threshold == found.neuron.threshold
    assert found.layer("conv1").neuron == found.neuron


def test_a_layer_name_with_dots_is_fine(tmp_path):
    meta, members = parts()
    meta["layers"][-1]["name"] = "head.spikes.0"
    members = {name.replace("fc1.", "head.spikes.0."): array for name, array in members.items()}
    write_trace(tmp_path / "t.npz", meta, members)
    assert load_trace(tmp_path / "t.npz").mask("head.spikes.0", "grad").shape == (3, 2, packed_bytes(10))


def fails(path, match):
    with pytest.raises(TraceError, match=match) as caught:
        load_trace(path).check()
    for line in str(caught.value).splitlines():
        assert line.startswith(str(path))
        assert len(line) < 500


def test_a_missing_file_lists_the_shipped_traces(tmp_path):
    fails(tmp_path / "none.npz", r"none\.npz: no such trace file; shipped traces: .*mnist-digits")


def test_a_file_that_is_no_zip_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"hello" * 100)
    fails(tmp_path / "x.npz", r"x\.npz: file: expected an intact \.npz; got damage: File is not a zip file")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_damage_wherever_it_is_cut(tmp_path, share):
    path = tiny_trace(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    fails(path, r"tiny\.npz: file: expected an intact \.npz; got damage")


def test_flipped_bytes_are_found_by_the_checksum(tmp_path):
    path = tiny_trace(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(b"conv2.window.npy") + 150
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    fails(path, r"conv2\.window: expected an intact \.npz; got damage")


def test_pickled_members_are_never_loaded(tmp_path):
    meta, members = parts()
    members["conv1.spikes"] = np.array([{"a": 1}], dtype=object)
    fails(raw_trace(tmp_path / "p.npz", meta, members), r"conv1\.spikes: expected uint8; got pickled objects")


def test_a_declared_size_that_is_not_there_is_refused_before_any_memory_is_taken(tmp_path):
    path = tiny_trace(tmp_path)
    declare(path, "conv1.spikes", (3, 2, packed_bytes(4 * 81)))
    fails(path, r"conv1\.spikes: .* damage: 374 bytes by its header, 144 by the zip directory")
    declare(path, "conv1.spikes", (3, 2, 10**12))
    fails(path, r"conv1\.spikes: expected uint8 \(3, 2, 41\); got uint8 \(3, 2, 1000000000000\)")


def test_oversized_metadata_is_refused(tmp_path):
    meta, members = parts()
    meta["padding"] = " " * (1 << 24)
    fails(raw_trace(tmp_path / "m.npz", meta, members), r"meta: expected at most 16777216 bytes; got \d+ declared")


@pytest.mark.parametrize(
    ("member", "array", "message"),
    [
        ("conv1.spikes", np.zeros((3, 2, 40), np.uint8), r"expected uint8 \(3, 2, 41\); got uint8 \(3, 2, 40\)"),
        ("conv1.window", np.zeros((3, 2, 41), bool), r"window: expected uint8 \(3, 2, 41\); got bool \(3, 2, 41\)"),
        ("conv2.weight", np.zeros((6, 4, 3, 3)), r"conv2\.weight: expected float16 or float32 .* got float64"),
        ("fc1.bias", np.zeros(11, np.float32), r"fc1\.bias: expected float16 or float32 \(10,\); got float32 \(11,\)"),
        ("conv1.grad", np.full((3, 2, 41), 255, np.uint8), r"padding bits of 0 behind the last of 324 neurons; got 1"),
        ("fc1.weight", np.full((10, 96), np.nan, np.float32), r"weight: expected finite numbers; got nan at \[0, 0\]"),
        ("conv1.membrane", np.full((3, 2, 4, 9, 9), np.inf, np.float16), r"expected finite numbers; got inf at"),
    ],
)  # fmt: skip
def test_a_misshapen_member_is_named_with_what_was_expected_and_found(tmp_path, member, array, message):
    meta, members = parts()
    members[member] = array
    fails(raw_trace(tmp_path / "b.npz", meta, members), message)


def test_all_missing_members_are_named_at_once(tmp_path):
    meta, members = parts()
    del members["conv1.window"], members["fc1.grad"]
    path = raw_trace(tmp_path / "b.npz", meta, members)
    fails(path, r"conv1\.window: expected uint8 \(3, 2, 41\); got no such member\n.*fc1\.grad: .*no such member")


def test_exactly_one_network_input_is_wanted(tmp_path):
    meta, members = parts()
    members["input.analog"] = np.zeros((1, 2, 2, 9, 9), np.float32)
    fails(raw_trace(tmp_path / "b.npz", meta, members), "exactly one of input.spikes and input.analog; got both")


def layer(meta, name):
    return next(entry for entry in meta["layers"] if entry["name"] == name)


def swap(path, value):
    """Sets meta['a']['b'] (or a layer's field, 'conv1.kernel') to a value."""

    def change(meta):
        *parents, last = path.split(".")
        place = meta
        for part in parents:
            place = layer(meta, part) if part not in place else place[part]
        place[last] = value

    return change


def drop(path):
    def change(meta):
        *parents, last = path.split(".")
        place = meta
        for part in parents:
            place = layer(meta, part)
        del place[last]

    return change


def test_a_file_of_version_1_with_keys_that_it_does_not_know_reads_as_without_them():
    meta, _ = parts()
    odd = {**meta, "made_by": "x"}
    odd["layers"] = [{**each, "notes": []} for each in meta["layers"]]
    assert parse_meta(odd, "x") == parse_meta(meta, "x")


BAD_META = [
    (swap("format", "other"), r"meta: format: expected 'h2sim-trace'; got 'other'"),
    (swap("version", 3), r"meta: version: expected 1 or 2, which this h2sim reads; got 3"),
    (swap("timesteps", 0), r"meta: timesteps: expected greater than or equal to 1; got 0"),
    (swap("batch", -4), r"meta: batch: expected greater than or equal to 1; got -4"),
    (swap("batch", True), r"meta: batch: expected a valid integer; got True"),
    (swap("timesteps", 10**9), r"meta: timesteps: expected less than or equal to 65536; got 1000000000"),
    (drop("timesteps"), r"meta: timesteps: missing field"),
    (swap("neuron.decay", math.inf), r"meta: expected JSON in UTF-8; got Infinity, which JSON does not have"),
    (swap("neuron.window", [0.5, 0.1]), r"neuron: window: expected low < high; got \[0\.5, 0\.1\]"),
    (swap("neuron.reset", "soft"), r"neuron\.reset: expected 'zero', 'subtract', .* or 'none'; got 'soft'"),
    (swap("source.kind", "real"), r"source\.kind: expected 'training', 'inference' or 'synthetic'; got 'real'"),
    (swap("phases", ["backward"]), r"phases: expected 'forward', then 'backward' if wanted, .*; got \['backward'\]"),
    (swap("layers", []), r"meta: layers: "),
    (swap("conv1.kind", "depthwise"), r"0\.kind: expected 'encode', 'conv', .* 'relu' or 'norm'; got 'depthwise'"),
    (swap("conv1.kind", "gate"), r"0\.kind: expected 'encode', 'conv', 'fc', 'pool' or 'add'; got 'gate'"),
    (swap("conv1.kernel", [3, 0]), r"layers\.0\.kernel\.1: expected greater than or equal to 1; got 0"),
    (swap("conv1.out_shape", [4, 8, 9]), r"conv1: out_shape: expected \[4, 9, 9\] by in_shape, .*; got \[4, 8, 9\]"),
    (swap("conv2.in_shape", [5, 4, 4]), r"in_shape: expected \[4, 4, 4\], the output of 'pool1'; got \[5, 4, 4\]"),
    (swap("fc1.in_features", 97), r"layers\.fc1: in_features: expected 96, the neurons of 'conv2'; got 97"),
    (swap("conv2.inputs", ["conv9"]), r"layers\.conv2: inputs: expected earlier layers or 'input'; got \['conv9'\]"),
    (swap("conv2.name", "conv1"), r"layers: expected a name of its own for each layer; got 'conv1' twice"),
    (swap("pool1.spiking", False), r"pool1: spiking: expected true .*: an average .* without LIF is not binary"),
    (swap("conv2.spiking", False), r"fc1: inputs: expected spikes .*; got currents, not binary, of 'conv2'"),
    (drop("conv1.stride"), r"layers\.0: stride: expected for kind 'conv'; got nothing"),
    (swap("conv1.name", "a/b"), r"layers\.0\.name: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_META)
def test_wrong_metadata_is_named_with_what_was_expected_and_found(tmp_path, change, message):
    meta, members = parts()
    change(meta)
    fails(raw_trace(tmp_path / "m.npz", meta, members), message)


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff\xfe", b"nan"])
def test_metadata_that_is_no_json_object_is_said_to_be_so(tmp_path, text):
    fails(raw_trace(tmp_path / "m.npz", text, parts()[1]), r"meta: expected (JSON|a JSON object)")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tiny_trace(tmp_path)
    before = path.read_bytes()
    meta, members = parts()

    def dying():
        yield from list(members.items())[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trace(path, meta, dying())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.npz"]


def test_writing_to_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"t\.npz: cannot be written: no folder .*nowhere"):
        write_trace(tmp_path / "nowhere" / "t.npz", *parts())


def test_writing_refuses_metadata_that_could_not_be_read_back(tmp_path):
    meta, members = parts()
    meta["batch"] = 0
    with pytest.raises(TraceError, match="batch: expected greater than or equal to 1; got 0"):
        write_trace(tmp_path / "t.npz", meta, members)


def test_synthetic_masks_have_the_asked_sparsity_and_say_what_they_are():
    meta, members = synthesise(load_network("32C3-10FC", (4, 32, 32)), 4, 2, Sparsity(0.9, 0.25, 0.5), seed=3)
    assert meta["source"]["kind"] == "synthetic"
    masks = dict(members)
    density = {k: popcount(masks[f"conv1.{k}"]) / (4 * 2 * 32 * 32 * 32) for k in ("spikes", "window", "grad")}
    assert density["spikes"] == pytest.approx(0.1, abs=0.005)
    assert density["window"] == pytest.approx(0.75, abs=0.005)
    assert density["grad"] == pytest.approx(0.5, abs=0.005)


def test_synthesis_repeats_with_its_seed(tmp_path):
    one, two, other = (
        dict(synthesise(load_network(NOTATION, SHAPE), 2, 2, Sparsity(0.5, 0.5, 0.5), seed=s)[1]) for s in (7, 7, 8)
    )
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert any(not np.array_equal(one[k], other[k]) for k in one)


def test_sparsity_outside_0_to_1_is_refused():
    with pytest.raises(TraceError, match=r"sparsity: window: expected a fraction of zeros from 0 to 1; got 1\.5"):
        Sparsity(0.5, 1.5, 0.5)


def test_the_notation_of_the_source_is_read():
    layers = load_network("64C3S2(Encoding)-AP2-8C5-512FC", (3, 32, 32)).layers
    assert [entry["kind"] for entry in layers] == ["encode", "pool", "conv", "fc"]
    assert layers[0]["stride"] == [2, 2]
    assert layers[0]["out_shape"] == [64, 16, 16]
    assert layers[2]["padding"] == [2, 2]
    assert layers[3]["in_features"] == 8 * 8 * 8
    assert json.dumps(layers)


@pytest.mark.parametrize(
    ("notation", "shape", "message"),
    [
        ("32C3-XX2-10FC", (1, 8, 8), r"layer: expected such as 64C3, .*; got 'XX2'"),
        ("32C3-AP9-10FC", (1, 8, 8), r"AP9: expected at least one (channel and )?position left; got \[32, 0, 0\]"),
        ("32C3-10FC", None, r"input shape: expected C,H,W beside a notation; got nothing"),
        ("no-such-net", None, r"no such network; shipped: .*cifar10"),
    ],
)
def test_a_wrong_network_is_one_line(notation, shape, message):
    with pytest.raises(NetworkError, match=message):
        load_network(notation, shape)


@pytest.mark.parametrize("name", library.names("network"))
def test_every_shipped_network_makes_a_valid_trace_and_says_where_it_is_from(name):
    network = load_network(name)
    meta, _ = synthesise(network, network.timesteps, 1, Sparsity(0.9, 0.8, 0.9), seed=0)
    found = parse_meta(meta, name).input_shape
    assert found == (network.input_shape if "in_shape" in network.layers[0] else (784, 1, 1))
    assert network.name == name
    assert len(network.source) > 10


FILE = {"name": "n", "timesteps": 4, "input": {"shape": [2, 9, 9], "kind": "spikes"}, "layers": NOTATION}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestep": 4}, r"n\.yaml: timestep: unknown field; did you mean 'timesteps'\?"),
        ({"timesteps": True}, r"n\.yaml: timesteps: expected a valid integer; got True"),
        (
            {"input": {"shape": [2, 9, 9], "kind": "analog"}},
            r"input\.kind: expected spikes \(no encode .*\); got analog",
        ),
        ({"input": {"shape": [2, 9], "kind": "spikes"}}, r"n\.yaml: input\.shape\.2: missing field"),
        ({"layers": "4C3-4C3(Encoding)"}, r"4C3\(Encoding\): expected \(Encoding\) on the first layer only"),
        ({"layers": "4C0"}, r"n\.yaml: 4C0: expected a kernel and stride of at least 1; got 0 and 1"),
        ({"layers": [{"name": "a"}]}, r"n\.yaml: layers\.0\.kind: missing field"),
        ({"layers": ""}, r"n\.yaml: layer: expected such as 64C3, .*; got ''"),
    ],
)
def test_a_wrong_network_file_is_named_with_its_field(tmp_path, change, message):
    path = tmp_path / "n.yaml"
    path.write_text(json.dumps({**FILE, **change}))
    with pytest.raises(NetworkError, match=message):
        load_network(str(path))


def test_a_network_file_may_list_its_layers(tmp_path):
    layers = load_network(NOTATION, SHAPE).layers
    path = tmp_path / "n.yaml"
    path.write_text(json.dumps({**FILE, "layers": layers}))
    assert load_network(str(path)).layers == layers
    with pytest.raises(NetworkError, match=r"input\.shape: expected \[2, 9, 9\] by the layers; got \[2, 8, 8\]"):
        load_network(str(path), (2, 8, 8))


def test_sparser_masks_of_one_seed_are_subsets_and_layers_have_their_own_sparsity():
    network = load_network(NOTATION, SHAPE)
    dense = dict(synthesise(network, 3, 2, Sparsity(0.2, 0.2, 0.2), seed=1)[1])
    own = {"conv2": Sparsity(1.0, 0.0, 0.7)}
    meta, members = synthesise(network, 3, 2, Sparsity(0.6, 0.6, 0.6), seed=1, layers=own)
    sparse = dict(members)
    assert not (sparse["conv1.grad"] & ~dense["conv1.grad"]).any()
    assert popcount(sparse["conv2.spikes"]) == 0
    assert popcount(sparse["conv2.window"]) == 3 * 2 * 6 * 4 * 4
    assert meta["source"]["layer_sparsity"] == {"conv2": {"spikes": 1.0, "window": 0.0, "grad": 0.7}}
    with pytest.raises(TraceError, match="layer 'conv9': no such layer"):
        synthesise(network, 3, 2, Sparsity(0.6, 0.6, 0.6), seed=1, layers={"conv9": own["conv2"]})


def test_a_synthetic_inference_trace_has_no_gradients():
    _, members = synthesise(load_network(NOTATION, SHAPE), 2, 1, Sparsity(0, 0, 0), seed=0, phases=("forward",))
    assert not [name for name, _ in members if name.endswith(".grad")]
