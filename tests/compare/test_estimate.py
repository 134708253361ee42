"""The back-of-envelope estimate: hand-counted on a tiny trace, equal to plain loops, beside the simulation's sums."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.cli.estimate import estimate as command
from h2sim.cli.support import Commands
from h2sim.compare.estimate import SHIPPED, estimate, load_estimate_data
from h2sim.compare.operations import accumulates, ann_flops, fan_out, set_at
from h2sim.compare.simulated import simulated
from h2sim.errors import BaselineError, EnergyTableError
from h2sim.trace.bits import pack
from h2sim.trace.model import Layer
from tests.helpers.look import RESIDUAL, bits_of, inference_trace
from tests.helpers.traces import parts, raw_trace, tiny_trace

MAIN = Commands("h2sim", commands={"estimate": command})
DATA = load_estimate_data()
T28, T45 = h2sim.load_energy_table("28nm"), h2sim.load_energy_table("45nm")


def run(*args: str | Path):
    return CliRunner().invoke(MAIN, ["estimate", *map(str, args)])


def good(*args: str | Path) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def bad(*args: str | Path) -> str:
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


def masked(shape: tuple[int, ...], *places: tuple[int, ...]) -> np.ndarray:
    """A packed mask (T, N, bytes) of (T, N, neurons) with these bits set."""
    bits = np.zeros(shape, np.uint8)
    for place in places:
        bits[place] = 1
    return pack(bits)


@pytest.fixture
def by_hand(tmp_path):
    """1x4x4 input, 2C3 padded by 1, AP2, 3 outputs; T = 2, one sample.

    Input: a corner once, a middle place twice: 3 spikes. conv1: 4 spikes, pool1: 6, fc1: 3.
    """
    meta, members = parts("2C3-AP2-3FC", (1, 4, 4), 2, 1)
    members["input.spikes"] = masked((2, 1, 16), (0, 0, 0), (0, 0, 5), (1, 0, 5))
    members["conv1.spikes"] = masked((2, 1, 32), (0, 0, 0), (0, 0, 9), (1, 0, 20), (1, 0, 31))
    members["pool1.spikes"] = masked((2, 1, 8), (0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 0, 0), (1, 0, 3), (1, 0, 7))
    members["fc1.spikes"] = masked((2, 1, 3), (0, 0, 0), (1, 0, 0), (1, 0, 2))
    return h2sim.load_trace(raw_trace(tmp_path / "hand.npz", meta, members))


def with_analog_frames(folder: Path, frames: int) -> h2sim.Trace:
    """The encode trace with an input that has `frames` timesteps of its own."""
    members = dict(np.load(RESIDUAL))
    meta = json.loads(bytes(members.pop("meta")))
    members["input.analog"] = np.repeat(members["input.analog"], frames, axis=0)
    return h2sim.load_trace(raw_trace(folder / "frames.npz", meta, members))


def choose(**changes):
    return DATA.assumptions.model_copy(update=changes)


# --- counted by hand -------------------------------------------------------------------------------------------------


def test_every_figure_of_a_tiny_trace_is_the_hand_counted_one(by_hand):
    conv, pool, fc = estimate(by_hand, T45).layers
    assert (conv.operation, conv.ann_flops, conv.input_neurons, conv.input_spikes) == ("AC", 9 * 16 * 2, 16, 3)
    assert (conv.zeta, conv.tasa, conv.spikes, conv.spike_rate) == (3 / 16, 3 / 32, 4, 4 / 32)
    assert conv.snn_flops == 288 * 3 / 16 == 54
    assert conv.diet_operations == 288 * 4 / 32 == 36
    assert conv.accumulates == 2 * (4 + 9 + 9)  # channels x taps that a corner and the middle twice feed
    assert conv.energy.fp32_pj == pytest.approx(54 * 0.9)
    assert conv.energy.int32_pj == pytest.approx(54 * 0.1)
    assert conv.ann_energy.fp32_pj == pytest.approx(288 * 4.6)
    assert (fc.ann_flops, fc.zeta, fc.spike_rate, fc.snn_flops, fc.diet_operations) == (24, 6 / 8, 1, 18, 24)
    assert fc.accumulates == 18
    assert (fc.energy.fp32_pj, fc.energy.int32_pj) == pytest.approx((18 * 0.9, 18 * 0.1))  # additions, no MACs
    assert (pool.operation, pool.ann_flops, pool.snn_flops, pool.zeta, pool.accumulates) == ("none", 0, 0, None, 0)
    assert (pool.energy.fp32_pj, pool.spike_rate) == (0, 6 / 8)


def test_padding_skipped_counts_taps_inside_the_input_alone(by_hand):
    conv = estimate(by_hand, T45, assumptions=choose(padding="skipped")).layers[0]
    assert conv.ann_flops == 2 * 10 * 10
    assert conv.snn_flops == 200 * 3 / 16
    assert conv.accumulates == 44


def test_the_rate_of_eq_18_may_be_the_inputs(by_hand):
    rows = estimate(by_hand, T45, assumptions=choose(spike_rate="input")).layers
    assert [row.diet_operations for row in rows] == [row.snn_flops for row in rows] == [54, 0, 18]


def test_activity_above_one_is_kept(tmp_path):
    meta, members = parts("2C3-AP2-3FC", (1, 4, 4), 5, 1)
    members["pool1.spikes"] = pack(np.ones((5, 1, 8), np.uint8))
    found = estimate(h2sim.load_trace(raw_trace(tmp_path / "busy.npz", meta, members)), T45)
    assert (found.layers[-1].zeta, found.layers[-1].tasa, found.layers[-1].snn_flops) == (5, 1, 120)


def test_more_samples_change_counts_but_not_the_energy_of_one(by_hand, tmp_path):
    members = {k: np.repeat(v, 3, axis=1) for k, v in np.load(by_hand.path).items() if k != "meta"}
    meta = json.loads(bytes(np.load(by_hand.path)["meta"])) | {"batch": 3}
    three, one = (
        estimate(h2sim.load_trace(raw_trace(tmp_path / "three.npz", meta, members)), T45),
        estimate(by_hand, T45),
    )
    assert [row.accumulates for row in three.layers] == [3 * row.accumulates for row in one.layers]
    assert [row.zeta for row in three.layers] == [row.zeta for row in one.layers]
    assert three.energy == one.energy


# --- the analog input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encode", "times"), [("once", 1), ("every-step", 8)])
def test_an_analog_input_takes_macs_once_or_at_every_step(encode, times):
    found = estimate(h2sim.load_trace(RESIDUAL), T45, assumptions=choose(encode=encode))
    first, *rest = found.layers
    assert (first.operation, first.zeta, first.tasa, first.accumulates) == ("MAC", times, None, None)
    assert first.snn_flops == first.diet_operations == times * first.ann_flops
    assert first.energy.fp32_pj == pytest.approx(times * first.ann_flops * 4.6)
    assert first.energy.int32_pj == pytest.approx(times * first.ann_flops * 3.2)
    assert {row.operation for row in rest} == {"AC", "none"}
    assert next(row for row in rest if row.kind == "add").energy.fp32_pj == 0


def test_an_input_that_changes_is_worked_through_at_each_of_its_steps(tmp_path):
    found = estimate(with_analog_frames(tmp_path, 8), T45, assumptions=choose(encode="once"))
    assert found.layers[0].zeta == 8
    assert any("the analog input has 8 timesteps of its own" in note for note in found.notes)
    assert not any("timesteps of its own" in n for n in estimate(h2sim.load_trace(RESIDUAL), T45).notes)


def test_a_read_out_that_never_spikes_takes_its_inputs_rate():
    found = estimate(h2sim.load_trace("mnist-digits"), T45)
    last = found.layers[-1]
    assert (last.spikes, last.spike_rate) == (None, None)
    assert last.diet_operations == last.snn_flops
    assert any("a layer that never spikes takes its input's" in note for note in found.notes)


# --- against plain loops ---------------------------------------------------------------------------------------------


@given(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 1)
)  # fmt: skip
def test_fan_out_is_what_loops_over_outputs_and_taps_count(size, kernel, stride, padding, cut):
    out_size = (size + 2 * padding - kernel) // stride + 1 - cut
    if out_size < 1:
        return
    counted = [0] * size
    for out in range(out_size):
        for tap in range(kernel):
            place = out * stride - padding + tap
            if 0 <= place < size:
                counted[place] += 1
    assert fan_out(size, out_size, kernel, stride, padding).tolist() == counted


@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2),
    st.integers(0, 1),
)  # fmt: skip
def test_accumulates_are_what_loops_over_spikes_outputs_and_taps_count(seed, c_in, c_out, kernel, stride, padding):
    rng, timesteps, batch, size = np.random.default_rng(seed), 2, 2, 5
    out = (size + 2 * padding - kernel) // stride + 1
    bits = (rng.random((timesteps, batch, c_in, size, size)) < 0.3).astype(np.uint8)
    layer = Layer.model_validate(
        {
            "name": "conv1", "kind": "conv", "inputs": ("input",), "in_shape": (c_in, size, size),
            "out_shape": (c_out, out, out), "kernel": (kernel, kernel), "stride": (stride, stride),
            "padding": (padding, padding), "neuron": {"threshold": 0.3, "decay": 0.25, "window": (0.05, 0.55)},
        }
    )  # fmt: skip
    padded = np.pad(bits, ((0, 0), (0, 0), (0, 0), (padding, padding), (padding, padding)))
    expected = 0
    for y in range(out):
        for x in range(out):
            window = padded[..., y * stride : y * stride + kernel, x * stride : x * stride + kernel]
            expected += c_out * int(window.sum())
    packed = pack(bits.reshape(timesteps, batch, -1))
    assert accumulates(layer, set_at(packed, layer.in_chw)) == expected
    inside = np.pad(np.ones((size, size), int), padding)
    taps = sum(
        int(inside[y * stride : y * stride + kernel, x * stride : x * stride + kernel].sum())
        for y in range(out)
        for x in range(out)
    )
    assert ann_flops(layer, "skipped") == c_in * c_out * taps
    assert ann_flops(layer, "counted") == c_in * c_out * kernel**2 * out**2


def test_where_every_neuron_always_spikes_the_estimate_is_the_exact_count(tmp_path):
    meta, members = parts("4C3-AP2-3FC", (2, 6, 6), 3, 2)
    for name in ("input", "conv1", "pool1"):
        neurons = {"input": 72, "conv1": 144, "pool1": 36}[name]
        members[f"{name}.spikes"] = pack(np.ones((3, 2, neurons), np.uint8))
    trace = h2sim.load_trace(raw_trace(tmp_path / "full.npz", meta, members))
    for row in estimate(trace, T45, assumptions=choose(padding="skipped")).layers:
        assert row.snn_flops * 2 == row.accumulates


def test_spikes_are_numpys_count_on_a_real_trace():
    trace = h2sim.load_trace("mnist-digits")
    for row in estimate(trace, T45).layers[:-1]:
        assert row.spikes == bits_of(trace, row.layer, "spikes").sum()


# --- totals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist-digits", str(RESIDUAL)])
def test_totals_are_the_sums_of_the_rows(name):
    found = estimate(h2sim.load_trace(name), T28)
    assert found.ann_flops == sum(row.ann_flops for row in found.layers)
    assert found.snn_flops == pytest.approx(sum(row.snn_flops for row in found.layers), rel=1e-14)
    assert found.diet_operations == pytest.approx(sum(row.diet_operations for row in found.layers), rel=1e-14)
    assert found.energy.fp32_pj == pytest.approx(sum(row.energy.fp32_pj for row in found.layers), rel=1e-14)
    assert found.energy.int32_pj == pytest.approx(sum(row.energy.int32_pj for row in found.layers), rel=1e-14)


def test_a_layer_more_never_lowers_the_energy(tmp_path):
    """A neighbour's linear layers overwrite the sum, so that its energy falls 48-fold as layers are added."""
    meta, members = parts("4C3-AP2-6C3-20FC-15FC-10FC")
    energies = []
    for count in range(1, len(meta["layers"]) + 1):
        shorter = meta | {"layers": meta["layers"][:count]}
        kept = {layer["name"] for layer in shorter["layers"]} | {"input"}
        mine = {name: array for name, array in members.items() if name.rpartition(".")[0] in kept}
        found = estimate(h2sim.load_trace(raw_trace(tmp_path / f"{count}.npz", shorter, mine)), T28)
        energies.append(found.energy.fp32_pj)
        assert found.energy.fp32_pj == pytest.approx(math.fsum(row.energy.fp32_pj for row in found.layers))
        before = energies[-2] if count > 1 else 0
        assert found.energy.fp32_pj - before == pytest.approx(found.layers[-1].energy.fp32_pj)
    assert energies == sorted(energies)
    assert energies[-1] > energies[-2] > energies[-3] > energies[-4]


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_energies_are_scaled_to_the_tables_node_and_say_by_what():
    trace = h2sim.load_trace("mnist-digits")
    at45, at28 = estimate(trace, T45), estimate(trace, T28)
    assert (at45.factor, at45.factor_says) == (1, "same node")
    assert at28.factor == 0.52
    assert at28.factor_says.startswith("energy 45 to 28 nm x 0.52 (range 0.45 to 0.62); Stillmaker")
    assert at28.energy == at45.energy
    low = estimate(trace, T28.model_copy(update={"voltage_v": 0.8}))
    assert low.factor == pytest.approx(0.52 * (0.8 / 0.9) ** 2)
    assert "(0.8 V / 0.9 V)^2" in low.factor_says
    with pytest.raises(EnergyTableError, match=r"^scaling: energy between nodes: .*; got 45 to 7$"):
        estimate(trace, T28.model_copy(update={"node_nm": 7.0}))


# --- the simulation beside it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist-digits", str(RESIDUAL)])
def test_the_simulated_parts_sum_to_the_simulated_step(name):
    result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(name))
    found, samples = simulated(result), result.activity.samples
    assert found.phases == ("forward", "backward", "weight_update")
    assert found.total_pj * samples * 1e-12 == pytest.approx(result.cost.energy_j, rel=1e-12)
    assert found.offchip_pj * samples * 1e-12 == pytest.approx(result.cost.offchip_energy_j, rel=1e-12)
    by_phase = [found.phase(phase).components.total_pj for phase in found.phases]
    assert math.fsum([*by_phase, found.idle_leakage_pj]) == pytest.approx(found.total_pj, rel=1e-12)
    assert found.forward("nothing") is None
    index, row = next((i, r) for i, r in enumerate(result.activity.layers) if r.phase == "forward")
    e, mine = result.cost.layer_energy_pj(index), found.forward(row.layer).components
    compute = e["lut"] + e["fp16_add"] + e["fp16_multiply"] + e["priority_encode"]
    assert mine.compute_pj * samples == pytest.approx(compute)
    assert mine.neuron_pj * samples == pytest.approx(e["soma"] + e["grad"])
    assert (mine.buffer_pj * samples, mine.leakage_pj * samples) == pytest.approx((e["glb"], e["leakage"]))


def test_an_inference_trace_has_a_forward_phase_alone(tmp_path):
    path = inference_trace(tmp_path)
    result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(path))
    assert simulated(result).phases == ("forward",)
    assert "Backward" not in good(path)


# --- the data file ---------------------------------------------------------------------------------------------------


def test_the_shipped_energies_are_those_of_table_7():
    fp32, int32 = DATA.formats.fp32, DATA.formats.int32
    assert (fp32.multiply_pj, fp32.add_pj, fp32.mac_pj, fp32.ac_pj) == (3.7, 0.9, 4.6, 0.9)
    assert (int32.multiply_pj, int32.add_pj, int32.mac_pj, int32.ac_pj) == (3.1, 0.1, 3.2, 0.1)
    assert (DATA.node_nm, DATA.voltage_v) == (45, 0.9)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("node_nm", -1.0, r"node_nm: expected greater than 0; got -1\.0"),
        ("nodes", 1.0, r"nodes: unknown field; did you mean 'node_nm'\?"),
        ("assumptions", {"encode": "twice", "padding": "counted", "spike_rate": "own"},
         r"assumptions\.encode: expected 'once' or 'every-step'; got 'twice'"),
        ("formats", {"fp32": {"multiply_pj": 3.7, "add_pj": 0.9, "mac_pj": 5.0, "ac_pj": 0.9},
                     "int32": {"multiply_pj": 3.1, "add_pj": 0.1, "mac_pj": 3.2, "ac_pj": 0.1}},
         r"formats\.fp32: expected mac_pj = multiply_pj \+ add_pj and ac_pj = add_pj; got 5\.0, 0\.9"),
    ],
)  # fmt: skip
def test_a_wrong_data_file_is_refused_in_one_line(tmp_path, field, value, message):
    data = yaml.safe_load(SHIPPED.read_text()) | {field: value}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(BaselineError, match=rf"^{tmp_path}/mine\.yaml: {message}$"):
        load_estimate_data(str(tmp_path / "mine.yaml"))


def test_an_ac_that_is_no_addition_is_refused(tmp_path):
    data = yaml.safe_load(SHIPPED.read_text())
    data["formats"]["int32"]["ac_pj"] = 0.2
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(
        BaselineError, match=r"formats\.int32: expected mac_pj = .* and ac_pj = add_pj; got 3\.2, 0\.2$"
    ):
        load_estimate_data(str(tmp_path / "mine.yaml"))


def test_a_missing_data_file_is_named():
    with pytest.raises(BaselineError, match=r"^none: no such file"):
        load_estimate_data("none")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_the_estimate_beside_the_simulation():
    text = good("mnist-digits")
    for word in ("zeta in", "TASA", "eq. 18", "ANN FP32", "FP32 28 nm", "leakage", "Weight update", "Idle", "off chip"):
        assert word in text
    assert "45 to 28 nm x 0.52" in text
    assert "encode once, padding counted" in text
    assert "same node" in good("mnist-digits", "--energy-table", "45nm")


def test_csv_and_json_agree_with_each_other_and_with_themselves(tmp_path):
    trace = tiny_trace(tmp_path)
    good(trace, "--json", tmp_path / "e.json", "--csv", tmp_path / "e.csv")
    document = json.loads((tmp_path / "e.json").read_text())
    rows = pd.read_csv(tmp_path / "e.csv")
    assert (document["schema"], document["version"]) == ("h2sim-estimate", 1)
    assert rows["snn_flops"].tolist() == [row["snn_flops"] for row in document["layers"]]
    totals = document["totals"]
    assert rows["ann_flops"].sum() == totals["ann_flops"]
    assert rows["energy_fp32_pj"].sum() == pytest.approx(totals["energy"]["fp32_pj"])
    assert rows["scaled_energy_fp32_pj"].sum() == pytest.approx(0.52 * totals["energy"]["fp32_pj"])
    forward = document["simulated"]["phases"]["forward"]
    assert rows["simulated_forward_pj"].sum() == pytest.approx(math.fsum(forward.values()))
    assert document["simulated"]["total_pj"] > math.fsum(forward.values())
    again = good(trace, "--json", "-")
    assert again == (tmp_path / "e.json").read_text()
    assert pd.read_csv(StringIO(good(trace, "--csv", "-"))).equals(rows)


def test_options_replace_the_default_assumptions():
    text = run(
        RESIDUAL, "--encode", "every-step", "--padding", "skipped", "--spike-rate", "input", "--json", "-"
    ).stdout
    chosen = {"encode": "every-step", "padding": "skipped", "spike_rate": "input"}
    assert json.loads(text)["assumptions"] == chosen


def test_wrong_use_is_one_line(tmp_path):
    assert "no such trace file" in bad("nothing.npz")
    assert "no such energy table file" in bad("mnist-digits", "--energy-table", "7nm")
    assert "cannot be written: no folder" in bad("mnist-digits", "--csv", tmp_path / "no" / "x")


def test_rates_are_of_all_samples(tmp_path):
    # two samples of 9 input neurons and 3 outputs, T = 2: 9 spikes come in, 4 go out
    meta, members = parts("3FC", (1, 3, 3), 2, 2)
    members["input.spikes"] = masked((2, 2, 9), *[(0, 0, i) for i in range(8)], (1, 1, 0))
    members["fc1.spikes"] = masked((2, 2, 3), (0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 1, 2))
    (fc,) = estimate(h2sim.load_trace(raw_trace(tmp_path / "two.npz", meta, members)), T45).layers
    assert (fc.zeta, fc.spike_rate) == (9 / 18, 4 / 6)


def test_accumulates_of_a_map_that_is_no_square_are_counted_by_row_and_column(tmp_path):
    # 1x3x5, 3x3 taps, padding 1: a spike at (0, 0) reaches 2 x 2 outputs, at (1, 2) all 3 x 3, at (1, 4) 3 x 2
    meta, members = parts("2C3-3FC", (1, 3, 5), 1, 1)
    members["input.spikes"] = masked((1, 1, 15), (0, 0, 0), (0, 0, 7), (0, 0, 9))
    conv = estimate(h2sim.load_trace(raw_trace(tmp_path / "wide.npz", meta, members)), T45).layers[0]
    assert conv.accumulates == 2 * (4 + 9 + 6)
