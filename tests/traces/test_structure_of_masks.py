"""Synthetic masks: exact means, silent samples, dead channels, clusters; twins of a real trace; table 3.2."""

from __future__ import annotations

import importlib
import math
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.arch import load_arch
from h2sim.cli import main
from h2sim.errors import TraceError
from h2sim.facade import simulate
from h2sim.trace import (
    Sparsity,
    Structure,
    like,
    load_network,
    load_trace,
    reported_sparsity,
    synthesise,
    write_trace,
)
from h2sim.trace.bits import popcount
from h2sim.trace.like import silent_samples
from h2sim.trace.structure import Channels, _largest, measured, structured_mask
from tests.helpers.look import RESIDUAL

NOTATION, SHAPE = "8C3-AP2-16C3-10FC", (2, 16, 16)


def some_channels(count):
    """Channels that die in their order, with unequal offsets."""
    return Channels(np.arange(count), np.random.default_rng(5).standard_normal(count, dtype=np.float32))


def made(structure=None, sparsity=None, seed=0, **kwargs):
    network = load_network(NOTATION, SHAPE)
    meta, members = synthesise(network, 4, 8, sparsity or Sparsity(0.8, 0.7, 0.9), seed, structure=structure, **kwargs)
    return meta, dict(members)


def bits(packed, chw):
    return np.unpackbits(packed, axis=2, count=math.prod(chw)).reshape(*packed.shape[:2], *chw)


def test_without_structure_the_bits_are_those_of_before():
    _, members = made()
    rng = np.random.Generator(np.random.PCG64([0, zlib.crc32(b"conv1.grad")]))
    first = np.packbits(rng.random((8, 8 * 256), dtype=np.float32) >= np.float32(0.9), axis=-1)
    assert np.array_equal(members["conv1.grad"][0], first)


@settings(max_examples=30)
@given(
    st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 1), st.integers(1, 5), st.floats(0, 1), st.integers(0, 2**31),
)  # fmt: skip
def test_a_structured_mask_has_the_density_that_was_asked(silent, dead, fill, cluster, shared, seed):
    rng, chw, samples = np.random.default_rng(seed), (6, 9, 7), 8
    empty = np.zeros(samples, bool)
    empty[: round(silent * samples)] = True
    structure = Structure(0.0, dead, cluster, shared, 0.5 * (1 - shared))
    live = (~empty).mean() * (6 - round(dead * 6)) / 6
    packed = structured_mask(rng, 3, chw, fill * live, structure, empty, some_channels(6), "m")
    found = bits(packed, chw)
    assert abs(found.mean() - fill * live) <= 1 / (6 * 9 * 7)  # a bit by chance in each timestep and sample
    assert not found[:, empty].any()
    assert not found[:, :, : round(dead * 6)].any()


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.integers(0, 12))
def test_of_equal_values_the_first_are_set_whatever_the_processor_can(values, count):
    field = np.array(values, np.float32).reshape(3, 2, 2)
    found = np.flatnonzero(_largest(field, count, np.random.default_rng(0)))
    assert found.tolist() == sorted(sorted(range(12), key=lambda place: (-values[place], place))[:count])


def test_silent_samples_have_no_gradient_in_any_layer_and_still_spike():
    meta, members = made(Structure(silent_samples=0.5))
    silent = [~members[f"{layer['name']}.grad"].any(axis=(0, 2)) for layer in meta["layers"]]
    assert all(np.array_equal(one, silent[0]) for one in silent)
    assert silent[0].sum() == 4
    assert members["conv1.spikes"].any(axis=(0, 2)).all()
    assert meta["source"]["structure"]["silent_samples"] == 0.5
    assert meta["source"]["silent_samples"] == "4 of 8"
    assert meta["source"]["kind"] == "synthetic"


def test_dead_channels_are_the_same_ones_in_all_masks():
    _, members = made(Structure(dead_channels=0.25))
    dead = [
        ~bits(members[f"conv1.{kind}"], (8, 16, 16)).any(axis=(0, 1, 3, 4)) for kind in ("spikes", "window", "grad")
    ]
    assert dead[0].sum() == 2
    assert all(np.array_equal(one, dead[0]) for one in dead)


def neighbours_alike(mask):
    return float((mask[..., 1:] == mask[..., :-1]).mean())


def test_clusters_make_neighbours_alike_and_shared_places_make_channels_alike():
    plain = bits(made(Structure())[1]["conv1.window"], (8, 16, 16))
    clustered = bits(made(Structure(cluster_positions=4))[1]["conv1.window"], (8, 16, 16))
    assert neighbours_alike(clustered) > neighbours_alike(plain) + 0.1
    alone = made(Structure(shared=0.0))[1]["conv1.window"]
    together = made(Structure(shared=0.9))[1]["conv1.window"]
    spread = [bits(mask, (8, 16, 16)).mean(axis=(0, 2)).std() for mask in (alone, together)]
    assert spread[1] > 2 * spread[0]


def test_measuring_a_structured_mask_finds_its_structure_again():
    rng, chw, none = np.random.default_rng(0), (16, 24, 24), np.zeros(4, bool)
    for dead, cluster, shared, own in ((0.25, 1, 0.0, 0.0), (0.0, 4, 0.0, 0.0), (0.5, 1, 0.6, 0.0), (0.0, 1, 0.0, 0.4)):
        structure = Structure(0, dead, cluster, shared, own)
        packed = structured_mask(rng, 8, chw, 0.2, structure, none, some_channels(16), "m")
        found = measured(packed, chw, none)
        assert found.dead_channels == dead
        assert found.cluster_positions == pytest.approx(cluster, abs=1.5)
        assert found.shared == pytest.approx(shared, abs=0.2)
        assert found.channels == pytest.approx(own, abs=0.2)


def test_the_same_arguments_give_the_same_bits_and_another_seed_others():
    structure = Structure(0.25, 0.25, 3, 0.5)
    one, two, other = (made(structure, seed=seed)[1] for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["conv1.grad"], other["conv1.grad"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"silent_samples": 1.5}, r"structure: silent_samples: expected a share from 0 to 1; got 1\.5"),
        ({"shared": None}, r"structure: shared: expected a share from 0 to 1; got None"),
        (
            {"shared": 0.6, "channels": 0.6},
            r"shared \+ channels: expected a share of at most 1 together; got 0\.6 \+ 0\.6",
        ),
        ({"cluster_positions": 0}, r"structure: cluster_positions: expected an integer from 1 to 256; got 0"),
    ],
)
def test_a_structure_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(TraceError, match=message):
        Structure(**arguments)


def test_bits_that_find_no_room_are_refused():
    with pytest.raises(TraceError, match=r"conv1\.grad: density: expected at most 0\.5 of the bits set.*; got 0\.8"):
        made(Structure(silent_samples=0.5), Sparsity(0.8, 0.7, 0.2))


@pytest.mark.parametrize("structure", [None, "measured"])
def test_a_twin_keeps_the_mean_of_every_mask(tmp_path, structure):
    real = load_trace(RESIDUAL)
    meta, members = like(real, 3, structure)
    write_trace(tmp_path / "twin.npz", meta, members)
    twin = load_trace(tmp_path / "twin.npz")
    twin.check()
    assert twin.meta.source["kind"] == "synthetic"
    assert twin.meta.source["like"]["sha256"] == real.sha256
    assert twin.analog_steps == real.analog_steps
    for layer in real.meta.layers:
        for kind in ("spikes", "window", "grad"):
            if real.has(f"{layer.name}.{kind}"):
                ours, theirs = (popcount(t.mask(layer.name, kind)) for t in (twin, real))
                total = layer.neurons * real.meta.timesteps * real.meta.batch
                slack = 5 * math.sqrt(total) / 2 if structure is None else real.meta.timesteps * real.meta.batch
                assert abs(ours - theirs) <= slack, (layer.name, kind)


def test_a_measured_twin_has_the_silent_samples_of_its_trace(tmp_path):
    meta, members = made(Structure(silent_samples=0.25))
    write_trace(tmp_path / "real.npz", meta, members)
    real = load_trace(tmp_path / "real.npz")
    twin_meta, twin = like(real, 0, "measured")
    write_trace(tmp_path / "twin.npz", twin_meta, twin)
    assert silent_samples(real).sum() == silent_samples(load_trace(tmp_path / "twin.npz")).sum() == 2


def test_table_3_2_gives_each_convolution_its_own_sparsity():
    rest, layers = reported_sparsity(load_network("cifar10"))
    assert (layers["conv1"].window, layers["conv2"].grad) == (0.5406, 0.9141)
    assert (layers["conv5"].window, layers["conv6"].grad) == (0.8724, 0.8439)
    assert layers["pool1"] == layers["conv2"]
    assert rest.window == pytest.approx((0.5406 + 0.8322 + 0.8022 + 0.8275 + 0.8724) / 5)
    for name in ("mnist", "nmnist", "cifar10-dvs", "imagenet"):
        assert reported_sparsity(load_network(name))[1]
    with pytest.raises(TraceError, match=r"table-3\.2: network: expected one of mnist, .*; got 'vgg5'"):
        reported_sparsity(load_network("vgg5"))


def synth(*arguments):
    return CliRunner().invoke(main, ["trace", "synth", *map(str, arguments)])


def test_the_command_writes_what_was_asked(tmp_path):
    out = tmp_path / "t.npz"
    layer = [
        "--layer",
        "conv1=spikes=0.5,window=0.5,grad=0.75",
        "--structure",
        "silent=0.25,dead=0.25,cluster=2,shared=0.5",
    ]
    done = synth(NOTATION, "--input-shape", "2,16,16", "--sparsity", "0.9", *layer, "--timesteps", 3, "-o", out)
    assert done.exit_code == 0, done.output
    trace = load_trace(out)
    assert trace.meta.timesteps == 3
    assert popcount(trace.mask("conv1", "spikes")) / (3 * 4 * 2048) == pytest.approx(0.5, abs=0.01)
    assert trace.meta.source["structure"]["cluster_positions"] == 2
    assert synth("cifar10-dvs", "--sparsity", "table-3.2", "--batch", 1, "--timesteps", 1, "-o", out).exit_code == 0
    assert synth("--like", RESIDUAL, "--structure", "measured", "-o", out).exit_code == 0
    assert load_trace(out).meta.network == "encode-residual"


def test_the_command_reports_every_member_under_its_layer(tmp_path, monkeypatch):
    calls = []

    @contextmanager
    def recorded(what):
        yield lambda *call: calls.append((what, *call))

    monkeypatch.setattr(importlib.import_module("h2sim.cli.trace_synth"), "progress", recorded)
    assert synth("4C3-AP2-10FC", "--input-shape", "2,8,8", "--sparsity", "0.5", "-o", tmp_path / "t.npz").exit_code == 0
    layers = [("drawing", "input", 0, 3)]
    for number, name in enumerate(("conv1", "pool1", "fc1"), start=1):
        layers += [("drawing", name, number, 3)] * 3  # spikes, window, grad
    assert calls == layers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist"], "expected NETWORK and --sparsity, or --like TRACE"),
        (["mnist", "--like", "x.npz"], "--like takes network, sizes and sparsities from its trace"),
        (["mnist", "--sparsity", "0.5", "--structure", "measured"], "--structure measured needs --like TRACE"),
        (
            ["mnist", "--sparsity", "0.5", "--structure", "blobs=3"],
            "expected silent=..,dead=..,cluster=..",
        ),
        (["mnist", "--sparsity", "0.5", "--layer", "conv9=0.5"], "layer 'conv9': no such layer"),
        (["mnist", "--sparsity", "0.5", "--layer", "fc1=table-3.2"], "expected numbers for one layer"),
        (["--like", "x.npz", "--batch", "8"], "--like takes network, sizes and sparsities from its trace"),
        (["mnist", "--sparsity", "0.5", "--layer", "conv1"], "expected NAME=0.75 or NAME=spikes=.."),
        (["vgg5", "--sparsity", "table-3.2"], "table-3.2: network: expected one of mnist"),
    ],
)
def test_wrong_use_is_exit_status_2(tmp_path, arguments, message):
    done = synth(*arguments, "-o", tmp_path / "t.npz")
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not (tmp_path / "t.npz").exists()


def test_independent_masks_are_far_off_in_cycles_and_measured_structure_is_near(tmp_path):
    real = load_trace("mnist-digits")
    cycles = [simulate(load_arch("h2learn"), real).engine("backward").compute_cycles]
    for structure in (None, "measured"):
        write_trace(tmp_path / "t.npz", *like(real, 0, structure), compress=False)
        cycles.append(simulate(load_arch("h2learn"), load_trace(tmp_path / "t.npz")).engine("backward").compute_cycles)
    assert round(cycles[1] / cycles[0], 2) == 0.63  # docs/explanation/masks.md and reports/masks.md say so
    assert round(cycles[2] / cycles[0], 2) == 0.94
