"""Are masks that no training can have told, and files that say a thing twice refused?"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.errors import TraceError
from h2sim.trace.bits import pack, unpack
from tests.helpers.traces import parts, raw_trace

SHIPPED = ("mnist-digits", "mnist-table34", "mnist-table34-fp16")


def lawful(**source):
    """The small trace with gradients inside the windows that are open later, as training has them."""
    meta, members = parts()
    meta["source"] = {**meta["source"], "kind": "training", **source}
    for name in [name for name in members if name.endswith(".grad")]:
        window = members.get(name.replace(".grad", ".window"))
        if window is not None:
            members[name] = np.bitwise_or.accumulate(window[::-1], axis=0)[::-1].copy()
    return meta, members


def opened(folder, meta, members):
    return h2sim.load_trace(raw_trace(folder / "t.npz", meta, members))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_bit_of_the_shipped_traces_obeys(name):
    assert h2sim.load_trace(name).broken_laws == ()


def test_a_lawful_trace_is_not_warned_of(tmp_path):
    assert opened(tmp_path, *lawful()).broken_laws == ()


def test_gradients_behind_the_last_open_window_are_counted_neuron_by_neuron(tmp_path):
    meta, members = lawful()
    layer = next(name.removesuffix(".grad") for name in members if name.endswith(".grad"))
    neurons = members[f"{layer}.grad"].shape[-1] * 8
    window, grad = unpack(members[f"{layer}.window"], neurons), unpack(members[f"{layer}.grad"], neurons)
    window[:, 0, :3] = 0
    grad[:, 0, :3] = 0
    window[1, 0, 0] = 1  # open at 1: a gradient at 0 and 1 is lawful, at 2 it is not
    grad[:, 0, 0] = 1
    grad[0, 0, 1] = 1  # never open
    members[f"{layer}.window"], members[f"{layer}.grad"] = pack(window), pack(grad)
    late = grad.shape[0] - 2
    (told,) = opened(tmp_path, meta, members).broken_laws
    assert told.startswith("gradients that no training has (eq. 2.4 to 2.6)")
    assert told.endswith(f": {layer} {late + 1}")


def test_synthetic_masks_get_one_line_of_their_own(tmp_path):
    meta, members = parts()
    meta["source"] = {"kind": "synthetic", "method": "bernoulli"}
    (told,) = opened(tmp_path, meta, members).broken_laws
    assert told.startswith("the masks are SYNTHETIC: ")


def test_spikes_without_any_neuron_inside_its_window_are_told(tmp_path):
    meta, members = lawful()
    name = next(n for n in members if n.endswith(".window"))
    members[name] = np.zeros_like(members[name])
    members[name.replace("window", "grad")] = np.zeros_like(members[name])
    layer = name.removesuffix(".window")
    (told,) = opened(tmp_path, meta, members).broken_laws
    assert told == f"spikes, and no neuron ever inside a window that begins below the threshold: {layer}"


def test_gradients_in_a_forward_trace_are_told(tmp_path):
    meta, members = lawful()
    meta["phases"] = ["forward"]
    assert opened(tmp_path, meta, members).broken_laws[0].startswith("gradients in a trace of the forward pass alone")


def test_labels_and_decays_that_cannot_be_are_told(tmp_path):
    meta, members = lawful(labels=[1, 2, 3, 4, 5, 6, 7])
    meta["neuron"]["decay"] = 1.5
    told = opened(tmp_path, meta, members).broken_laws
    assert told[0] == f"source.labels has 7 labels for a batch of {meta['batch']} samples"
    assert told[1].startswith("a decay outside 0 to 1, so that membranes grow or change sign on their own: ")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([[1], [2], [3]], "source.labels has 3 labels for a batch of 2 samples"),
        (7, "source.labels is no list of 2 labels, one a sample"),
        ({"a": 1}, "source.labels is no list of 2 labels, one a sample"),
        ([-1, 2], "source.labels has 1 labels that are no class of the 10 outputs of fc1"),
        ([10**400, 10], "source.labels has 2 labels that are no class of the 10 outputs of fc1"),
    ],
)
def test_labels_that_no_batch_has_are_told(labels, told, tmp_path):
    assert opened(tmp_path, *lawful(labels=labels)).broken_laws == (told,)


@pytest.mark.parametrize("labels", [[0, 9], ["cat", "dog"], [[0.5, 0.5], [1, 0]], [None, None]])
def test_labels_of_other_kinds_are_let_be(labels, tmp_path):
    assert opened(tmp_path, *lawful(labels=labels)).broken_laws == ()


def test_a_window_that_does_not_hold_the_threshold_is_told(tmp_path):
    meta, members = lawful()
    meta["layers"][0]["neuron"] = {"window": [2.0, 3.0]}
    told = "a window of the surrogate that does not hold the threshold: conv1"
    assert told in opened(tmp_path, meta, members).broken_laws


@pytest.mark.parametrize("window", [[-1e30, 1e30], [0.05, 1e30], [-1e30, 0.55]])
def test_neurons_outside_a_window_without_end_are_counted(window, tmp_path):
    meta, members = lawful()
    meta["neuron"]["window"] = window
    neurons = members["conv1.spikes"].shape[-1] * 8 - 4
    fired, inside = (unpack(members[f"conv1.{kind}"], neurons) != 0 for kind in ("spikes", "window"))
    count = int((fired & ~inside).sum()) * (window[1] == 1e30) + int((~fired & ~inside).sum()) * (window[0] == -1e30)
    (told,) = opened(tmp_path, meta, members).broken_laws
    assert f"neurons outside a window that has no end on their side of the threshold: conv1 {count}, " in told


def test_the_command_warns_once_and_answers_all_the_same(tmp_path):
    meta, members = lawful()
    for name in [n for n in members if n.endswith(".window")]:
        members[name] = np.zeros_like(members[name])
    path = raw_trace(tmp_path / "t.npz", meta, members)
    for command in (["run", "h2learn", str(path)], ["trace", "info", str(path)]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("gradients that no training has") == 1


def test_masks_are_read_once_for_all_laws(tmp_path, monkeypatch):
    trace = opened(tmp_path, *lawful())
    read: list[str] = []
    original = type(trace)._read
    monkeypatch.setattr(type(trace), "_read", lambda self, name: read.append(name) or original(self, name))
    h2sim.simulate(h2sim.load_arch("h2learn"), trace)
    assert len(read) == len(set(read)) > 0


def test_a_key_that_stands_twice_is_refused(tmp_path):
    meta, members = parts()
    text = json.dumps(meta).replace('"timesteps":', '"timesteps": 9, "timesteps":', 1)
    path = raw_trace(tmp_path / "t.npz", meta, members)
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != "meta.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.frombuffer(text.encode(), np.uint8))
        archive.writestr("meta.npy", buffer.getvalue())
        for name, data in kept.items():
            archive.writestr(name, data)
    with pytest.raises(TraceError, match=r"meta: expected JSON in UTF-8; got key 'timesteps' stands twice$"):
        h2sim.load_trace(path)


@pytest.mark.parametrize("member", ["meta", "conv1.spikes", "conv1.grad", "input.spikes"])
def test_a_header_that_declares_gigabytes_is_refused_before_it_is_read(member, tmp_path):
    meta, members = parts()
    path = raw_trace(tmp_path / "t.npz", meta, members)
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    bomb = b"\x93NUMPY\x02\x00" + struct.pack("<I", 3 << 30)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            if name != f"{member}.npy":
                archive.writestr(name, data)
        with archive.open(f"{member}.npy", "w", force_zip64=True) as file:
            file.write(bomb)
            for _ in range(3 << 6):  # 192 MB of spaces
                file.write(b" " * (1 << 20))
    code = (
        "import resource, h2sim\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        f"try:\n    h2sim.load_trace({str(path)!r})\nexcept h2sim.H2SimError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "a header of 3221225472 bytes, where at most 10000 are read" in done.stdout or "meta: " in done.stdout
