"""Points: the same numbers as `h2sim run`, in one row each, whatever was there before and however often it is run."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.sweeps.plan import make_plan
from h2sim.sweeps.run import sweep
from h2sim.sweeps.spec import parse_spec
from h2sim.sweeps.store import Store
from tests.sweeps.equality import differing, spec

ROWS, LANES = "engines.backward.rows", "engines.backward.parallelism"


def asked(**fields):
    return {"traces": ["mnist-digits"], "parameters": {ROWS: [8, 16], "tile": {"values": [[8, 8], [4, 8]]}}, **fields}


def test_random_points_are_equal_to_their_machines_own_simulation(tmp_path):
    plan = make_plan(parse_spec(spec(["mnist-digits"], 16, seed=7)))
    assert list(differing(plan, tmp_path, workers=0)) == []


def test_a_row_is_what_the_run_command_says_of_the_machine(tmp_path):
    frame = sweep(asked(energy_tables=["28nm", "45nm"]), tmp_path / "s", workers=0)
    assert len(frame) == 8
    row = frame[(frame[ROWS] == 8) & (frame["tile"] == "[4, 8]") & (frame["energy_table"] == "45nm")].iloc[0]
    out = tmp_path / "r.json"
    args = ["run", "h2learn", "mnist-digits", "--set", f"{ROWS}=8", "--set", "tile=[4, 8]", "--energy-table", "45nm"]
    assert CliRunner().invoke(main, [*args, "--json", str(out)]).exit_code == 0
    result = json.loads(out.read_text())
    assert row["seconds"] == result["step"]["seconds"]
    assert row["energy_j"] == result["step"]["energy_j"]
    assert row["cycles"] == result["step"]["steady_cycles"]
    assert row["area_mm2"] == result["area_um2"]["total"] / 1e6
    stalls = result["engines"]["backward"]["stall_cycles"]
    assert row["backward_stall_memory_read_cycles"] == stalls["memory_read"]
    assert row["forward_glb_j"] == result["engines"]["forward"]["energy_j"]["glb"]


def test_several_traces_have_a_mean_and_each_its_own(tmp_path):
    fields = {"traces": ["mnist-digits", "mnist-table34"], "parameters": {ROWS: [8, 16]}}
    frame = sweep(fields, tmp_path / "g", workers=0)
    one, other = frame["seconds[mnist-digits]"], frame["seconds[mnist-table34]"]
    assert frame["seconds"].tolist() == pytest.approx(((one * other) ** 0.5).tolist(), rel=1e-12)
    plain = sweep({**fields, "mean": "arithmetic"}, tmp_path / "a", workers=0)
    assert plain["seconds"].tolist() == pytest.approx(((one + other) / 2).tolist(), rel=1e-12)
    assert frame["area_mm2"].tolist() == frame["area_mm2[mnist-digits]"].tolist()


def test_the_same_sweep_again_runs_nothing_and_a_changed_one_only_what_is_new(tmp_path):
    first = sweep(asked(), tmp_path, workers=0)
    with Store(tmp_path) as store:
        before = {point.point for point in store.points()}
    again = sweep(asked(), tmp_path, workers=0)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    more = asked(parameters={ROWS: [8, 16], LANES: [2, 4], "tile": {"values": [[8, 8], [4, 8]]}})
    wider = sweep(more, tmp_path, workers=0)
    assert len(wider) == 8
    assert wider[LANES].tolist().count(4) == 4  # those of the first sweep: the file's own value
    with Store(tmp_path) as store:
        assert before < {point.point for point in store.points()}


def test_this_process_and_two_workers_write_the_same_table(tmp_path):
    one, two = (sweep(asked(), tmp_path / str(n), workers=n) for n in (0, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_constraints_on_results_leave_invalid_rows_that_say_why(tmp_path):
    parameters = {"engines.forward.rows": [16, 64, 256]}
    frame = sweep(asked(parameters=parameters, constraints=["area_mm2 < 37"]), tmp_path, workers=0)
    assert frame["status"].tolist() == ["ok", "ok", "invalid"]
    assert frame["error"].iloc[2].startswith("constraint area_mm2 < 37: got area_mm2 = ")
    assert frame["seconds"].isna().tolist() == [False, False, True]
    wider = sweep(asked(parameters=parameters, constraints=["area_mm2 < 1000"]), tmp_path, workers=0)
    assert wider["status"].tolist() == ["ok", "ok", "ok"]  # another constraint lets it be run
    slower = sweep(asked(parameters=parameters, constraints=["seconds > 1"]), tmp_path, workers=0)
    assert set(slower["status"]) == {"invalid"}
    assert slower["seconds"].notna().all()


def test_a_machine_that_cannot_be_is_an_invalid_row(tmp_path):
    frame = sweep(asked(parameters={"engines.forward.sub_lut_size": [8, 6]}), tmp_path, workers=0)
    assert frame["status"].tolist() == ["ok", "invalid"]
    assert "must be a power of two; got 6" in frame["error"].iloc[1]


def test_points_of_another_model_are_not_mixed(tmp_path, monkeypatch):
    sweep(asked(), tmp_path, workers=0)
    for module in ("machines", "store", "run"):
        monkeypatch.setattr(f"h2sim.sweeps.{module}.MODEL_VERSION", 99)
    frame = sweep(asked(parameters={ROWS: [8]}), tmp_path, workers=0)
    assert len(frame) == 1
    with Store(tmp_path) as store:
        assert store.other_models() == 4


def test_a_budget_counts_machines_and_an_exhausted_space_ends_well(tmp_path):
    frame = sweep(asked(method="random", budget=3), tmp_path / "a", workers=0)
    assert len(frame) == 3
    frame = sweep(asked(method="random", budget=30), tmp_path / "b", workers=0)
    assert len(frame) == 4
    with Store(tmp_path / "b") as store:
        assert store.facts["exhausted"] is True


@pytest.mark.parametrize(
    ("machine", "path", "values"),
    [
        ("sata", "array.rows", [8, 32]), ("sata", "buffers.u.banks", [16, 32]),
        ("prosperity", "array.tile_rows", [64, 256]), ("bit-sparse-128", "array.lanes", [64, 128]),
        ("ptb", "array.window", [2, 4]), ("ptb", "array.placement", ["strided", "contiguous"]),
        ("sato", "array.pes", [64, 128]), ("sato", "array.fc", ["rows", "spread"]),
        ("loas", "array.tppes", [8, 16]), ("loas", "array.chunk", [64, 128]),
        ("dense-array", "array.overlap_skew", [True, False]),
        ("dense-array", "memory.bandwidth_bytes_per_s", [10**10, 10**11]),
    ],
)  # fmt: skip
def test_parameters_of_every_rival_are_axes(tmp_path, machine, path, values):
    asked_for = {"arch": machine, "traces": ["mnist-digits"], "parameters": {path: values}}
    frame = sweep(asked_for, tmp_path, workers=0)
    assert frame["status"].tolist() == ["ok", "ok"]
    assert frame[path].tolist() == values
    first, second = (tuple(frame[name].iloc[row] for name in ("seconds", "energy_j", "area_mm2")) for row in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("machine", "path", "value", "message"),
    [
        ("prosperity", "array.tile_columns", 65, "less than or equal to 64; got 65"),
        ("bit-sparse-128", "array.sparsity", "byte", "'product' or 'bit'; got 'byte'"),
        ("ptb", "array.window", 0, "greater than or equal to 1; got 0"),
        ("ptb", "array.padding", "none", "'window' or 'power_of_two'; got 'none'"),
        ("sato", "array.dispatch", "random", "'arrival' or 'sorted'; got 'random'"),
        ("loas", "array.chunk", 100, "a multiple of 64; got 100"),
        ("sata", "array.skip", "zeros", "'none'; got 'zeros'"),
        ("dense-array", "array.rows", 0, "greater than or equal to 1; got 0"),
    ],
)
def test_a_value_that_a_rival_cannot_have_is_refused_in_a_line(tmp_path, machine, path, value, message):
    done = CliRunner().invoke(main, ["run", machine, "mnist-digits", "--set", f"{path}={value}"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"{path}: " in done.stderr
    assert done.stderr.endswith(f"{message}\n")
    good = getattr(h2sim.load_machine(machine).array, path.partition(".")[2])
    frame = sweep(
        {"arch": machine, "traces": ["mnist-digits"], "parameters": {path: [good, value]}}, tmp_path, workers=0
    )
    assert frame["status"].tolist() == ["ok", "invalid"]
    assert message in frame["error"].iloc[1]


def test_a_rival_is_swept_like_any_machine(tmp_path):
    fields = {"arch": "spinalflow", "traces": ["mnist-digits"]}
    base = h2sim.load_machine("spinalflow")
    path = next(name for name in ("clock_hz", "engine.clock_hz") if "clock_hz" in name and hasattr(base, "clock_hz"))
    frame = sweep({**fields, "parameters": {path: [100_000_000, 200_000_000]}}, tmp_path, workers=0)
    assert frame["status"].tolist() == ["ok", "ok"]
    table = h2sim.load_energy_table("28nm")
    fast = h2sim.simulate(base.model_copy(update={"clock_hz": 200_000_000}), h2sim.load_trace("mnist-digits"), table)
    assert frame["seconds"].iloc[1] == fast.totals().seconds
