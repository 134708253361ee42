"""Comparisons: a result as a measurement, ratios per sample, and the command."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.compare.measurement import Measurement, Part
from h2sim.compare.ratios import compare, measurement_of
from h2sim.compare.stored import load_result
from h2sim.errors import ComparisonError
from h2sim.gpu import write_gpu_trace
from h2sim.gpu.strongest import measurements
from h2sim.rivals.registry import run_baseline
from h2sim.trace import write_trace
from tests.helpers.gpu_made import gpu_trace
from tests.helpers.look import RESIDUAL, inference_trace
from tests.helpers.traces import changed, parts, raw_trace, tiny_trace


def system(name: str, samples: int, seconds: float, energy_j: float | None, parts=(), phases=("forward",), network="n"):
    return Measurement(
        system=name,
        kind="measured",
        network=network,
        samples=samples,
        seconds=seconds,
        energy_j=energy_j,
        area_mm2=2.0,
        node_nm=28.0,
        phases=phases,
        parts=tuple(parts),
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(tiny_trace(folder)))


def test_ratios_are_per_sample_and_above_one_favours_the_first():
    ours = system("ours", 4, 2.0, 8.0, [Part("conv1", "forward", 1.0, 4.0)])
    theirs = system("theirs", 2, 5.0, 1.0, [Part("conv1", "forward", 3.0, 6.0), Part("fc1", "forward", 1.0, 1.0)])
    found = compare(ours, theirs)
    assert found.step.speedup == (5.0 / 2) / (2.0 / 4)
    assert found.step.energy_saving == (1.0 / 2) / (8.0 / 4)
    assert found.area_saving == 1.0
    assert [r.layer for r in found.layers] == ["conv1"]  # only what both have
    assert found.layers[0].speedup == (3.0 / 2) / (1.0 / 4)
    assert found.phases[0].energy_saving == (6.0 / 2) / (8.0 / 4)  # all of our layers: our step


def test_a_step_is_compared_only_with_a_step_of_the_same_phases():
    training = system("ours", 1, 1.0, None, [Part("conv1", "forward", 1.0)], ("forward", "backward", "weight_update"))
    inference = system("theirs", 1, 3.0, 1.0, [Part("conv1", "forward", 3.0)])
    found = compare(training, inference)
    assert found.step is None
    assert found.phases[0].speedup == 3.0
    assert found.phases[0].energy_saving is None  # ours is not known


def test_two_networks_cannot_be_compared():
    with pytest.raises(ComparisonError, match=r"^a and b: network: expected one, n; got m$"):
        compare(system("a", 1, 1.0, 1.0), system("b", 1, 1.0, 1.0, network="m"))


def test_a_result_becomes_a_measurement_whose_parts_are_its_rows(result):
    document = result.to_dict()
    found = measurement_of(document, "here", steady=True)
    assert found.seconds == result.steady_seconds
    assert found.energy_j == document["step"]["energy_j"]
    assert found.samples == document["step"]["samples"]
    assert found.area_mm2 == document["area_um2"]["total"] / 1e6
    assert [(p.layer, p.phase) for p in found.parts] == [(r["layer"], r["phase"]) for r in document["layers"]]
    row = document["layers"][0]
    held = row["end_cycle"] - row["start_cycle"] - row["stall_cycles"]["dependency"]
    assert found.parts[0].seconds == held / document["step"]["clock_hz"]
    assert found.parts[0].energy_j == pytest.approx(1e-12 * sum(row["energy_pj"].values()))
    assert found.assumptions == ("SYNTHETIC masks",)


def test_a_training_step_is_a_batch_group_with_its_update(result):
    document, activity = result.to_dict(), result.activity
    found = measurement_of(document, "here")
    assert found.samples == activity.samples * activity.sub_batches
    assert found.seconds == activity.batch_cycles / result.arch.clock_hz
    extra_s = found.seconds - activity.sub_batches * result.steady_seconds
    events = activity.sub_batches * document["step"]["energy_j"]
    assert found.energy_j == pytest.approx(events + result.cost.leakage_w * extra_s)
    assert found.seconds_per_sample > measurement_of(document, "here", steady=True).seconds_per_sample
    del document["step"]["batch"]  # an older document
    assert measurement_of(document, "here").seconds == result.steady_seconds


def test_the_forward_pass_alone_takes_the_latency_of_the_first_sub_batch(tmp_path):
    trace = h2sim.load_trace(inference_trace(tmp_path))
    document = h2sim.simulate(h2sim.load_arch("h2learn"), trace).to_dict()
    found = measurement_of(document, "here")
    assert found.seconds == document["step"]["first_cycles"] / document["step"]["clock_hz"]
    assert found.phases == ("forward",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", r"r\.json: file: expected an h2sim-result document \(h2sim run --json\); got no JSON$"),
        ("[1]", r"r\.json: top level: expected an h2sim-result document; got list$"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ComparisonError, match=message):
        load_result(tmp_path / "r.json")


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(ComparisonError, match=r"none\.json: cannot be read: No such file or directory$"):
        load_result(tmp_path / "none.json")


def test_every_fault_of_a_damaged_result_is_named(result):
    document = result.to_dict()
    document["schema"] = "other"
    del document["step"]["clock_hz"]
    document["layers"][0]["compute_cycles"] = -1
    with pytest.raises(ComparisonError, match=r"schema: expected 'h2sim-result'; got 'other'") as caught:
        measurement_of(document, "r.json")
    lines = str(caught.value).splitlines()
    assert "r.json: step.clock_hz: missing field" in lines
    assert "r.json: layers.0.compute_cycles: expected greater than or equal to 0; got -1" in lines


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Results of the bundled trace: dual and dense."""
    folder = tmp_path_factory.mktemp("digits")
    arch, trace = h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits")
    for mode in ("dual", "dense"):
        document = h2sim.simulate(arch, trace, mode=mode).to_dict()
        (folder / f"{mode}.json").write_text(json.dumps(document))
    return folder


def run(*args) -> object:
    return CliRunner().invoke(main, ["compare", *map(str, args)])


def test_two_results_are_compared_layer_by_layer(digits, tmp_path):
    found = run(digits / "dual.json", digits / "dense.json", "--csv", tmp_path / "r.csv", "--plots", tmp_path / "p")
    assert found.exit_code == 0, found.output
    ratios = pd.read_csv(tmp_path / "r.csv")
    steps = ratios[ratios["scope"] == "step"]
    assert steps["speedup"].item() > 1  # sparsity helps
    assert (ratios[ratios["phase"] == "forward"]["speedup"].dropna() == 1).all()  # the Forward Engine is the same
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"step.png", "layers.png"}


def test_rivals_run_on_the_results_own_trace(digits, tmp_path):
    found = run(digits / "dual.json", "--spinalflow", "--loihi", "--json", tmp_path / "c.json")
    assert found.exit_code == 0, found.output
    document = json.loads((tmp_path / "c.json").read_text())
    names = [s["system"].split()[0].lower() for s in document["systems"]]
    assert names == ["h2learn", "spinalflow", "loihi"]
    assert all(s["assumptions"] for s in document["systems"][1:])
    assert {r["scope"] for r in document["ratios"]} == {"phase", "layer"}  # they do not train


def test_a_gpu_trace_without_layers_is_compared_by_the_step(digits, tmp_path):
    document = json.loads((digits / "dual.json").read_text())
    document["workload"]["network"] = "mnist"
    (tmp_path / "mnist.json").write_text(json.dumps(document))
    found = run(tmp_path / "mnist.json", "--gpu", "v100-mnist", "--csv", "-")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("h2learn,NVIDIA")


def gpu_file(folder, name, seconds, gradients, **changes):
    """A GPU trace of mnist. gradients: how far they are from the reference's; None: nobody checked."""
    values = {
        "reference": "layerwise", "equal": gradients == 0, "same_bits": False, "loss_difference": 0,
        "gradient_difference": gradients, "tolerance": 1e-4,
    }  # fmt: skip
    trace = gpu_trace(
        network="mnist", rows=None, implementation=name, step={"seconds": seconds},
        values=None if gradients is None else values, **changes,
    )  # fmt: skip
    write_gpu_trace(folder / f"{name}.json", trace)
    return ["--gpu", folder / f"{name}.json"]


def test_the_verdict_takes_the_fastest_gpu_trace_whose_values_are_equal(digits, tmp_path):
    document = json.loads((digits / "dual.json").read_text())
    document["workload"]["network"] = "mnist"
    (tmp_path / "mnist.json").write_text(json.dumps(document))
    given = [
        *gpu_file(tmp_path, "vanilla", 0.9, 0), *gpu_file(tmp_path, "graph", 0.6, 0),
        *gpu_file(tmp_path, "atan", 0.1, 0.5), *gpu_file(tmp_path, "mine", 0.2, None),
        *gpu_file(tmp_path, "other", 2.0, 0, device={"name": "V"}), "--json", tmp_path / "c.json",
    ]  # fmt: skip
    found = run(tmp_path / "mnist.json", *given)
    assert found.exit_code == 0, found.output
    verdict = found.stdout.split("\n\n")[0].replace("\n", " ")
    assert "GPU, graph" in verdict
    assert verdict.count("; it is") == 1  # one clause a device
    assert not any(name in verdict for name in ("vanilla", "atan", "mine"))
    systems = {s["system"]: s for s in json.loads((tmp_path / "c.json").read_text())["systems"]}
    assert {name: s["passed_over"] for name, s in systems.items() if s["passed_over"]} == {
        "GPU, vanilla": "1.5x the time of GPU, graph",
        "GPU, atan": "its values are not layerwise's: loss 0.0e+00 and gradients 5.0e-01 apart, tolerance 1e-04",
        "GPU, mine": "its values are not checked",
    }
    assert systems["GPU, graph"]["assumptions"][0] == (
        "the baseline: the fastest of its device's whose values are checked and equal"
    )
    said = " ".join(found.stdout.split())
    assert "passed over by the verdict, why the last lines say: GPU, vanilla; GPU, atan; GPU, mine" in said
    assert "GPU, vanilla: passed over: 1.5x the time of GPU, graph" in said


def test_where_no_values_are_checked_the_fastest_stands_in_the_verdict_and_says_so():
    slow, fast = (gpu_trace(step={"seconds": seconds}) for seconds in (0.5, 0.25))
    found = measurements([("a.json", slow), ("b.json", fast)])
    assert [m.system for m in found] == ["GPU, vanilla, a.json", "GPU, vanilla, b.json"]
    assert [m.passed_over for m in found] == ["2x the time of GPU, vanilla, b.json", ""]
    assert found[1].assumptions[0] == "the baseline: the fastest of its device's, of which no values are checked"
    assert measurements([("a.json", slow)]) == [slow.to_measurement()]


def test_a_step_is_the_baseline_only_of_steps_of_the_same_phases():
    whole, part = gpu_trace(), gpu_trace(step={"seconds": 0.1}, phases=["forward"], rows=None)
    assert [m.passed_over for m in measurements([("a.json", whole), ("b.json", part)])] == ["", ""]


def test_a_rival_needs_the_trace_and_the_right_one(result, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(result.to_dict()))
    found = run(tmp_path / "r.json", "--loihi")
    assert found.exit_code == 2
    assert "got none; it is not a shipped trace, name it by --workload" in found.stderr
    found = run(tmp_path / "r.json", "--loihi", "--workload", "mnist-digits")
    assert found.exit_code == 2
    assert "mnist-digits: --workload: expected the trace of" in found.stderr
    assert found.stderr.rstrip().endswith("got another trace")


def test_nothing_to_compare_with_is_wrong_use(digits):
    found = run(digits / "dual.json")
    assert found.exit_code == 2
    assert "expected another RESULT, --gpu" in found.stderr


def test_layers_that_overlap_are_compared_by_the_step_where_they_are_all_of_it():
    ours = system("ours", 1, 2.0, 1.0, [Part("a", "forward", 1.0), Part("b", "forward", 1.0)])
    theirs = system("theirs", 1, 3.0, 1.0, [Part("a", "forward", 2.5), Part("b", "forward", 2.5)])
    assert compare(ours, theirs).phases[0].speedup == 3.0 / 2.0  # not 5 / 2
    more = system("theirs", 1, 3.0, 1.0, [*theirs.parts, Part("c", "forward", 1.0)])
    assert compare(ours, more).phases[0].speedup == 5.0 / 2.0


def test_a_layer_inside_anothers_time_has_no_speedup(result):
    ours = measurement_of(result.to_dict(), "here")
    assert {p.layer for p in ours.parts if p.fused} == {"pool1"}
    theirs = system("t", 1, 1.0, 1.0, [Part("pool1", "forward", 1.0, 1.0)], network=ours.network)
    (ratio,) = compare(ours, theirs).layers
    assert ratio.speedup is None
    assert ratio.energy_saving > 0


@pytest.fixture(scope="module")
def starved(tmp_path_factory):
    """A result of a machine that waits for its memory, to read and to write."""
    slow = changed("memory", {"bandwidth_bytes_per_s": 10**9, "first_access_cycles": 0})
    return h2sim.simulate(slow, h2sim.load_trace(tiny_trace(tmp_path_factory.mktemp("starved"))))


def test_parts_of_a_batch_group_are_the_rows_of_all_its_sub_batches(starved):
    document, n = starved.to_dict(), starved.activity.sub_batches
    found = measurement_of(document, "here")
    assert n > 1
    assert sum(row["stall_cycles"]["memory_read"] for row in document["layers"]) > 0
    for part, row in zip(found.parts, document["layers"], strict=True):
        held = row["end_cycle"] - row["start_cycle"] - row["stall_cycles"]["dependency"]
        assert part.seconds == n * held / document["step"]["clock_hz"]
        idle = 1 - held / (row["end_cycle"] - row["start_cycle"])  # waiting for other layers is not the layer's
        spent = sum(row["energy_pj"].values()) - idle * row["energy_pj"]["leakage"]
        assert part.energy_j == pytest.approx(n * 1e-12 * spent)
    assert sum(part.energy_j for part in found.parts) <= found.energy_j


def test_more_bandwidth_never_adds_time_or_energy(starved, result):
    slow, fast = (measurement_of(r.to_dict(), "here") for r in (starved, result))
    assert fast.seconds < slow.seconds
    assert fast.energy_j < slow.energy_j  # less leakage


def test_masks_of_real_training_need_no_note(digits):
    assert measurement_of(load_result(digits / "dual.json"), "dual.json").assumptions == ()


def test_area_saving_is_their_area_over_ours():
    small = system("ours", 1, 1.0, 1.0)
    large = Measurement(
        system="theirs",
        kind="measured",
        network="n",
        samples=1,
        seconds=1.0,
        energy_j=1.0,
        area_mm2=8.0,
        node_nm=28.0,
        phases=("forward",),
    )
    unknown = Measurement(
        system="none",
        kind="measured",
        network="n",
        samples=1,
        seconds=1.0,
        energy_j=1.0,
        area_mm2=None,
        node_nm=28.0,
        phases=("forward",),
    )
    assert compare(small, large).area_saving == 4.0
    assert compare(large, small).area_saving == 0.25
    assert compare(small, unknown).area_saving is None


def test_energy_of_shared_layers_is_unknown_where_one_of_theirs_is():
    ours = system("ours", 1, 9.0, 9.0, [Part("a", "forward", 1.0, 1.0), Part("b", "forward", 1.0, 2.0)])
    parts = [Part("a", "forward", 1.0, 5.0), Part("b", "forward", 1.0, None), Part("c", "forward", 1.0, 1.0)]
    (shared,) = compare(ours, system("theirs", 1, 9.0, None, parts)).phases
    assert shared.theirs_energy_j is None
    assert shared.energy_saving is None


def test_a_phase_of_training_is_the_sum_of_its_layers_never_the_step():
    training = ("forward", "backward", "weight_update")
    ours = system("ours", 1, 100.0, 100.0, [Part("a", "forward", 1.0, 2.0)], training)
    theirs = system("theirs", 1, 7.0, 7.0, [Part("a", "forward", 3.0, 4.0)])
    (shared,) = compare(ours, theirs).phases
    assert (shared.ours_seconds, shared.ours_energy_j) == (1.0, 2.0)
    assert (shared.theirs_seconds, shared.theirs_energy_j) == (7.0, 7.0)


@pytest.mark.parametrize("side", [0, 1])
def test_a_layer_that_is_fused_on_either_side_has_no_speedup(side):
    pair = [
        system(name, 1, 1.0, 1.0, [Part("a", "forward", 1.0, 1.0, fused=side == number)])
        for number, name in enumerate(("ours", "theirs"))
    ]
    (ratio,) = compare(*pair).layers
    assert ratio.fused
    assert ratio.speedup is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("arch.name", "a\nb", r"arch\.name: expected one line of printable text; got 'a\\nb'$"),
        ("workload.network", "\ud800", r"workload\.network: expected "),
        ("step.first_cycles", 10**400, r"step\.first_cycles: expected less than or equal to 46\d+; got 1000"),
        ("step.samples", True, r"step\.samples: expected a valid integer; got True$"),
        ("step.samples", 10**30, r"step\.samples: expected less than or equal to 9007199254740992; got 1000"),
        ("step.energy_j", float("inf"), r"step\.energy_j: expected .*; got inf$"),
        ("step.energy_j", "1e3", r"step\.energy_j: expected a valid number; got '1e3'$"),
        ("energy_table.node_nm", -28.0, r"energy_table\.node_nm: expected greater than 0; got -28\.0$"),
        ("layers", [], r"layers: expected Tuple should have at least 1 item .*; got \[\]$"),
        ("step.batch.cycles", 1, r"step\.batch\.cycles: expected at least step\.first_cycles and .*; got 1$"),
    ],
)
def test_a_result_that_cannot_be_is_refused_in_one_line(result, path, value, message):
    document = json.loads(json.dumps(result.to_dict()))
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(ComparisonError, match="^here: " + message) as caught:
        measurement_of(document, "here")
    assert len(str(caught.value).splitlines()) == 1


def test_a_result_of_some_layers_is_not_taken_for_the_step(result, tmp_path):
    document = result.to_dict()
    document["layers"] = [row for row in document["layers"] if row["layer"] == "conv1"]
    message = (
        r"^r: layers: expected all rows of the step, with the \d+ compute_cycles of its engines .*--layer\); got \d+$"
    )
    with pytest.raises(ComparisonError, match=message):
        measurement_of(document, "r")


def test_other_nodes_are_told(digits, tmp_path):
    document = json.loads((digits / "dual.json").read_text())
    said = run(digits / "dual.json", digits / "dense.json").stdout
    assert "nodes of" not in said
    document["energy_table"]["node_nm"] = 45.0
    (tmp_path / "45.json").write_text(json.dumps(document))
    said = run(digits / "dual.json", tmp_path / "45.json").stdout
    assert "nodes of 28 and 45 nm: energies and areas stand as they are, not scaled\n" in said


def test_spinalflow_is_not_priced_by_a_table_of_another_node(digits):
    found = run(digits / "dual.json", "--spinalflow", "--energy-table", "45nm")
    assert found.exit_code == 2
    wanted = "h2sim: energy table 45nm: node_nm: expected a table of 28 nm, as SpinalFlow's own prices; got 45\n"
    assert found.stderr == wanted
    assert run(digits / "dual.json", "--loihi", "--energy-table", "45nm").exit_code == 0  # has prices of its own


def test_a_step_that_leaves_layers_out_is_not_compared_with_a_whole_one(tmp_path):
    with np.load(RESIDUAL) as held:
        members = {name: held[name] for name in held.files if name.endswith((".spikes", ".window", ".analog"))}
        meta = json.loads(bytes(held["meta"])) | {"phases": ["forward"]}
    trace = h2sim.load_trace(raw_trace(tmp_path / "forward.npz", meta, members))
    ours = measurement_of(h2sim.simulate(h2sim.load_arch("h2learn"), trace).to_dict(), "here")
    table = h2sim.load_energy_table("28nm")
    partial, whole = (compare(ours, run_baseline(n, trace, table).measurement()) for n in ("spinalflow", "loihi"))
    assert "join" in partial.theirs.left_out
    assert partial.step is None
    assert partial.phases[0].speedup > 0  # of the layers that both have
    assert whole.step.speedup == whole.theirs.seconds_per_sample / ours.seconds_per_sample


def test_a_published_row_is_compared_as_it_stands(tmp_path):
    arch = h2sim.load_arch("h2learn")
    meta, members = parts("32C3-AP2-10FC", (2, 8, 8))
    meta["network"], meta["phases"] = "loihi", ["forward"]
    kept = {name: value for name, value in members.items() if not name.endswith(".grad")}
    write_trace(tmp_path / "l.npz", meta, kept)
    document = h2sim.simulate(arch, h2sim.load_trace(tmp_path / "l.npz")).to_dict()
    (tmp_path / "ours.json").write_text(json.dumps(document))
    found = run(tmp_path / "ours.json", "--baseline", "loihi-reported", "--json", "-")
    assert found.exit_code == 0, found.output
    (step,) = [r for r in json.loads(found.stdout)["ratios"] if r["scope"] == "step"]
    assert step["their_seconds_per_sample"] == 1.02e-3
    assert step["their_energy_j_per_sample"] == 6.6e-5


def test_a_machine_that_only_infers_has_no_area_ratio_with_one_that_trains():
    trains = system("a", 1, 1.0, 1.0, phases=("forward", "backward", "weight_update"))
    assert compare(trains, system("b", 1, 1.0, 1.0)).area_saving is None
