"""Specs: what they mean, and that every fault is found before the first point, with file, line and nearest name."""

from __future__ import annotations

from itertools import islice

import pytest

from h2sim import sweep
from h2sim.errors import SweepError
from h2sim.sweeps import space
from h2sim.sweeps.plan import make_plan
from h2sim.sweeps.spec import load_spec, parse_spec
from h2sim.sweeps.store import Store

ROWS, COLUMNS = "engines.backward.rows", "engines.backward.columns"


def spec(**fields):
    return {"traces": ["mnist-digits"], "parameters": {ROWS: [8, 16]}, **fields}


def choices(**fields):
    return list(make_plan(parse_spec(spec(**fields))).choices())


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ([8, 16, 8], [8, 16]), (8, [8]), ({"log2": [4, 64]}, [4, 8, 16, 32, 64]), ({"range": [2, 10, 4]}, [2, 6, 10]),
        ({"range": [3, 5]}, [3, 4, 5]), ({"range": [8, 2, -3]}, [8, 5, 2]), ({"log2": [3, 12]}, [3, 6, 12]),
    ],
)  # fmt: skip
def test_an_axis_takes_the_values_that_it_says(axis, values):
    assert [choice[ROWS] for choice in choices(parameters={ROWS: axis})] == values


def test_a_tile_of_two_numbers_is_height_and_width():
    plan = make_plan(parse_spec(spec(parameters={"tile": [4, 8]})))
    (choice,) = plan.choices()
    assert choice == {"tile": [4, 8]}
    design = plan.machines.design(choice)
    assert plan.machines.base.with_(design.arch).tile.size == (4, 8)


def test_derived_fields_follow_and_conditions_switch_parameters_off():
    fields = {
        ROWS: [8, 32],
        "engines.backward.columns": {"derive": f"1024 // {ROWS}"},
        "engines.backward.parallelism": {"values": [2, 4], "when": f"{ROWS} == 32"},
    }
    plan = make_plan(parse_spec(spec(parameters=fields)))
    shown = [plan.machines.design(choice).parameters for choice in plan.choices()]
    rows, columns, lanes = ROWS, "engines.backward.columns", "engines.backward.parallelism"
    assert {tuple(p.get(path) for path in (rows, columns, lanes)) for p in shown} == {
        (8, 128, None), (32, 32, 2), (32, 32, 4)
    }  # fmt: skip


def test_in_its_own_expression_a_field_is_what_the_file_says():
    fields = {ROWS: {"derive": f"{ROWS} * factor", "when": "factor > 1"}}
    plan = make_plan(parse_spec(spec(variables={"factor": [1, 2]}, parameters=fields)))
    assert [plan.machines.design(choice).arch for choice in plan.choices()] == [{}, {ROWS: 32}]


def test_constraints_on_fields_shape_the_space():
    assert [c[ROWS] for c in choices(parameters={ROWS: {"log2": [4, 64]}}, constraints=[f"{ROWS} * 4 <= 64"])] == [
        4,
        8,
        16,
    ]


def test_constraints_leave_of_a_grid_what_they_would_leave_of_a_list_in_its_order(monkeypatch):
    fields = {
        "parameters": {
            ROWS: [8, 16, 32],
            "engines.backward.columns": {"derive": f"256 // {ROWS}"},
            "tile": {"values": [[8, 8], [4, 8], [7, 7]]},
            "memory.bandwidth_bytes_per_s": ["64 GB/s", "128 GB/s"],
            "engines.backward.parallelism": {"values": [2, 4], "when": "tile.height != 7"},
        },
        "constraints": [f"{ROWS} * engines.backward.parallelism <= 64", "tile.height * engines.backward.columns < 200"],
    }
    plan = make_plan(parse_spec(spec(**fields)))
    found, size = list(plan.space.grid()), plan.space.size
    free = make_plan(parse_spec(spec(**{**fields, "constraints": []})))
    assert found == [choice for choice in free.space.grid() if plan.machines.admits(choice)]
    assert 0 < len(found) < size == 36
    monkeypatch.setattr(space, "MOST_LISTED", 0)
    assert list(plan.space.grid()) == found


def test_constraints_that_no_point_meets_are_found_in_a_space_of_any_size():
    """Of 4 x 10^39 choices the four that decide are looked at."""
    bits = {f"v{n}": list(range(1000)) for n in range(13)}
    fields = {"variables": bits, "parameters": {ROWS: [8, 16], "engines.backward.columns": [32, 64]}}
    for method in ("grid", "random"):
        with pytest.raises(SweepError, match=r"got none for engines.backward.rows \* engines.backward.columns < 256"):
            make_plan(
                parse_spec(spec(method=method, constraints=[f"{ROWS} * engines.backward.columns < 256"], **fields))
            )
    found = make_plan(parse_spec(spec(constraints=[f"{ROWS} * engines.backward.columns < 512"], **fields))).choices()
    assert {choice[ROWS] for choice in islice(found, 2000)} == {8}


def test_a_trace_that_no_point_can_run_is_refused_before_the_first_one(tmp_path):
    """Only the first one has a fifth convolution."""
    options = {"layer": "conv5", "phase": "forward"}
    with pytest.raises(SweepError) as error:
        sweep(spec(traces=["mnist-table34", "mnist-digits"], options=options), tmp_path / "none", workers=0)
    said = str(error.value)
    assert said.startswith("spec: traces.1: expected a trace that some point can run; got mnist-digits: "), said
    assert "layer 'conv5': no such layer" in said
    with Store(tmp_path / "none") as store:
        assert store.counts() == {}
    assert len(sweep(spec(traces="mnist-table34", options=options), tmp_path / "some", workers=0)) == 2


@pytest.mark.parametrize(("package", "extra", "asked"), [
    ("optuna", "sweep", {"method": "tpe"}), ("distributed", "cluster", {}),
])  # fmt: skip
def test_a_package_that_is_not_there_is_one_line(tmp_path, monkeypatch, package, extra, asked):
    monkeypatch.setattr("h2sim.sweeps.run.find_spec", lambda name: None)
    with pytest.raises(SweepError, match=rf"^{package}: expected the package, it comes with h2sim\[{extra}\]"):
        sweep(spec(**asked), tmp_path / "out", dask="tcp://127.0.0.1:1" if package == "distributed" else None)


def test_a_field_of_the_energy_table_is_an_axis():
    plan = make_plan(parse_spec(spec(parameters={"offchip.energy_pj_per_bit": [4, 6]})))
    designs = [plan.machines.design(choice) for choice in plan.choices()]
    assert [d.table for d in designs] == [{"offchip.energy_pj_per_bit": 4}, {"offchip.energy_pj_per_bit": 6}]
    assert len({d.ids for d in designs}) == 2


def test_the_same_machine_in_two_spellings_is_one_point():
    plan = make_plan(
        parse_spec(spec(parameters={"memory.bandwidth_bytes_per_s": ["128 GB/s", 128_000_000_000, 128e9]}))
    )
    assert len({plan.machines.design(choice).ids for choice in plan.choices()}) == 1
    (base,) = plan.machines.base_ids
    assert plan.machines.design({}).ids == (base,)


def test_a_list_of_points_is_tried_as_it_stands():
    points = [{ROWS: 8, "tile": [4, 8]}, {ROWS: 32}]
    assert choices(method="list", parameters={}, points=points) == points


def test_values_of_the_command_line_take_the_place_of_the_specs(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("traces: [mnist-digits]\nparameters:\n  engines.backward.rows: [8]\n")
    written = load_spec(file, ("engines.backward.rows=8,32", "tile=[8, 8],[4, 8]", "budget=7", "method=random"))
    assert written.spec.parameters[ROWS].choices() == [8, 32]
    assert written.spec.parameters["tile"].choices() == [[8, 8], [4, 8]]
    assert (written.spec.budget, written.spec.method) == (7, "random")


def test_a_machine_that_cannot_be_is_a_design_with_a_fault():
    plan = make_plan(parse_spec(spec(parameters={"engines.forward.sub_lut_size": [8, 6]})))
    good, bad = (plan.machines.design(choice) for choice in plan.choices())
    assert good.fault is None
    assert "sub_lut_size: must be a power of two; got 6" in bad.fault


FAULTY = [
    ("parameters: {engines.backward.row: [1]}",
     "line 2: parameters.engines.backward.row: unknown field; did you mean 'engines.backward.rows'?"),
    ("parameters: {engines.backward.rows: []}", "line 2: parameters.engines.backward.rows.values: expected"),
    ("parameters: {engines.backward.rows: {log2: [4, 100]}}", "line 2: parameters.engines.backward.rows: log2"),
    ("parameters: {engines.backward.rows: {vlues: [4]}}", "unknown field; did you mean 'values'?"),
    ("parameters: {engines.backward.rows: {range: [1, 5, 0]}}", "range: expected a step"),
    ("parameters: {engines.backward.rows: {uniform: [1, 5]}}", "expected values for method grid"),
    ("parameters: {engines.backward.rows: {derive: 'engines.backward.colums * 2'}}",
     "did you mean 'engines.backward.columns'?"),
    ("parameters: {engines.backward.rows: {derive: 'open(1)'}}", "no function open"),
    ("parameters:\n  engines.backward.rows: {derive: engines.backward.columns}\n"
     "  engines.backward.columns: {derive: engines.backward.rows}",
     "line 3: parameters.engines.backward.rows: expected no circle"),
    ("constraints: [area_mm < 4]", "line 2: constraints.0: area_mm: unknown field"),
    ("constraints: [area_mm2 < 4, area_mm2 > 5]",
     "line 2: constraints.1: expected constraints that some point can meet; got area_mm2 > 5 and < 4"),
    ("parameters: {engines.backward.rows: [8]}\nconstraints: [engines.backward.rows > 8]",
     "expected constraints that some point can meet; got none"),
    ("objectives: {secnds: minimize}", "line 2: objectives.secnds: unknown result; did you mean 'seconds'?"),
    ("objectives: {seconds: smallest}", "objectives.seconds: expected 'minimize' or 'maximize'"),
    ("energy_tables: [28mn]", "line 2: energy_tables.0: 28mn: no such energy table file"),
    ("arch: h2lern", "line 2: arch: h2lern: no such arch file"),
    ("budget: 0", "budget: expected greater than or equal to 1; got 0"),
    ("method: brute", "method: expected 'grid'"),
    ("method: list", "points: expected at least one"),
    ("variables: {tile: [1]}", "line 2: variables.tile: expected a name that is no field"),
    ("options: {layer: conv1}", "expected layer and phase together"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), FAULTY, ids=[text[:40] for text, _ in FAULTY])
def test_a_fault_is_refused_with_file_line_and_nearest_name(tmp_path, text, said):
    file = tmp_path / "spec.yaml"
    file.write_text(f"traces: [mnist-digits]\n{text}\n")
    with pytest.raises(SweepError) as error:
        make_plan(load_spec(file), tmp_path)
    assert any(said in line and line.startswith(str(file)) for line in error.value.lines), str(error.value)


def test_traces_that_are_missing_or_twice_are_refused(tmp_path):
    with pytest.raises(SweepError, match=r"traces\.1: nowhere\.npz: no such trace file"):
        make_plan(parse_spec(spec(traces=["mnist-digits", "nowhere.npz"])))
    with pytest.raises(SweepError, match="expected each once; got 'mnist-digits' again"):
        make_plan(parse_spec(spec(traces=["mnist-digits", "mnist-digits"])))


def test_a_synthetic_trace_is_drawn_once_and_the_same(tmp_path):
    drawn = {"network": "mnist-small", "sparsity": 0.8, "batch": 1, "name": "s"}
    first = make_plan(parse_spec(spec(traces=[drawn])), tmp_path / "a")
    second = make_plan(parse_spec(spec(traces=drawn)), tmp_path / "b")
    assert [t.name for t in first.traces] == ["s"]
    assert first.traces[0].sha256 == second.traces[0].sha256


def test_drawn_points_are_distinct_and_the_same_for_a_seed():
    fields = {"parameters": {ROWS: {"log2": [4, 64]}, "tile": {"values": [[8, 8], [4, 8]]}}, "budget": 6}
    for method in ("random", "latin-hypercube"):
        one, two = (list(make_plan(parse_spec(spec(method=method, seed=3, **fields))).choices())[:6] for _ in range(2))
        assert one == two
        assert len({str(choice) for choice in one}) == 6
    assert list(make_plan(parse_spec(spec(method="random", seed=4, **fields))).choices())[:6] != one


def test_a_latin_hypercube_has_a_point_in_each_part_of_each_axis():
    fields = {"parameters": {"memory.bandwidth_bytes_per_s": {"uniform": [0, 10]}, "clock_hz": {"uniform": [0, 1]}}}
    found = list(islice(make_plan(parse_spec(spec(method="latin-hypercube", budget=10, **fields))).choices(), 10))
    assert sorted(int(c["memory.bandwidth_bytes_per_s"]) for c in found) == list(range(10))
    assert sorted(int(10 * c["clock_hz"]) for c in found) == list(range(10))


def test_a_space_smaller_than_the_budget_is_tried_whole():
    fields = {"parameters": {ROWS: [8, 16, 32], "tile": {"values": [[8, 8], [4, 8]]}}, "budget": 100}
    assert len(list(make_plan(parse_spec(spec(method="random", **fields))).choices())) == 6


def test_numbers_of_a_range_are_rounded_where_the_field_is_whole():
    axes = {ROWS: {"uniform": [1, 64]}, "memory.bandwidth_bytes_per_s": {"log_uniform": [1e9, 1e12]}}
    plan = make_plan(parse_spec(spec(method="random", budget=5, parameters=axes)))
    designs = [plan.machines.design(choice) for choice in islice(plan.choices(), 5)]
    assert not any(design.fault for design in designs)
    assert all(isinstance(value, int) for design in designs for value in design.arch.values())
    assert len({design.arch[ROWS] for design in designs}) > 1
