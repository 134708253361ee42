"""Traces that are damaged, hostile or inconsistent: whatever the bytes, only lines of a TraceError come out."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.errors import TraceError
from h2sim.trace import load_trace, parse_meta, write_trace
from tests.helpers.traces import parts, raw_trace, tiny_trace

NASTY = [None, True, -1, 0, 1.5, 10**400, "", "\n", "\ud800", "x" * 300, [], [[]], {}, {"a": 1}, [0, 0, 0], 2**31]


def outcome(path) -> str:
    """'' if the trace is whole, the error's text otherwise; anything but a clean TraceError fails."""
    try:
        load_trace(path).check()
    except TraceError as error:
        for line in str(error).split("\n"):
            assert line.startswith((str(path), "... and")), line
            assert line.isprintable()
            assert len(line) < 500
        return str(error)
    return ""


def with_members(path, blobs: dict[str, bytes], method=zipfile.ZIP_DEFLATED):
    """The trace with raw .npy bytes in place of some members."""
    with zipfile.ZipFile(path) as archive:
        kept = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in {**kept, **{f"{k}.npy": v for k, v in blobs.items()}}.items():
            archive.writestr(name, data)
    return path


def npy(text: str, data: bytes = b"", version=(1, 0)) -> bytes:
    width = 2 if version == (1, 0) else 4
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(width, "little") + text.encode() + data


def test_a_file_cut_anywhere_is_damage(tmp_path):
    path = tiny_trace(tmp_path)
    data = path.read_bytes()
    for cut in range(0, len(data), 13):
        path.write_bytes(data[:cut])
        assert "expected an intact .npz; got damage" in outcome(path)


@pytest.mark.parametrize("compress", [True, False])
def test_bytes_changed_anywhere_never_end_in_another_exception(tmp_path, compress):
    path = tmp_path / "t.npz"
    write_trace(path, *parts(), compress=compress)
    data, rng = path.read_bytes(), random.Random(5)
    found = 0
    for _ in range(600):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
        found += outcome(path) != ""
    assert found > 400


@given(st.data())
@settings(max_examples=150)
def test_any_value_in_any_place_of_the_metadata_is_accepted_or_refused_by_a_trace_error(data):
    meta, _ = parts()
    place = meta
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = copy.deepcopy(data.draw(st.sampled_from(NASTY)))
        break
    try:
        parse_meta(json.loads(json.dumps(meta)), "x.npz")
    except TraceError as error:
        for line in str(error).split("\n"):
            assert line.startswith("x.npz: meta: ")
            assert line.isprintable()


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x93NUMPY",
        npy("{" * 200),
        npy("(" * 9000),
        npy("{'descr': '|u1'}"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, -41)}"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 2, 41)}", bytes(82)),
        npy("{'descr': 'no such', 'fortran_order': False, 'shape': (3, 2, 41)}"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 41)}", bytes(5)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 41)}", bytes(3 * 2 * 41 + 1)),
        npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (3, 2, 41)}", bytes(246)),
        npy("__import__('os').abort()"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 41)}", bytes(246), (3, 0)),
    ],
)
def test_a_wrong_npy_header_is_named_with_its_member(tmp_path, blob):
    path = with_members(tiny_trace(tmp_path), {"conv1.window": blob})
    assert "tiny.npz: conv1.window: expected " in outcome(path)
    path = with_members(tiny_trace(tmp_path), {"meta": blob})
    assert "tiny.npz: meta: expected " in outcome(path)


def test_a_header_of_version_2_is_read(tmp_path):
    meta, members = parts()
    path = raw_trace(tmp_path / "t.npz", meta, members)
    file = io.BytesIO()
    np.lib.format.write_array(file, members["conv1.window"], version=(2, 0))
    assert outcome(with_members(path, {"conv1.window": file.getvalue()})) == ""


def test_a_member_whose_stored_bytes_cannot_hold_its_declared_size_is_refused_unread(tmp_path):
    meta, members = parts(notation="4C3")
    meta.update(timesteps=200, batch=1000)
    path = tmp_path / "t.npz"
    write_trace(path, meta, {name: np.zeros((200, 1000, array.shape[2]), np.uint8) for name, array in members.items()})
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"conv1.window.npy") - 46  # its line in the zip directory
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 20 : entry + 24] = (5000).to_bytes(4, "little")  # compressed size
    path.write_bytes(data)
    with pytest.raises(TraceError, match=r"conv1\.window: .* damage: 5000 stored bytes cannot hold 8200128"):
        load_trace(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_refused(tmp_path, method):
    path = with_members(tiny_trace(tmp_path), {}, method)
    assert f"compression method {method} is neither stored (0) nor deflate (8)" in outcome(path)


def test_encrypted_members_are_refused(tmp_path):
    path = tiny_trace(tmp_path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"conv1.window.npy") - 46
    data[entry + 8] |= 1
    path.write_bytes(data)
    assert "conv1.window: expected an intact .npz; got damage: it is encrypted" in outcome(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    path = tiny_trace(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fc1.grad.npy", archive.read("fc1.grad.npy"))
    assert outcome(path) == f"{path}: fc1.grad: expected once; got 2 members of that name"


def test_a_folder_and_a_name_too_long_are_one_line(tmp_path):
    with pytest.raises(TraceError, match=r"expected a trace file; got a folder$"):
        load_trace(tmp_path)
    with pytest.raises(TraceError, match=r"cannot be read: File name too long$"):
        load_trace("x" * 5000)


def test_a_trace_without_metadata_is_no_trace(tmp_path):
    np.savez(tmp_path / "n.npz", a=np.zeros(3))
    assert outcome(tmp_path / "n.npz").endswith("meta: expected in an h2sim trace; got no such member")


def test_metadata_must_be_bytes(tmp_path):
    meta, members = parts()
    np.savez(tmp_path / "n.npz", meta=np.array(json.dumps(meta)), **members)
    assert "meta: expected uint8 (bytes,); got <U" in outcome(tmp_path / "n.npz")


def test_a_very_long_number_and_deep_nesting_are_no_json(tmp_path):
    for text in (b'{"version": ' + b"1" * 5000 + b"}", b"[" * 100_000):
        assert "meta: expected JSON in UTF-8; got " in outcome(raw_trace(tmp_path / "m.npz", text, {}))


@pytest.mark.parametrize("name", ["", "input", "meta", "a/b", "a\\b", "a\nb", "a\u2028b", "x" * 201])
def test_a_layer_name_that_cannot_stand_in_a_member_or_a_line_is_refused(name):
    meta, _ = parts()
    meta["layers"][-1]["name"] = name
    with pytest.raises(TraceError, match=r"^x\.npz: meta: layers\.3\.name: expected .*; got [^\n]*$"):
        parse_meta(meta, "x.npz")


def refused(meta, *lines):
    """The metadata gives exactly these lines."""
    with pytest.raises(TraceError) as caught:
        parse_meta(meta, "x.npz")
    assert str(caught.value).split("\n") == [f"x.npz: meta: {line}" for line in lines]


def test_all_faults_of_the_metadata_are_reported_at_once():
    meta, _ = parts()
    del meta["dataset"]
    meta["neuron"]["threshold"] = "high"
    meta["batch"] = 2.0
    meta["layers"][1]["kernel"] = 2
    refused(
        meta,
        "dataset: missing field",
        "batch: expected a valid integer; got 2.0",
        "neuron.threshold: expected a valid number; got 'high'",
        "layers.1.kernel: expected a valid tuple; got 2",
    )


def test_all_faults_of_the_graph_are_reported_at_once():
    meta, _ = parts()
    meta["source"] = {}
    meta["phases"] = ["backward", "forward"]
    meta["layers"][0]["padding"] = [0, 1]
    meta["layers"][3]["inputs"] = ["conv2", "conv1"]
    refused(
        meta,
        "source.kind: expected 'training', 'inference' or 'synthetic'; got None",
        "phases: expected 'forward', then 'backward' if wanted, then 'weight_update'; got ['backward', 'forward']",
        "layers.conv1: out_shape: expected [4, 7, 9] by in_shape, kernel, stride and padding; got [4, 9, 9]",
        "layers.fc1: inputs: expected one for kind 'fc'; got 2",
    )


def test_a_hundred_lines_are_enough():
    meta, _ = parts()
    meta["layers"] = [{}] * 500
    with pytest.raises(TraceError, match=r"and 1,400 more faults$") as caught:
        parse_meta(meta, "x.npz")
    assert len(str(caught.value).split("\n")) == 101


def test_another_version_is_reported_alone():
    meta, _ = parts()
    refused({**meta, "version": 3, "layers": 3}, "version: expected 1 or 2, which this h2sim reads; got 3")
    refused({**meta, "version": True}, "version: expected 1 or 2, which this h2sim reads; got True")
    refused({**meta, "format": None}, "format: expected 'h2sim-trace'; got None")


def test_sizes_that_no_memory_holds_are_refused():
    meta, _ = parts(notation="10FC", shape=(1, 1, 1))
    meta["layers"][0]["in_features"] = 2**28 + 1
    refused(meta, "layers.0.in_features: expected less than or equal to 268435456; got 268435457")
    meta["layers"][0].update(in_features=2**28, out_features=2**28)
    refused(meta, "layers.0: weights: expected at most 68719476736; got 72057594037927936")
    meta["layers"][0]["out_features"] = 1
    meta.update(timesteps=65536, batch=65536)
    refused(meta, f"timesteps x batch x neurons: expected at most {2**36} bits a mask; got {2**60}")
    meta, _ = parts(notation="1C1", shape=(1, 1, 1))
    meta["layers"][0].update(in_shape=[65536] * 3, out_shape=[1, 65536, 65536])
    refused(meta, f"layers.0: output neurons: expected at most {2**28}; got {2**32}")


def residual():
    """conv1 -> conv2 (currents) and conv1 -> join -> fc1, on 2 x 9 x 9 spikes."""
    meta, members = parts(notation="4C3-4C3-10FC")
    conv1, conv2, fc1 = meta["layers"]
    conv2["spiking"] = False
    shape = conv1["out_shape"]
    join = {"name": "join", "kind": "add", "inputs": ["conv2", "conv1"], "in_shape": shape, "out_shape": list(shape)}
    fc1["inputs"] = ["join"]
    meta["layers"] = [conv1, conv2, join, fc1]
    members |= {f"join.{kind}": members[f"conv1.{kind}"] for kind in ("spikes", "window", "grad")}
    return meta, members


def test_a_residual_network_is_read_and_its_currents_need_no_spikes(tmp_path):
    meta, members = residual()
    del members["conv2.spikes"], members["conv2.window"]
    write_trace(tmp_path / "t.npz", meta, members)
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert not trace.has("conv2.spikes")
    assert trace.has("conv2.grad")
    with pytest.raises(TraceError, match=r"conv2\.spikes: expected in this trace; got no such member"):
        trace.mask("conv2", "spikes")


def test_a_pool_may_average_currents_before_it_fires():
    meta, _ = parts()
    meta["layers"][0]["spiking"] = False
    assert not parse_meta(meta, "x.npz").layer("conv1").spiking


def test_faults_of_a_residual_sum_are_named():
    meta, _ = residual()
    meta["layers"][2]["inputs"] = ["conv2"]
    refused(meta, "layers.join: inputs: expected two or more for kind 'add'; got 1")
    meta, _ = residual()
    meta["layers"][2]["out_shape"] = [4, 9, 8]
    refused(
        meta,
        "layers.join: out_shape: expected [4, 9, 9] as in_shape; got [4, 9, 8]",
        "layers.fc1: in_features: expected 288, the neurons of 'join'; got 324",
    )
    meta, _ = residual()
    meta["layers"][3]["inputs"] = ["conv2"]
    refused(meta, "layers.fc1: inputs: expected spikes for kind 'fc'; got currents, not binary, of 'conv2'")


def test_only_an_encode_layer_reads_an_analog_input_and_it_reads_nothing_else():
    meta, _ = parts(notation="4C3(Encoding)-4C3")
    meta["layers"][1].update(inputs=["input"], in_shape=[2, 9, 9])
    refused(
        meta, "layers.conv2: inputs: expected spikes for kind 'conv'; got 'input', analog as an encode layer reads it"
    )
    meta, _ = parts(notation="4C3-4C3")
    meta["layers"][1]["kind"] = "encode"
    refused(
        meta,
        "layers.conv1: inputs: expected spikes for kind 'conv'; got 'input', analog as an encode layer reads it",
        "layers.conv2: inputs: expected 'input', the analog one, for kind 'encode'; got ['conv1']",
    )


def test_an_analog_network_needs_an_analog_input(tmp_path):
    meta, members = parts(notation="4C3(Encoding)-4C3")
    del members["input.analog"]
    path = raw_trace(tmp_path / "t.npz", meta, members)
    assert (
        outcome(path)
        == f"{path}: input.analog: expected float16 or float32 (3, 2, 2, 9, 9) or (1, 2, 2, 9, 9); got no such member"
    )


def test_two_readers_of_the_input_agree_on_its_shape():
    meta, _ = residual()
    meta["layers"][1].update(inputs=["input"], in_shape=[3, 9, 9])
    refused(meta, "layers.conv2: reads 'input': expected [2, 9, 9] as its other readers; got [3, 9, 9]")


def test_a_kernel_larger_than_the_padded_input_is_refused():
    meta, _ = parts()
    meta["layers"][0].update(kernel=[12, 3])
    with pytest.raises(TraceError, match=r"kernel: expected at most the padded input, \[11, 11\]; got \[12, 3\]"):
        parse_meta(meta, "x.npz")


def test_an_inference_trace_needs_no_gradients(tmp_path):
    meta, members = parts()
    meta["phases"] = ["forward"]
    members = {name: array for name, array in members.items() if not name.endswith(".grad")}
    write_trace(tmp_path / "t.npz", meta, members)
    assert not load_trace(tmp_path / "t.npz").has("conv1.grad")
    meta["phases"] = ["forward", "backward"]
    path = raw_trace(tmp_path / "t.npz", meta, members)
    assert outcome(path).count("got no such member") == 4


UNFIT = [
    (
        "conv1.spikes",
        np.zeros((2, 2, 41), np.uint8),
        r"conv1\.spikes: expected uint8 \(3, 2, 41\); got uint8 \(2, 2, 41\)",
    ),
    ("conv1.bias", np.full(4, np.nan, np.float32), r"conv1\.bias: expected finite numbers; got nan at \[0\]"),
    ("note", np.array([{}]), r"note: expected numbers; got objects"),
    ("meta", np.zeros(1, np.uint8), r"meta: expected once; got it again"),
    (
        "input.analog",
        np.zeros((1, 2, 2, 9, 9), np.float32),
        r"expected exactly one of input\.spikes and input\.analog; got both",
    ),
]


@pytest.mark.parametrize(("member", "array", "message"), UNFIT)
def test_writing_refuses_members_that_do_not_fit_and_keeps_the_old_file(tmp_path, member, array, message):
    path = tiny_trace(tmp_path)
    before = path.read_bytes()
    meta, members = parts()
    with pytest.raises(TraceError, match=message):
        write_trace(path, meta, {**members, member: array})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.npz"]


def test_writing_refuses_a_missing_member_and_metadata_that_is_no_json(tmp_path):
    meta, members = parts()
    with pytest.raises(TraceError, match=r"meta: expected what JSON can hold; got "):
        write_trace(tmp_path / "t.npz", {**meta, "source": {"kind": "training", "loss": float("nan")}}, members)
    del members["fc1.window"]
    with pytest.raises(TraceError, match=r"fc1\.window: expected uint8 \(3, 2, 2\); got no such member"):
        write_trace(tmp_path / "t.npz", meta, members)
    assert not list(tmp_path.iterdir())


def test_asking_for_what_is_not_there_is_one_line(tmp_path):
    trace = load_trace(tiny_trace(tmp_path))
    with pytest.raises(TraceError, match=r"layer 'conv7': no such layer; layers: conv1, pool1, conv2, fc1$"):
        trace.mask("conv7", "spikes")
    with pytest.raises(TraceError, match=r"conv1\.weight: expected one of spikes, window, grad; got 'weight'$"):
        trace.mask("conv1", "weight")
    with pytest.raises(TraceError, match=r"conv1\.weight: expected in this trace; got no such member$"):
        trace.values("conv1", "weight")
    assert not trace.has_values
    assert trace.analog_steps == 1
