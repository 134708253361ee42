"""Rivals that train beside a result: phases and layers, sizes, one memory, and rows that a machine does not have."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.compare.ratios import compare, measurement_of, only_in
from h2sim.compare.stored import stored
from h2sim.report.compare import sizes, unmatched
from h2sim.rivals.machine import with_bandwidth
from h2sim.rivals.registry import run_baseline


@pytest.fixture(scope="module")
def trace():
    return h2sim.load_trace("mnist-digits")


@pytest.fixture(scope="module")
def ours(trace):
    return h2sim.simulate(h2sim.load_arch("h2learn"), trace).to_dict()


@pytest.fixture(scope="module")
def file(ours, tmp_path_factory):
    path = tmp_path_factory.mktemp("ours") / "ours.json"
    path.write_text(json.dumps(ours))
    return path


def run(*arguments):
    done = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def systems(*arguments):
    document = json.loads(run(*arguments, "--json", "-").stdout)
    return document["systems"], document["ratios"]


def test_training_machines_are_compared_by_the_step_every_phase_and_every_layer(file, trace):
    found, ratios = systems(file, "--machine", "sata", "--machine", "dense-array")
    assert [s["system"] for s in found] == ["h2learn", "SATA", "dense array"]
    for name in ("SATA", "dense array"):
        mine = [(r["scope"], r["layer"], r["phase"]) for r in ratios if r["against"] == name]
        assert ("step", "step", None) in mine
        assert {phase for scope, _, phase in mine if scope == "phase"} == {"forward", "backward", "weight_update"}
        layers = {(layer, phase) for scope, layer, phase in mine if scope == "layer"}
        assert {(layer.name, "weight_update") for layer in trace.meta.layers if layer.has_weights} <= layers


def test_what_to_judge_a_machine_by_stands_beside_it(file, ours):
    found, _ = systems(file, "--machine", "sata", "--machine", "spinalflow")
    mine, sata, spinalflow = found
    assert (mine["clock_hz"], mine["weight_bits"], mine["bandwidth_bytes_per_s"]) == (800_000_000, 16, 128_000_000_000)
    lanes = [e["rows"] * e["columns"] * e["parallelism"] for e in ours["arch"]["parameters"]["engines"].values()]
    assert mine["lanes"] >= sum(lanes)
    assert (sata["clock_hz"], sata["lanes"], sata["weight_bits"]) == (400_000_000, 128, 16)
    assert (spinalflow["lanes"], spinalflow["weight_bits"]) == (128, 8)
    assert spinalflow["published_power_w"] == pytest.approx(0.1622, abs=5e-5)
    assert sata["area_time_mm2_s"] == pytest.approx(sata["area_mm2"] * sata["seconds"] / sata["samples"])
    assert sata["energy_delay_js"] == pytest.approx(sata["energy_j"] * sata["seconds"] / sata["samples"] ** 2)
    assert "counts exact, cycles assumed" in run(file, "--machine", "sata").stdout.split("SATA over h2learn")[1]


def test_the_same_memory_is_the_first_results(file, trace):
    slow = h2sim.load_machine("sata")
    slow = slow.model_copy(update={"memory": slow.memory.model_copy(update={"bandwidth_bytes_per_s": 10**8})})
    assert with_bandwidth(slow, 128 * 10**9).memory == h2sim.load_machine("sata").memory
    path = file.parent / "slow.yaml"
    text = (h2sim.io.library.find("arch", "sata")).read_text()
    path.write_text(text.replace("bandwidth_bytes_per_s: 128000000000", "bandwidth_bytes_per_s: 100000000"))
    (_, own), _ = systems(file, "--machine", path)
    (_, same), _ = systems(file, "--machine", path, "--same-memory")
    assert (own["bandwidth_bytes_per_s"], same["bandwidth_bytes_per_s"]) == (10**8, 128 * 10**9)
    assert same["seconds"] < own["seconds"]
    assert same["system"] == "SATA at 128 GB/s"


def test_a_result_without_external_memory_gives_no_same_memory(trace, tmp_path):
    (tmp_path / "l.json").write_text(
        json.dumps(run_baseline("loihi", trace, h2sim.load_energy_table("28nm")).to_dict())
    )
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "l.json"), "--machine", "sata", "--same-memory"])
    assert done.exit_code == 2
    assert "--same-memory: expected a result of a machine with external memory; got loihi" in done.stderr


def test_rows_that_a_machine_does_not_have_are_named(file, trace, ours):
    table = h2sim.load_energy_table("28nm")
    mine = measurement_of(ours, "ours")
    spinalflow = run_baseline("spinalflow", trace, table).measurement()
    told = unmatched(compare(mine, spinalflow))
    assert told == (
        "SpinalFlow (first_spike) has no row of any layer (backward); any layer (weight update), which h2learn has.",
    )
    assert set(only_in(mine, spinalflow)) == {"backward", "weight_update"}
    assert told[0] in run(file, "--machine", "spinalflow").stdout.replace("\n", " ")


def test_products_stand_beside_whole_steps_of_the_same_phases_alone(trace, ours):
    table = h2sim.load_energy_table("28nm")
    systems = [measurement_of(ours, "ours")]
    systems += [run_baseline(name, trace, table).measurement() for name in ("sata", "prosperity")]
    (shown,) = sizes(systems)
    at = [column.name for column in shown.columns].index("time x area")
    assert [row[at] == "-" for row in shown.texts()] == [False, False, True]  # the last one does not train


def test_a_stored_rival_has_the_sizes_that_it_had(trace):
    found = run_baseline("sata", trace, h2sim.load_energy_table("28nm"))
    read = measurement_of(stored(found.to_dict(), "here"), "here")
    ours = found.measurement()
    for name in ("clock_hz", "lanes", "weight_bits", "bandwidth_bytes_per_s", "basis", "published_power_w"):
        assert getattr(read, name) == getattr(ours, name)
