"""Synthetic traces of networks of maps, and twins of such traces: what is drawn, how much of it, the same each time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from h2sim.errors import TraceError
from h2sim.trace import (
    Network,
    Sparsity,
    Structure,
    check_layers,
    like,
    load_network,
    load_trace,
    reported_sparsity,
    synthesise,
    write_trace,
)
from h2sim.trace.derived import Derived
from h2sim.trace.members import known_members
from h2sim.trace.synth import Counts
from tests.helpers.gated import gated
from tests.helpers.look import bad, good
from tests.helpers.operands import draw

SPARSITY = Sparsity(0.8, 0.6, 0.7)


def network(layers, chw=(2, 12, 12)) -> Network:
    return Network(name="maps", input_shape=chw, input_kind="spikes", timesteps=3, layers=tuple(layers))


def maps(scale=(5, 4)) -> Network:
    """A convolution, its maximum, a relu of currents, a gate, an average, a read-out over the mean of time."""
    size = {"in_shape": [2, 12, 12], "out_shape": [2, 12, 12]}
    conv = {"kind": "conv", **size, "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1]}
    pool = {"kind": "pool", "spiking": False, "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]}
    half, quarter = [2, 6, 6], [2, 3, 3]
    return network([
        {"name": "conv1", "inputs": ["input"], **conv},
        {"name": "conv2", "inputs": ["conv1"], **conv, "spiking": False},
        {"name": "relu1", "kind": "relu", "inputs": ["conv2"], **size},
        {"name": "max1", "inputs": ["relu1"], **pool, "mode": "max", "in_shape": size["in_shape"], "out_shape": half},
        {"name": "conv3", "inputs": ["max1"], **conv, "in_shape": half, "out_shape": half},
        {"name": "gate1", "kind": "gate", "inputs": ["conv3"], "in_shape": half, "out_shape": half,
         "scale": list(scale)},
        {"name": "pool1", "inputs": ["gate1"], **pool, "in_shape": half, "out_shape": quarter},
        {"name": "fc1", "kind": "fc", "inputs": ["pool1"], "in_features": 18, "out_features": 4, "spiking": False,
         "mean_over_time": True},
    ])  # fmt: skip


def made(folder, described=None, **kwargs):
    meta, members = synthesise(described or maps(), 3, 8, SPARSITY, 1, **kwargs)
    write_trace(folder / "t.npz", meta, members)
    return load_trace(folder / "t.npz")


def zeros(trace, member):
    packed, layer = np.load(trace.path)[member], trace.meta.layer(member.rpartition(".")[0])
    return 1 - np.unpackbits(packed, axis=-1, count=layer.neurons).mean()


def test_every_mask_that_the_format_asks_for_is_drawn_and_nothing_else(tmp_path):
    trace = made(tmp_path)
    assert trace.meta.version == 2
    wanted = {name for name, expected in known_members(trace.meta) if expected.required}
    assert set(np.load(trace.path)) == {"meta", "max1.route", *wanted}
    assert {name.rpartition(".")[2] for name in wanted} == {"spikes", "window", "grad", "kept"}
    for member, share in (
        ("conv1.spikes", 0.8), ("conv3.window", 0.6), ("relu1.window", 0.6), ("conv2.grad", 0.7),
        ("gate1.kept", 0.2), ("fc1.grad", 0.7),
    ):  # fmt: skip
        bits = trace.meta.layer(member.rpartition(".")[0]).neurons * len(np.load(trace.path)[member]) * 8
        assert zeros(trace, member) == pytest.approx(share, abs=4 * (0.25 / bits) ** 0.5), member


def test_what_all_timesteps_share_is_drawn_once(tmp_path):
    held = np.load(made(tmp_path).path)
    assert (held["gate1.kept"].shape, held["fc1.grad"].shape) == ((1, 8, 9), (1, 8, 1))
    assert held["conv2.grad"].shape[0] == 3


@pytest.mark.parametrize(("scale", "share"), [((5, 4), 0.2), ((2, 1), 0.5), ((1, 1), 0.0), ((1, 2), 0.0)])
def test_a_gate_keeps_what_its_scale_makes_up_for(tmp_path, scale, share):
    assert zeros(made(tmp_path, maps(scale)), "gate1.kept") == pytest.approx(share, abs=0.08)


def test_a_gate_may_have_a_share_of_its_own(tmp_path):
    trace = made(tmp_path, layers={"gate1": Sparsity(0.5, 0.5, 0.5, kept=1.0)})
    assert zeros(trace, "gate1.kept") == 1
    assert trace.meta.source["layer_sparsity"]["gate1"]["kept"] == 1
    assert trace.meta.source["sparsity"] == {"spikes": 0.8, "window": 0.6, "grad": 0.7}


def test_a_layer_without_masks_takes_no_sparsity(tmp_path):
    with pytest.raises(TraceError, match=r"sparsity: pool1: expected a layer that has masks; got pool, whose map"):
        made(tmp_path, layers={"pool1": SPARSITY})


def test_routes_lie_inside_the_map_and_go_everywhere(tmp_path):
    entry = {"name": "max1", "kind": "pool", "inputs": ["conv1"], "spiking": False, "mode": "max", "ceil_mode": True,
             "kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "in_shape": [2, 6, 6],
             "out_shape": [2, 4, 4]}  # fmt: skip
    size = {"in_shape": [2, 6, 6], "out_shape": [2, 6, 6]}
    conv = {"name": "conv1", "kind": "conv", "inputs": ["input"], **size, "kernel": [3, 3], "stride": [1, 1],
            "padding": [1, 1], "spiking": False}  # fmt: skip
    fc = {"name": "fc1", "kind": "fc", "inputs": ["max1"], "in_features": 32, "out_features": 2, "spiking": False}
    trace = made(tmp_path, network([conv, entry, fc], (2, 6, 6)))
    trace.check()
    route = np.load(trace.path)["max1.route"]
    for y in range(4):
        for x in range(4):
            inside = {
                3 * dy + dx for dy in range(3) for dx in range(3)
                if 0 <= 2 * y - 1 + dy < 6 and 0 <= 2 * x - 1 + dx < 6
            }  # fmt: skip
            assert set(np.unique(route[..., y, x])) == inside
    assert Derived(trace).needed("max1").all()


def test_inference_has_no_windows_routes_and_gradients(tmp_path):
    held = set(np.load(made(tmp_path, phases=("forward",)).path))
    assert held == {"meta", "input.spikes", "conv1.spikes", "conv3.spikes", "gate1.kept"}


def test_gates_have_no_structure_and_dead_channels_stay_dead_elsewhere(tmp_path):
    structure = Structure(silent_samples=0.25, dead_channels=0.5, cluster_positions=2)
    trace = made(tmp_path, structure=structure)
    assert zeros(trace, "gate1.kept") == pytest.approx(0.2, abs=0.08)
    relu = np.unpackbits(np.load(trace.path)["relu1.window"], axis=-1, count=288).reshape(3, 8, 2, -1)
    assert relu.any(axis=(0, 1, 3)).sum() == 1
    grads = np.load(trace.path)["conv2.grad"]
    assert (~grads.any(axis=(0, 2))).sum() == 2


@pytest.mark.parametrize(("most", "share", "dtype"), [(2, 0.5, "uint8"), (255, 0.9, "uint8"), (256, 0.0, "uint16")])
def test_counts_have_the_asked_share_of_zeros_and_all_others_alike(tmp_path, most, share, dtype):
    trace = made(tmp_path, counts=Counts(most, share))
    trace.check()
    counts = np.load(trace.path)["input.counts"]
    assert (trace.meta.input.kind, trace.meta.input.most, counts.dtype.name) == ("counts", most, dtype)
    assert (counts == 0).mean() == pytest.approx(share, abs=0.02)
    assert counts[counts > 0].mean() == pytest.approx((1 + most) / 2, rel=0.1)
    assert trace.meta.source["counts"] == {"most": most, "zeros": share}


@pytest.mark.parametrize(("most", "share"), [(1, 0.5), (70000, 0.5), (3, 1.5), (3, -0.1), (3, float("nan"))])
def test_counts_that_cannot_be_are_refused(most, share):
    with pytest.raises(TraceError, match=r"^counts: (most|zeros): expected"):
        Counts(most, share)


def test_an_input_that_layers_do_not_say_is_the_networks(tmp_path):
    """An analog input that is averaged first, and counts, were drawn as spikes."""
    pool = {"name": "pool", "kind": "pool", "spiking": False, "inputs": ["input"], "kernel": [2, 2], "stride": [2, 2],
            "padding": [0, 0], "in_shape": [2, 12, 12], "out_shape": [2, 6, 6]}  # fmt: skip
    fc = {"name": "fc", "kind": "fc", "inputs": ["pool"], "in_features": 72, "out_features": 3}
    for kind, most in (("analog", None), ("counts", 7)):
        made = replace(network([pool, fc]), input_kind=kind, input_most=most)
        write_trace(tmp_path / "t.npz", *synthesise(made, 3, 2, SPARSITY, 0))
        trace = load_trace(tmp_path / "t.npz")
        assert trace.meta.input_kind == kind
        assert trace.meta.input.most == most
        if most:
            assert (trace.input_counts() == 0).mean() == pytest.approx(0.8, abs=0.05)
            assert trace.input_counts().max() == 7


def test_more_zeros_only_ever_lower_a_count(tmp_path):
    few, many = (
        dict(synthesise(maps(), 3, 8, SPARSITY, 1, counts=Counts(7, share))[1])["input.counts"] for share in (0.2, 0.6)
    )
    assert (many <= few).all()
    assert (many < few).any()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_trace(tmp_path / name, *synthesise(maps(), 3, 8, SPARSITY, seed, counts=Counts(7, 0.5)))
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1] != found[2]


def test_reported_sparsities_are_those_of_layers_with_masks_alone():
    described = load_network("cifar10")
    before = described.layers[-2]["name"] if described.layers[-2]["kind"] != "fc" else described.layers[-3]["name"]
    shape = check_layers(list(described.layers), "x").layer(before).out_chw
    gate = {"name": "gate1", "kind": "gate", "inputs": [before], "in_shape": list(shape), "out_shape": list(shape)}
    place = [layer["name"] for layer in described.layers].index(before) + 1
    behind = [{**layer, "inputs": ["gate1" if name == before else name for name in layer["inputs"]]}
              for layer in described.layers[place:]]  # fmt: skip
    gated_too = replace(described, layers=(*described.layers[:place], gate, *behind))
    rest, own = reported_sparsity(gated_too)
    assert (rest, own) == reported_sparsity(described)
    meta, _ = synthesise(gated_too, 1, 1, rest, 0, layers=own)
    assert meta["version"] == 2


# --- twins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [None, "measured"])
@pytest.mark.parametrize("seed", range(10))
def test_a_twin_has_the_members_sizes_and_means_of_its_original(tmp_path, seed, structure):
    trace = draw(seed).trace(tmp_path)
    write_trace(tmp_path / "twin.npz", *like(trace, 3, structure))
    twin = load_trace(tmp_path / "twin.npz")
    twin.check()
    before, after = np.load(trace.path), np.load(twin.path)
    assert set(before) == set(after)
    assert Derived(trace).operands == Derived(twin).operands
    for name in set(before) - {"meta"}:
        assert before[name].shape == after[name].shape
        if before[name].size > 200:  # so many bits that chance evens out
            share = [np.unpackbits(held[name]).mean() for held in (before, after)]
            assert share[1] == pytest.approx(share[0], abs=0.1), name


def test_a_twin_counts_as_often_to_each_number(tmp_path):
    path = gated(tmp_path)
    members = dict(np.load(path))
    meta = json.loads(bytes(members.pop("meta")))
    members["input.counts"] = np.where(members["input.counts"] > 150, 9, 0).astype(np.uint16)
    write_trace(path, meta, members)
    _, drawn = like(load_trace(path), 1)
    counts = dict(drawn)["input.counts"]
    assert set(np.unique(counts)) == {0, 9}
    assert (counts == 9).mean() == pytest.approx((members["input.counts"] == 9).mean(), abs=0.2)


def test_a_twin_of_a_trace_without_windows_has_none(tmp_path):
    trace = load_trace(gated(tmp_path, phases=("forward",)))
    assert set(dict(like(trace, 1)[1])) == {"input.counts", "conv1.spikes", "gate1.kept"}


# --- the command -----------------------------------------------------------------------------------------------------


def written(folder):
    described = maps()
    data = {"name": "maps", "input": {"shape": list(described.input_shape), "kind": "spikes"}, "timesteps": 3,
            "layers": list(described.layers)}  # fmt: skip
    (folder / "maps.yaml").write_text(yaml.safe_dump(data))
    return folder / "maps.yaml"


def test_the_command_draws_maps_counts_and_gates(tmp_path):
    call = ("synth", written(tmp_path), "--sparsity", "0.8", "--seed", "4", "--batch", "8")
    good(*call, "--counts", "most=9,zeros=0.5", "--layer", "gate1=0.9", "-o", tmp_path / "a.npz")
    trace = load_trace(tmp_path / "a.npz")
    assert zeros(trace, "gate1.kept") == pytest.approx(0.9, abs=0.08)
    assert (np.load(trace.path)["input.counts"] == 0).mean() == pytest.approx(0.5, abs=0.03)
    good(*call, "--counts", "9", "-o", tmp_path / "b.npz")
    assert (np.load(tmp_path / "b.npz")["input.counts"] == 0).mean() == pytest.approx(0.8, abs=0.03)
    sparse = "spikes=0.9,window=0.8,grad=0.7,kept=0.6"
    good("synth", written(tmp_path), "--sparsity", sparse, "--batch", "8", "-o", tmp_path / "c.npz")
    assert zeros(load_trace(tmp_path / "c.npz"), "gate1.kept") == pytest.approx(0.6, abs=0.08)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--counts", "1"), "counts: most: expected an integer from 2 to 65535; got 1"),
        (("--counts", "most=7,zeros=2"), "counts: zeros: expected a fraction of zeros from 0 to 1; got 2.0"),
        (("--layer", "pool1=0.5"), "sparsity: pool1: expected a layer that has masks; got pool, whose map is derived"),
        (("--layer", "gate9=0.5"), "layer 'gate9': no such layer"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path, options, said):
    line = bad("synth", written(tmp_path), "--sparsity", "0.8", *options, "-o", tmp_path / "x.npz")
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("value", ["x", "most=7", "most=7,zeros=x", "most=7,zeros=0.5,x=1", ""])
def test_counts_that_say_nothing_are_refused(tmp_path, value):
    said = bad("synth", written(tmp_path), "--sparsity", "0.8", "--counts", value, "-o", tmp_path / "x.npz")
    assert "expected the largest count, or most=..,zeros=..; got" in said
