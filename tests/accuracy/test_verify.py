"""Functional truth: bundled traces pass, and a single wrong bit, weight or gradient is found where it is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import h2sim
from h2sim.arch import load_arch, with_mode
from h2sim.errors import TraceError
from h2sim.trace import write_trace
from h2sim.verify import verify_trace

RESIDUAL = Path(__file__).parents[1] / "data" / "encode-residual.npz"
ARCH = load_arch("h2learn")


def members(path: Path = RESIDUAL) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist()]
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in names}


def rewritten(tmp_path: Path, change) -> h2sim.Trace:
    """The fixture with some members changed in place by `change(arrays, meta)`."""
    arrays = members()
    meta = json.loads(arrays.pop("meta").tobytes())
    change(arrays, meta)
    write_trace(tmp_path / "changed.npz", meta, arrays)
    return h2sim.load_trace(tmp_path / "changed.npz")


def wrong_rows(trace, arch=ARCH) -> set[tuple[str, str]]:
    return {(row.layer, row.quantity) for row in verify_trace(arch, trace).rows if not row.passed}


@pytest.mark.parametrize("name", ["mnist-digits", str(RESIDUAL)])
def test_every_layer_of_a_trace_of_real_training_is_recomputed_and_passes(name):
    trace = h2sim.load_trace(name)
    report = verify_trace(ARCH, trace)
    assert report.passed
    assert report.notes == ()
    spiking = {layer.name for layer in trace.meta.layers if layer.spiking}
    weighted = {layer.name for layer in trace.meta.layers if layer.kind in ("conv", "fc", "encode")}
    assert {r.layer for r in report.rows if r.quantity == "spikes"} == spiking
    assert {r.layer for r in report.rows if r.quantity == "grad_membrane"} >= spiking
    assert {r.layer for r in report.rows if r.quantity == "weight_grad"} == weighted
    assert sum(r.undecided for r in report.rows) == 0


@pytest.mark.parametrize("mode", ["dense", "input_only", "output_only", "dual"])
def test_every_backward_mode_gives_the_same_gradients(mode):
    assert verify_trace(with_mode(ARCH, mode), h2sim.load_trace(RESIDUAL)).passed


@pytest.mark.parametrize("lut", [True, False])
def test_other_array_sizes_and_the_adder_baseline_give_the_same_values(lut):
    forward = ARCH.engines.forward.model_copy(update={"rows": 5, "sub_luts": 2, "sub_lut_size": 4, "lut": lut})
    update = ARCH.engines.weight_update.model_copy(update={"rows": 3, "sub_luts": 3, "sub_lut_size": 8, "lut": lut})
    backward = ARCH.engines.backward.model_copy(update={"rows": 7})
    engines = ARCH.engines.model_copy(update={"forward": forward, "weight_update": update, "backward": backward})
    assert verify_trace(ARCH.model_copy(update={"engines": engines}), h2sim.load_trace(RESIDUAL)).passed


def flip(name):
    def change(arrays, _meta):
        arrays[name] = arrays[name].copy()
        arrays[name][3, 1, 0] ^= 0x80

    return change


def nudge(name, by):
    def change(arrays, _meta):
        arrays[name] = arrays[name].copy()
        arrays[name].flat[np.argmax(np.abs(arrays[name]))] += by

    return change


def scale_neuron(field, factor):
    def change(_arrays, meta):
        meta["neuron"][field] *= factor

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (flip("down.spikes"), ("down", "spikes")),
        (flip("block1.window"), ("block1", "window")),
        (flip("down.grad"), ("down", "grad is dm != 0")),
        (nudge("down.weight", 0.25), ("down", "membrane")),
        (nudge("fc1.weight", 0.25), ("pool1", "grad_membrane")),
        (nudge("join.membrane", 0.05), ("join", "membrane")),
        (nudge("block2.grad_membrane", 1e-4), ("block2", "weight_grad")),
        (nudge("encode.weight_grad", 1e-3), ("encode", "weight_grad")),
        (scale_neuron("decay", 1.1), ("down", "membrane")),
        (scale_neuron("surrogate_scale", 1.01), ("down", "grad_membrane")),
        (scale_neuron("threshold", 1.2), ("down", "spikes")),
    ],
)
def test_one_wrong_value_is_found_in_its_layer(tmp_path, change, found):
    assert found in wrong_rows(rewritten(tmp_path, change))


def test_the_reset_path_of_the_gradient_is_checked(tmp_path):
    def detach(_arrays, meta):
        meta["neuron"]["detach_reset"] = True

    wrong = wrong_rows(rewritten(tmp_path, detach))
    assert ("down", "grad_membrane") in wrong
    assert ("down", "membrane") not in wrong


def test_a_trace_without_values_is_refused_in_one_line(tmp_path):
    def masks_only(arrays, _meta):
        for name in [n for n in arrays if n.split(".")[-1] not in ("spikes", "window", "grad", "analog")]:
            del arrays[name]

    with pytest.raises(TraceError, match=r"carries no values to verify: expected members such as 'conv1.weight'"):
        verify_trace(ARCH, rewritten(tmp_path, masks_only))


def without(*ends):
    def change(arrays, _meta):
        for name in [n for n in arrays if n.endswith(ends)]:
            del arrays[name]

    return change


def test_the_headline_says_that_every_layer_was_recomputed():
    report = verify_trace(ARCH, h2sim.load_trace(RESIDUAL))
    checked, layers = sum(row.checked for row in report.rows), len(report.layers)
    assert report.not_recomputed == ()
    assert report.headline == (
        f"all values agree: {checked:,} checked in {len(report.rows)} rows; every one of {layers} layers was recomputed"
    )


def test_the_headline_counts_and_names_layers_that_were_not_recomputed(tmp_path):
    report = verify_trace(ARCH, rewritten(tmp_path, without("down.weight", "down.weight_grad")))
    assert report.passed
    assert report.not_recomputed == ("encode", "down")  # the encoder's gradient comes through down's weights
    assert report.headline.endswith(f"; 2 of {len(report.layers)} layers not recomputed, or only in part: encode, down")
    assert "down: no weight recorded: forward pass not checked" in report.notes


def test_a_pool_without_a_recorded_gradient_counts_as_not_recomputed(tmp_path):
    report = verify_trace(ARCH, rewritten(tmp_path, without("pool1.grad_membrane")))
    assert "pool1: no grad_membrane recorded: gradient not checked" in report.notes
    assert "pool1" in report.not_recomputed


def test_the_headline_of_wrong_values_counts_them(tmp_path):
    report = verify_trace(ARCH, rewritten(tmp_path, flip("down.spikes")))
    wrong = sum(row.wrong for row in report.rows)
    assert wrong > 0
    assert report.headline.startswith(f"VALUES DIFFER: {wrong:,} of ")


def test_nothing_checked_is_not_called_agreement(tmp_path):
    def another(arrays, meta):
        without(".weight", ".weight_grad", ".grad_membrane")(arrays, meta)
        for layer in meta["layers"]:
            layer["neuron"] = {**layer.get("neuron", {}), "equation": "other"}

    report = verify_trace(ARCH, rewritten(tmp_path, another))
    assert report.rows == ()
    assert report.headline.startswith("NOTHING WAS CHECKED; 8 of 8 layers not recomputed")


def test_batch_norm_is_told_by_verify(tmp_path):
    def normed(_arrays, meta):
        meta["source"]["batch_norm"] = True

    assert any(
        n.startswith("the network has batch norm") for n in verify_trace(ARCH, rewritten(tmp_path, normed)).notes
    )
