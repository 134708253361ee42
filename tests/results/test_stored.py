"""Does a result say what it was? Provenance, the whole bill, and reading it back."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.compare.stored import parameter_differences
from h2sim.errors import ArchError, ComparisonError, H2SimError
from h2sim.rivals.registry import parse_machine
from tests.helpers.traces import tiny_trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def trace(folder):
    return tiny_trace(folder)


def run(*arguments, status=0):
    done = CliRunner().invoke(main, ["run", *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(scope="module")
def written(folder, trace):
    run("h2learn", trace, "--mode", "dense", "--json", folder / "r.json")
    return folder / "r.json"


def test_a_result_read_back_is_typed_and_whole(written, trace):
    found, ours = (
        h2sim.read_result(written),
        h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(trace), mode="dense"),
    )
    assert found.step.steady_cycles == ours.activity.steady_cycles
    assert found.machine() == ours.arch
    assert [(r.layer, r.phase, r.compute_cycles) for r in found.layers] == [
        (r.layer, r.phase, r.compute_cycles) for r in ours.activity.layers
    ]
    assert found.options == {"mode": "dense", "ideal_memory": False}
    assert repr(found) == f"StoredResult(h2learn on {found.workload.network}: {len(found.layers)} rows)"


def test_every_joule_of_a_document_is_count_times_price(written):
    found = h2sim.read_result(written)
    assert all(line.count * line.unit_pj == line.energy_pj for line in found.bill)
    assert found.bill_energy_j == pytest.approx(found.step.energy_j, rel=1e-12)
    engines = {line.engine for line in found.bill}
    for name in engines:
        billed = 1e-12 * math.fsum(line.energy_pj for line in found.bill if line.engine == name)
        assert billed == pytest.approx(sum(found.engines[name].energy_j.values()), rel=1e-12)
    moved = sum(row.bytes["offchip_read"] + row.bytes["offchip_write"] for row in found.layers)
    assert 1e-12 * moved * found.offchip_pj_per_byte == pytest.approx(found.step.offchip_energy_j, rel=1e-12)


def test_the_bytes_of_every_buffer_stand_in_its_row_and_in_the_bill(written):
    found = h2sim.read_result(written)
    billed = {(line.engine, line.action): line.count for line in found.bill}
    summed: dict[tuple[str, str], int] = {}
    for row in found.layers:
        assert row.bytes["glb_read"] == sum(b.read_bytes for b in row.buffers.values())
        for name, moved in row.buffers.items():
            for action, count in ((f"{name} read B", moved.read_bytes), (f"{name} write B", moved.write_bytes)):
                summed[row.engine, action] = summed.get((row.engine, action), 0) + count
    assert {key: count for key, count in summed.items() if count} == {
        key: count for key, count in billed.items() if key in summed
    }


def test_a_document_says_what_was_typed_but_not_where_it_went(written, folder, trace):
    run("h2learn", trace, "--mode", "dense", "--json", folder / "again.json", "--csv", folder / "rows.csv")
    assert (folder / "again.json").read_bytes() == written.read_bytes()
    told = h2sim.read_result(written).provenance
    assert told["command"] == f"h2sim run h2learn {trace} --mode dense"
    assert told["versions"]["h2sim"] == h2sim.__version__
    assert {"python", "numpy", "numba"} <= set(told["versions"])


def test_rows_and_pictures_carry_the_hashes(folder, trace, written):
    run("h2learn", trace, "--mode", "dense", "--csv", folder / "h.csv", "--plots", folder / "plots")
    found = h2sim.read_result(written)
    header, row = (folder / "h.csv").read_text().splitlines()[:2]
    named = dict(zip(header.split(",")[-3:], row.split(",")[-3:], strict=True))
    hashes = {
        "arch_sha256": found.arch.sha256,
        "trace_sha256": found.workload.sha256,
        "energy_table_sha256": found.energy_table.sha256,
    }
    assert named == hashes
    for picture in ("cycles.png", "energy.png", "area.png"):
        data = (folder / "plots" / picture).read_bytes()
        assert all(name.encode() in data and value.encode() in data for name, value in hashes.items())


def test_two_results_of_one_machine_name_list_what_differs(folder, trace, written):
    run("h2learn", trace, "--set", "engines.backward.rows=32", "--set", "memory.bandwidth_bytes_per_s=64000000000",
        "--json", folder / "wide.json")  # fmt: skip
    left, right = h2sim.read_result(written).arch, h2sim.read_result(folder / "wide.json").arch
    assert parameter_differences(left, right) == [
        ("engines.backward.rows", 16, 32),
        ("engines.backward.mode", "dense", "dual"),
        ("memory.bandwidth_bytes_per_s", 128_000_000_000, 64_000_000_000),
    ]
    done = CliRunner().invoke(main, ["compare", str(written), str(folder / "wide.json")])
    assert done.exit_code == 0, done.output
    assert "are both of h2learn and differ in 3 parameters." in done.stdout
    assert "engines.backward.rows" in done.stdout


def test_a_setting_is_the_same_machine_as_its_file(folder, trace):
    text = h2sim.load_arch("h2learn").with_({"engines.backward.rows": 32})
    found = json.loads(run("h2learn", trace, "--set", "engines.backward.rows=32", "--json", "-").stdout)
    assert found["arch"]["parameters"]["engines"]["backward"]["rows"] == 32
    assert found["step"]["steady_cycles"] == h2sim.simulate(text, h2sim.load_trace(trace)).activity.steady_cycles
    assert run("h2learn", trace, "--set", "engines.backward.row=32", status=2).stderr == (
        "h2sim: h2learn: engines.backward.row: unknown field; did you mean 'engines.backward.rows'?\n"
    )
    assert (
        "engines.backward.rows: expected" in run("h2learn", trace, "--set", "engines.backward.rows=0", status=2).stderr
    )


def test_counting_and_pricing_are_the_two_halves_of_a_simulation(trace):
    arch, opened = h2sim.load_arch("h2learn"), h2sim.load_trace(trace)
    counts = h2sim.count(arch, opened, mode="dense")
    for table in ("28nm", "45nm"):
        assert h2sim.priced(counts, table).to_dict() == h2sim.simulate(arch, opened, table, mode="dense").to_dict()


def test_masks_of_an_open_trace_are_read_once_however_many_machines_run(trace, monkeypatch):
    opened, arch = h2sim.load_trace(trace), h2sim.load_arch("h2learn")
    read: list[str] = []
    original = type(opened)._read
    monkeypatch.setattr(type(opened), "_read", lambda self, name: read.append(name) or original(self, name))
    first = h2sim.simulate(arch, opened)
    assert len(read) == len(set(read)) > 0
    n_read = len(read)
    for tile in ([4, 8], [8, 8]):
        h2sim.simulate(arch.with_({"tile": {"height": tile[0], "width": tile[1]}}), opened)
    assert len(read) == n_read
    assert h2sim.simulate(arch, opened).to_dict() == first.to_dict()


@pytest.mark.parametrize("machine", ["spinalflow", "loihi", "loihi-sanafe"])
def test_a_rivals_result_has_the_same_schema_and_is_read_back(machine, folder, trace):
    run(machine, trace, "--json", folder / f"{machine}.json", "--csv", folder / f"{machine}.csv")
    found = h2sim.read_result(folder / f"{machine}.json")
    assert found.arch.machine in ("spinalflow", "loihi")
    assert found.phases == ("forward",)
    assert found.step.energy_j > 0
    assert found.notes
    billed = sum(sum(engine.energy_j.values()) for engine in found.engines.values())
    assert billed == pytest.approx(found.step.energy_j, rel=1e-12)
    assert found.total_area_um2 > 0
    assert "arch_sha256" in (folder / f"{machine}.csv").read_text()


def test_a_rivals_stored_result_compares_as_its_run_does(folder, trace):
    ours, theirs = folder / "fwd.json", folder / "sf.json"
    run("h2learn", trace, "--json", ours)
    run("spinalflow", trace, "--json", theirs)
    stored, live = (
        json.loads(CliRunner().invoke(main, ["compare", str(ours), *more, "--json", "-"]).stdout)
        for more in ((str(theirs),), ("--machine", "spinalflow", "--workload", str(trace)))
    )
    assert stored["ratios"] == live["ratios"]
    assert len(stored["ratios"]) > 1


def test_a_rivals_fields_are_set_as_h2learns_are(trace):
    first, every = (
        json.loads(run("spinalflow", trace, *more, "--json", "-").stdout)["step"]["steady_cycles"]
        for more in ((), ("--set", "coding=every_spike"))
    )
    assert every > first
    assert "coding: expected" in run("spinalflow", trace, "--set", "coding=rate", status=2).stderr
    assert "did you mean 'array.pes'?" in run("spinalflow", trace, "--set", "array.peas=64", status=2).stderr


@pytest.mark.parametrize("option", [("--mode", "dual"), ("--chips", "2"), ("--plots", "p"), ("--timeline", "t.json")])
def test_what_a_rival_does_not_have_is_refused_in_one_line(option, trace, folder, monkeypatch):
    monkeypatch.chdir(folder)
    message = f"h2sim: SpinalFlow: {option[0]}: expected none: it is for h2learn's machines; got {option[1]}\n"
    assert run("spinalflow", trace, *option, status=2).stderr == message


def test_h2learns_loader_names_the_one_for_rivals():
    with pytest.raises(
        ArchError, match=r"spinalflow.yaml: machine: expected h2learn \(h2sim.load_machine reads rivals"
    ):
        h2sim.load_arch("spinalflow")


def test_a_machine_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "m.yaml").write_text("machine: eyeriss\nname: e\n")
    with pytest.raises(
        ArchError, match=r"m.yaml: machine: expected one of h2learn, spinalflow, loihi, .*; got 'eyeriss'$"
    ):
        h2sim.load_machine(tmp_path / "m.yaml")


@pytest.mark.parametrize("kind", [[], {"a": 1}, 5, None])
def test_a_kind_of_machine_that_is_no_name_is_refused(kind):
    with pytest.raises(ArchError, match=r"^m.yaml: machine: expected one of h2learn, spinalflow, loihi, .*; got "):
        parse_machine({"machine": kind}, "m.yaml")


def test_a_rival_takes_no_mode_in_python_either(trace):
    with pytest.raises(H2SimError, match=r"^SpinalFlow: mode and chips: expected none for a rival machine; got 2$"):
        h2sim.simulate(h2sim.load_machine("spinalflow"), h2sim.load_trace(trace), chips=2)  # type: ignore[call-overload]


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ComparisonError, match=r"x.json: top level: expected an h2sim-result document; got list$"):
        h2sim.read_result(tmp_path / "x.json")


def test_a_results_repr_is_one_line(trace):
    shown = repr(h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(trace)))
    assert shown.startswith("Result(h2learn on ")
    assert "\n" not in shown


def test_a_number_that_would_mislead_is_warned_of_and_stays_in_the_document(folder, trace):
    done = run("h2learn", trace, "--set", "memory.bandwidth_bytes_per_s=128", "--json", folder / "slow.json")
    told = "machine h2learn: memory.bandwidth_bytes_per_s is 128 B/s, below 1 MB/s: was 128 GB/s meant?"
    assert f"h2sim: warning: {told}\n" in done.stderr
    assert told in h2sim.read_result(folder / "slow.json").warnings


def test_a_shipped_trace_on_the_shipped_machine_warns_of_nothing():
    assert h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits")).warnings == ()


def test_a_run_says_what_bounds_its_step_and_what_a_change_would_do_to_it(folder, trace):
    arguments = ("--what-if", "memory.bandwidth_bytes_per_s=1 TB/s", "--what-if", "engines.backward.rows=32")
    done = run("h2learn", trace, *arguments, "--json", folder / "w.json")
    assert "bounds the step: " in done.stdout.splitlines()[0]
    told = json.loads((folder / "w.json").read_text())
    assert [change["setting"] for change in told["what_if"]] == [arguments[1], arguments[3]]
    for change in told["what_if"]:
        path, _, value = change["setting"].partition("=")
        alone = json.loads(run("h2learn", trace, "--set", f"{path}={value}", "--json", "-").stdout)["step"]
        assert change["steady_cycles"] == alone["steady_cycles"] == sum(part["cycles"] for part in change["bounds"])
        assert change["bounds"] == alone["bounds"]
        assert change["speedup"] == told["step"]["seconds"] / alone["seconds"]
        assert change["setting"] in done.stdout


def test_a_change_that_cannot_be_is_refused_before_the_work(trace):
    told = run("h2learn", trace, "--what-if", "engines.backward.colums=128", status=2)
    assert told.stdout == ""
    assert told.stderr == (
        "h2sim: h2learn: engines.backward.colums: unknown field; did you mean 'engines.backward.columns'?\n"
    )


def test_compare_repeats_what_bounds_each_result(folder, trace, written):
    run("h2learn", trace, "--json", folder / "dual.json")
    done = CliRunner().invoke(main, ["compare", str(folder / "dual.json"), str(written)])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("bounds the step: ") == 2
