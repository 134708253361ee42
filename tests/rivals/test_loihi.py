"""Loihi as a baseline: the machine files, the result's sums, what a user reads."""

from __future__ import annotations

import dataclasses
import math

import pytest

from h2sim.document import amount, to_text
from h2sim.errors import BaselineError
from h2sim.rivals.loihi.run import load_loihi, run_loihi
from h2sim.rivals.loihi.schema import Barrier, parse_loihi
from h2sim.trace import load_trace, write_trace
from tests.helpers.traces import parts, raw_trace, tiny_trace

NAMES = ("loihi", "loihi-sanafe")


def altered(path: str, value: object, name: str = "loihi") -> dict:
    """A machine's fields with the one at a dotted path set to another value."""
    data = load_loihi(name).model_dump()
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place[part]
    place[last] = value
    return data


@pytest.fixture(scope="module")
def digits():
    return load_trace("mnist-digits")


@pytest.fixture(scope="module")
def result(digits):
    return run_loihi(load_loihi(), digits)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_shipped_machine_names_its_method_and_source(name):
    def sourced(value):
        if isinstance(value, dict) and ("value" in value or "energy_pj" in value or "points" in value):
            return bool(value["method"]) and bool(value["source"])
        return all(sourced(inner) for inner in value.values()) if isinstance(value, dict) else True

    assert sourced(load_loihi(name).model_dump())


def test_the_published_machine_holds_table_2_of_davies_2018():
    prices = load_loihi().prices
    assert (prices.synaptic_operation_sparse.energy_pj, prices.synaptic_operation_sparse.time_ns) == (23.6, 3.5)
    assert (prices.neuron_active.energy_pj, prices.neuron_inactive.energy_pj) == (81.0, 52.0)
    assert (prices.neuron_active.time_ns, prices.neuron_inactive.time_ns) == (8.4, 5.3)
    assert (prices.hop_east_west.energy_pj, prices.hop_north_south.energy_pj) == (3.0, 4.0)
    assert (prices.hop_east_west.time_ns, prices.hop_north_south.time_ns) == (4.1, 6.5)
    assert (prices.message_received.energy_pj, prices.message_received.time_ns) == (1.7, 2.1)


def test_the_fitted_set_shares_the_limits_but_not_the_prices():
    ours, fitted = load_loihi(), load_loihi("loihi-sanafe")
    assert {n: v["value"] for n, v in ours.limits.model_dump().items()} == {
        n: v["value"] for n, v in fitted.limits.model_dump().items()
    }
    assert fitted.prices.neuron_active.energy_pj == pytest.approx(51.2 + 21.6)
    assert fitted.prices.neuron_active.time_ns == pytest.approx(6.0 + 3.7)
    assert fitted.prices.synaptic_operation_dense.energy_pj != fitted.prices.synaptic_operation_sparse.energy_pj


def test_the_barrier_is_a_straight_line_between_its_points_and_flat_outside():
    barrier = load_loihi().barrier
    assert [barrier.time_ns(n) for n in (1, 32, 40)] == [113.0, 465.0, 465.0]
    assert barrier.time_ns(17) == pytest.approx(113 + 352 * 16 / 31)
    fitted = load_loihi("loihi-sanafe").barrier
    assert [fitted.time_ns(n) for n in (1, 2, 3, 4, 29, 32)] == pytest.approx([600, 1000, 1200, 1400, 1800, 1800])
    assert Barrier(points=((2, 5.0),), method="m", source="s").time_ns(1) == 5.0


def test_tiles_fill_rows_of_eight_and_chips_lie_side_by_side():
    machine = load_loihi()
    assert [machine.tile_of(core) for core in (0, 3, 4, 31, 32, 127, 128, 160)] == [
        (0, 0), (0, 0), (1, 0), (7, 0), (0, 1), (7, 3), (8, 0), (8, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("limits.mesh_rows.value", 3, r"m: limits: expected mesh_columns \* mesh_rows .* = 128; got 96"),
        ("limits.compartments.value", 0, r"m: limits.compartments.value: expected greater than or equal to 1; got 0"),
        ("limits.compartments.source", "", r"m: limits.compartments.source: expected String should have at least 1"),
        ("prices.neuron_active.energy_pj", -1.0, r"m: prices.neuron_active.energy_pj: expected greater .* got -1.0"),
        ("prices.neuron_active.low_pj", 99.0, r"m: prices.neuron_active: expected low_pj <= .*; got 99.0, 81.0, 81.0"),
        ("prices.neuron_activ", {}, r"m: prices.neuron_activ: unknown field; did you mean 'neuron_active'\?"),
        ("barrier.points", [[2, 1.0], [1, 2.0]], r"m: barrier.points: expected rising numbers .*; got \[2, 1\]"),
        ("mapping.population_axons.value", "yes", r"m: mapping.population_axons.value: expected .* got 'yes'"),
    ],
)
def test_a_wrong_machine_file_is_one_line(path, value, message):
    with pytest.raises(BaselineError, match=message):
        parse_loihi(altered(path, value), "m")


def test_a_missing_field_and_a_missing_file_are_one_line_each(tmp_path):
    data = load_loihi().model_dump()
    del data["barrier"]
    with pytest.raises(BaselineError, match=r"^m: barrier: missing field$"):
        parse_loihi(data, "m")
    with pytest.raises(BaselineError, match=r"^m: expected a mapping of fields; got list$"):
        parse_loihi([], "m")
    with pytest.raises(BaselineError, match=r"nowhere: no such arch file; shipped arch files: .*loihi"):
        load_loihi("nowhere")


def test_energy_is_the_sum_of_counts_times_prices_by_event_and_by_layer(result):
    prices = load_loihi().prices
    for cost in result.events:
        assert cost.energy_pj == cost.count * getattr(prices, cost.event).energy_pj
    assert result.energy_j == pytest.approx(math.fsum(cost.energy_pj for cost in result.events) * 1e-12)
    assert result.energy_j == pytest.approx(math.fsum(row.energy_pj for row in result.layers) * 1e-12)
    counts = {cost.event: cost.count for cost in result.events}
    assert counts["neuron_active"] == sum(row.neurons_active for row in result.layers)
    assert counts["message_sent"] == sum(row.messages_sent for row in result.layers)
    assert counts["message_received"] == sum(row.messages_received for row in result.layers)
    assert counts["hop_east_west"] == sum(row.hops_east_west for row in result.layers)
    assert counts["hop_north_south"] == sum(row.hops_north_south for row in result.layers)
    assert counts["hop_east_west"] != counts["hop_north_south"]
    assert all(count >= 0 for count in counts.values())


def test_every_neuron_updates_in_every_step(result):
    assert result.steps == 10 + 7
    for row in result.layers:
        assert row.neurons_active + row.neurons_inactive == row.neurons * result.steps * result.samples


def test_time_is_that_of_its_three_parts_and_of_its_samples(result):
    parts_s = result.compute_seconds + result.flight_seconds + result.barrier_seconds
    assert result.seconds == pytest.approx(parts_s)
    assert len(result.seconds_of_sample) == result.samples == 4
    assert result.barrier_seconds == pytest.approx(4 * 17 * load_loihi().barrier.time_ns(result.tiles) * 1e-9)
    assert all(row.busy_seconds <= result.compute_seconds for row in result.layers)


def test_the_digits_fit_one_chip_and_take_what_their_spikes_ask(result):
    rows = {row.layer: row for row in result.layers}
    assert (result.cores, result.chips) == (65, 1)
    assert rows["conv1"].cores == 25  # 784 positions x 32 channels, 32 positions a core
    assert rows["fc1"].synaptic_operations == rows["pool3"].spikes * 512
    assert rows["fc2"].synaptic_operations == rows["fc1"].spikes * 10
    assert rows["pool1"].synaptic_operations == rows["conv1"].spikes  # 28 is even: each spike ends in one window
    assert rows["pool3"].synaptic_operations < rows["conv3"].spikes  # 7 is odd: the last row and column end nowhere
    assert (rows["fc2"].spikes, rows["fc2"].messages_sent) == (0, 0)


def test_a_measurement_is_inference_without_static_power(result):
    measured = result.measurement()
    assert (measured.system, measured.kind, measured.phases) == ("loihi", "simulated", ("forward",))
    assert (measured.samples, measured.node_nm, measured.area_mm2) == (4, 14.0, 60.0)
    assert measured.seconds_per_sample == result.seconds_per_sample
    assert measured.energy_j_per_sample == result.energy_j_per_sample
    assert measured.part("conv2", "forward").energy_j == pytest.approx(result.layers[2].energy_pj * 1e-12)
    assert "static power is apart, not in the energy" in measured.assumptions
    assert result.static_energy_j == pytest.approx(0.104375 * result.seconds)


def test_the_same_trace_gives_the_same_result(result, digits):
    assert run_loihi(load_loihi(), digits) == result


def test_the_fitted_set_counts_the_same_events_but_for_its_rule_of_active_updates(result, digits):
    fitted = run_loihi(load_loihi("loihi-sanafe"), digits)
    ours, theirs = ({c.event: c.count for c in found.events} for found in (result, fitted))
    updates = ("neuron_active", "neuron_inactive")
    assert theirs["neuron_active"] > ours["neuron_active"]
    assert sum(theirs[name] for name in updates) == sum(ours[name] for name in updates)
    assert {n: c for n, c in theirs.items() if n not in updates} == {n: c for n, c in ours.items() if n not in updates}
    assert fitted.static_energy_j is None
    assert fitted.energy_j != result.energy_j


def test_a_machine_says_its_rule_of_active_updates(result, digits, tmp_path):
    rule = "a neuron's update is active where a spike came in, "
    assert f"{rule}else inactive; all neurons update in every step" in result.assumptions
    machine = load_loihi("loihi-sanafe")
    fitted = run_loihi(machine, digits)
    assert any(line.startswith(f"{rule}or the potential or the bias is not 0, else") for line in fitted.assumptions)
    masks_only = run_loihi(machine, load_trace(tiny_trace(tmp_path)))
    assert any("(the trace holds no biases: taken as 0)" in line for line in masks_only.assumptions)


def test_fewer_compartments_a_core_take_more_cores_and_less_time(result, digits):
    half = altered("mapping.compartments_per_core.value", 512)
    spread = run_loihi(parse_loihi(half, "m"), digits)
    assert spread.cores > result.cores
    assert spread.seconds < 0.7 * result.seconds
    assert all(use.neurons <= 512 * use.cores for use in spread.layers)
    # more than a core holds is as many as it holds; none given is the limit
    most = parse_loihi(altered("mapping.compartments_per_core.value", 4096), "m")
    assert (most.compartments, run_loihi(most, digits).cores) == (1024, result.cores)
    assert parse_loihi(altered("mapping.compartments_per_core", None), "m").compartments == 1024


def test_more_spikes_cost_more_time_and_energy(tmp_path):
    from h2sim.trace import Sparsity, load_network, synthesise

    network = load_network("6C3-AP2-8C3-10FC", (2, 12, 12))
    found = []
    for rate in (0.02, 0.1, 0.4):
        made = synthesise(network, 4, 2, Sparsity(1 - rate, 0.5, 0.5), 3, phases=("forward",))
        write_trace(tmp_path / f"{rate}.npz", made[0], dict(made[1]))
        found.append(run_loihi(load_loihi(), load_trace(tmp_path / f"{rate}.npz")))
    assert found[0].energy_j < found[1].energy_j < found[2].energy_j
    assert found[0].seconds < found[1].seconds < found[2].seconds


def test_more_than_one_chip_is_said_in_the_assumptions(tmp_path):
    data = altered("limits.compartments.value", 2)
    trace = load_trace(tiny_trace(tmp_path))
    result = run_loihi(parse_loihi(data, "m"), trace)
    assert result.chips == math.ceil(result.cores / 128) > 1
    assert result.measurement().area_mm2 == 60.0 * result.chips
    assert result.static_energy_j == pytest.approx(data["static"]["power_w"] * result.chips * result.seconds)
    assert any(line.startswith(f"{result.chips} chips side by side") for line in result.assumptions)
    assert "synthetic masks, not from training" in result.assumptions


@pytest.mark.parametrize("name", NAMES)
def test_the_report_names_totals_layers_events_and_assumptions(name, digits):
    shown = run_loihi(load_loihi(name), digits)
    said = to_text(shown.document())
    assert said.startswith(f"mnist-small on {name}: inference takes {amount(shown.seconds_per_sample, 's')} and ")
    assert f"{amount(shown.energy_j_per_sample, 'J')} a sample, on 65 cores of one chip." in said
    assert "4 samples, training masks; 17 steps a sample for 10 timesteps; 17 tiles of a chip in use." in said
    assert ("leakage would add" in said) == (name == "loihi")
    assert "conv3" in said
    assert "synaptic operation sparse" in said
    assert "note: events of a core one after the other" in said


def test_a_report_says_that_masks_are_synthetic(tmp_path):
    assert "SYNTHETIC masks" in to_text(run_loihi(load_loihi(), load_trace(tiny_trace(tmp_path))).document())


def test_a_current_that_feeds_a_pool_is_refused_in_one_line(tmp_path):
    meta, members = parts("4C3-AP2-10FC")
    meta["layers"][0]["spiking"] = False
    kept = {name: bits for name, bits in members.items() if name not in ("conv1.spikes", "conv1.window")}
    trace = load_trace(raw_trace(tmp_path / "t.npz", meta, kept))
    message = r"t.npz: layer pool1: expected an input that spikes, for cores pass no currents; got 'conv1'$"
    with pytest.raises(BaselineError, match=message):
        run_loihi(load_loihi(), trace)


def test_result_rows_are_frozen(result):
    with pytest.raises(dataclasses.FrozenInstanceError, match="energy_j"):
        result.energy_j = 0.0
