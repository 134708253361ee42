"""What every baseline machine must satisfy, whatever it is: one entry in the registry brings it under these tests."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner

from h2sim.activity import PHASES
from h2sim.cli import main
from h2sim.compare.ratios import measurement_of
from h2sim.compare.stored import stored
from h2sim.energy import load_energy_table, parse_energy_table
from h2sim.errors import BaselineError
from h2sim.rivals.registry import BASELINES, load_baseline, run_baseline, run_rival
from h2sim.trace import load_trace, write_trace
from tests.helpers.look import RESIDUAL
from tests.helpers.traces import parts, tiny_trace

TRAINING = ("sata", "dense-array", "dense-array-37mm2")
DENSE = ("dense-array", "dense-array-37mm2")  # whatever the bits are
CLOCKED = [name for name in BASELINES if not name.startswith("loihi")]


@pytest.fixture(scope="module")
def table():
    return load_energy_table("28nm")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return load_trace(tiny_trace(tmp_path_factory.mktemp("trace")))


def with_density(folder, density: float):
    """The small trace with every spike mask, input included, at a density of independent bits."""
    meta, members = parts()
    rng = np.random.default_rng(0)
    for name, value in members.items():
        if name.endswith(".spikes"):
            bits = np.unpackbits(np.full_like(value, 255), axis=-1)
            keep = rng.random(bits.shape) < density
            full = np.unpackbits(value, axis=-1).shape[-1]
            kept = np.packbits(bits[..., :full] & keep, axis=-1)
            members[name] = _without_padding(kept, meta, name)
    write_trace(folder / f"d{density}.npz", meta, members)
    return load_trace(folder / f"d{density}.npz")


def _without_padding(packed, meta, member):
    layer = member.rpartition(".")[0]
    shapes = {entry["name"]: entry.get("out_shape") or [entry["out_features"]] for entry in meta["layers"]}
    neurons = int(np.prod(shapes.get(layer, meta["layers"][0].get("in_shape"))))
    bits = np.unpackbits(packed, axis=-1)
    bits[..., neurons:] = 0
    return np.packbits(bits, axis=-1)


@pytest.mark.parametrize("name", BASELINES)
def test_a_measurement_is_of_the_trace_and_says_what_it_assumes(name, trace, table):
    found = run_baseline(name, trace, table).measurement()
    assert found.kind == "simulated"
    assert found.network == trace.meta.network
    assert found.samples == trace.meta.batch
    assert found.phases == (PHASES if name in TRAINING else ("forward",))
    assert {p.layer for p in found.parts} <= {layer.name for layer in trace.meta.layers}
    assert found.assumptions
    assert found.area_mm2 > 0
    assert found.node_nm > 0


@pytest.mark.parametrize("name", BASELINES)
def test_the_step_is_at_least_its_longest_layer_and_its_energy_at_least_its_layers(name, trace, table):
    found = run_baseline(name, trace, table).measurement()
    assert found.seconds >= max(p.seconds for p in found.parts) > 0
    assert found.energy_j >= sum(p.energy_j for p in found.parts) * (1 - 1e-12) > 0


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_trace_gives_the_same_measurement(name, trace, table):
    assert run_baseline(name, trace, table).measurement() == run_baseline(name, trace, table).measurement()


@pytest.mark.parametrize("name", BASELINES)
def test_more_spikes_are_never_cheaper_or_faster(name, tmp_path, table):
    runs = [run_baseline(name, with_density(tmp_path, d), table).measurement() for d in (0.0, 0.2, 1.0)]
    assert runs[0].seconds <= runs[1].seconds <= runs[2].seconds
    if name == "prosperity":  # rows that are all alike cost next to nothing: tests/rivals/test_prosperity.py
        return
    if name in DENSE:
        assert runs[0].energy_j == runs[2].energy_j
        return
    assert runs[0].energy_j < runs[1].energy_j < runs[2].energy_j or name == "spinalflow"
    assert runs[0].energy_j < runs[2].energy_j


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_is_printed_with_its_assumptions(name, trace):
    found = CliRunner().invoke(main, ["baseline", "run", name, str(trace.path)])
    assert found.exit_code == 0, found.output
    assert "note: " in found.stdout


def test_the_list_has_every_machine_and_the_published_rows():
    found = CliRunner().invoke(main, ["baseline", "list"])
    assert found.exit_code == 0, found.output
    for name in (*BASELINES, "fpga-ju-2020", "v100"):
        assert name in found.stdout


def test_an_unknown_machine_is_refused_in_one_line(trace, table):
    with pytest.raises(BaselineError, match=r"^baseline: name: expected one of spinalflow, .*; got 'eyeriss'$"):
        run_baseline("eyeriss", trace, table)


@pytest.mark.parametrize("name", BASELINES)
def test_a_layer_more_never_lowers_time_or_energy(name, tmp_path, table):
    found = []
    for notation in ("4C3-AP2", "4C3-AP2-6C3", "4C3-AP2-6C3-10FC", "4C3-AP2-6C3-10FC-10FC"):
        found.append(run_baseline(name, load_trace(tiny_trace(tmp_path, notation=notation)), table).measurement())
    assert all(part.seconds >= 0 and part.energy_j >= 0 for run in found for part in run.parts)
    for fewer, more in pairwise(found):
        assert more.seconds > fewer.seconds
        assert more.energy_j > fewer.energy_j
        layers = [{part.layer for part in run.parts} for run in (fewer, more)]
        assert len(layers[1]) == len(layers[0]) + 1


@pytest.mark.parametrize("name", BASELINES)
def test_the_bill_reconciles_and_names_the_source_of_every_price(name, trace, table):
    found = run_baseline(name, trace, table)
    lines, energy_j = found.bill(), found.totals().energy_j
    assert all(line.energy_pj == line.count * line.unit_pj for line in lines)
    assert 1e-12 * math.fsum(line.energy_pj for line in lines) == pytest.approx(energy_j, rel=1e-12)
    assert all(len(line.source) > 10 for line in lines)
    document = found.to_dict()
    assert [line["source"] for line in document["bill"]] == [line.source for line in lines]
    assert stored(document, name).bill_energy_j == pytest.approx(document["step"]["energy_j"], rel=1e-12)


@pytest.mark.parametrize("name", BASELINES)
def test_a_result_survives_its_file(name, trace, table):
    found = run_baseline(name, trace, table)
    read = measurement_of(json.loads(json.dumps(found.to_dict())), name)
    ours = found.measurement()
    assert (read.phases, read.left_out, read.samples, read.parts) == (
        ours.phases, ours.left_out, ours.samples, ours.parts
    )  # fmt: skip


@pytest.mark.parametrize("name", CLOCKED)
def test_with_memory_that_takes_no_time_nothing_stalls_on_it(name, trace, table):
    rows = run_rival(load_baseline(name), trace, table, ideal_memory=True).to_rows()
    assert all(r.cycles.stalls.memory_read == r.cycles.stalls.memory_write == 0 for r in rows)
    assert all(r.cycles.total == r.cycles.compute + r.cycles.fill + r.cycles.stalls.total for r in rows)


@pytest.mark.parametrize("name", CLOCKED)
def test_more_bandwidth_is_never_slower(name, trace, table):
    found = []
    for bandwidth in (10**8, 10**9, 10**10, 10**12):
        machine = load_baseline(name)
        memory = machine.memory.model_copy(update={"bandwidth_bytes_per_s": bandwidth})
        found.append(run_rival(machine.model_copy(update={"memory": memory}), trace, table).totals().cycles)
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", TRAINING)
def test_a_machine_that_trains_runs_an_inference_trace_forward_alone(name, tmp_path, table):
    meta, members = parts()
    meta["phases"] = ["forward"]
    kept = {key: value for key, value in members.items() if not key.endswith(".grad")}
    write_trace(tmp_path / "t.npz", meta, kept)
    found = run_baseline(name, load_trace(tmp_path / "t.npz"), table)
    assert found.phases == ("forward",)
    assert {row.phase for row in found.to_rows()} == {"forward"}


@pytest.mark.parametrize("name", TRAINING)
def test_every_layer_of_a_residual_network_has_a_row_in_every_phase_that_it_can(name, table):
    trace = load_trace(RESIDUAL)
    found = run_baseline(name, trace, table)
    rows = {(row.layer, row.phase) for row in found.to_rows()}
    assert found.left_out == ()
    for layer in trace.meta.layers:
        assert (layer.name, "forward") in rows
        assert ((layer.name, "backward") in rows) == ("input" not in layer.inputs)
        assert ((layer.name, "weight_update") in rows) == layer.has_weights


@pytest.mark.parametrize("name", ["spinalflow", "spinalflow-every-spike"])
def test_an_edit_of_the_energy_table_reaches_the_result(name, trace, table):
    data = table.model_dump()
    data["actions"]["register_access"]["energy_pj"] = 2 * data["actions"]["register_access"]["energy_pj"]
    data["actions"]["register_access"]["high_pj"] = None
    data["name"] = "dearer"
    before, after = (run_baseline(name, trace, t) for t in (table, parse_energy_table(data, "dearer")))
    assert after.energy_j > before.energy_j
    assert after.seconds == before.seconds
    for row, dearer in zip(before.rows, after.rows, strict=True):
        assert dearer.energy_pj["sorter"] > row.energy_pj["sorter"]
        assert dearer.energy_pj["leakage"] == row.energy_pj["leakage"]
