"""Guided search: the same machines whatever runs them and wherever it was killed; better ones than chance; an end."""

from __future__ import annotations

import warnings

import pytest

optuna = pytest.importorskip("optuna")

from h2sim.sweeps import coordinate, guided  # noqa: E402
from h2sim.sweeps.expressions import parse_expression  # noqa: E402
from h2sim.sweeps.frame import rows_of  # noqa: E402
from h2sim.sweeps.plan import make_plan  # noqa: E402
from h2sim.sweeps.run import employ, run_plan, sweep  # noqa: E402
from h2sim.sweeps.session import FAILED, Found, Session  # noqa: E402
from h2sim.sweeps.spec import parse_spec  # noqa: E402
from h2sim.sweeps.store import Store  # noqa: E402

ROWS, COLUMNS, LANES = (f"engines.backward.{field}" for field in ("rows", "columns", "parallelism"))
BANDWIDTH = "memory.bandwidth_bytes_per_s"
AXES = {
    ROWS: {"log2": [4, 64]},
    COLUMNS: {"log2": [8, 128]},
    "engines.forward.rows": {"log2": [16, 64]},
    "engines.weight_update.columns": {"log2": [64, 256]},
}  # 225 machines
INLINE = employ(0, None)
METHODS = ["nsga2", "tpe"]


def spec(method="nsga2", **fields):
    return {"traces": "mnist-digits", "method": method, "parameters": AXES, "budget": 30, "seed": 1, **fields}


def run(folder, watch=lambda tally, found: None, by=INLINE, **fields):
    plan = make_plan(parse_spec(spec(**fields)), folder)
    with run_plan(plan, folder, by, watch) as store:
        return plan, list(rows_of(plan, store)), store.facts


def ids(rows):
    return [row.design.id for row in rows]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(guided, "BATCH", {"nsga2": 10, "tpe": 8})
    monkeypatch.setattr(guided, "MOST_REPEATS", 20)


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_counts_different_machines_and_the_same_seed_finds_the_same_ones(tmp_path, method):
    _, first, facts = run(tmp_path / "a", method=method)
    _, again, _ = run(tmp_path / "b", method=method)
    _, other, _ = run(tmp_path / "c", method=method, seed=2, budget=10)
    assert ids(first) == ids(again)
    assert ids(first)[:10] != ids(other)
    assert len(set(ids(first))) == len(first) == 30
    assert facts["ended"]
    assert not facts["exhausted"]


@pytest.mark.parametrize("method", METHODS)
def test_a_search_that_was_killed_ends_where_it_would_have_ended(tmp_path, method, monkeypatch):
    monkeypatch.setattr(coordinate, "MOST_IN_BATCH", 2)
    _, whole, _ = run(tmp_path / "whole", method=method)
    for kill in (3, 13, 24):  # the last batch is not full

        def watch(tally, found, kill=kill):
            if tally.done + tally.there >= kill:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", watch, method=method)
    with Store(tmp_path / "killed") as store:
        before = {design.id for design in store.designs()}
        assert not store.facts["ended"]
    assert 0 < len(before) < 30
    assert before < set(ids(whole))
    _, resumed, facts = run(tmp_path / "killed", method=method)
    assert ids(resumed) == ids(whole)
    assert [row.numbers for row in resumed] == [row.numbers for row in whole]
    assert facts["ended"]
    assert facts["optuna"] == [optuna.__version__]


@pytest.mark.parametrize("method", METHODS)
def test_a_larger_budget_goes_on_with_the_same_search(tmp_path, method):
    _, long, _ = run(tmp_path / "long", method=method)
    run(tmp_path / "short", method=method, budget=17)
    _, longer, _ = run(tmp_path / "short", method=method)
    assert ids(longer) == ids(long)


def test_two_workers_find_what_one_finds(tmp_path):
    one = run(tmp_path / "one", by=employ(1, None))[1]
    two = run(tmp_path / "two", by=employ(2, None))[1]
    assert ids(one) == ids(two)
    assert [row.numbers for row in one] == [row.numbers for row in two]


@pytest.mark.parametrize("method", METHODS)
def test_a_space_that_the_budget_covers_is_run_whole(tmp_path, method):
    _, rows, facts = run(tmp_path, method=method, parameters={ROWS: [8, 16], COLUMNS: [32, 64]})
    assert len(rows) == 4
    assert facts["exhausted"]


@pytest.mark.parametrize("method", METHODS)
def test_a_space_with_fewer_machines_than_choices_is_searched_to_its_end(tmp_path, method):
    """20 of 40 choices meet the constraint; those that share a machine are one."""
    idle = {"idle": {"range": [1, 4]}}
    axes = {ROWS: {"log2": [4, 64]}, COLUMNS: [32, 64]}
    limits = [f"{ROWS} * {COLUMNS} <= 512"]
    _, rows, facts = run(tmp_path, method=method, parameters=axes, variables=idle, constraints=limits)
    assert sorted((row.design.parameters[ROWS], row.design.parameters[COLUMNS]) for row in rows) == [
        (4, 32), (4, 64), (8, 32), (8, 64), (16, 32)
    ]  # fmt: skip
    assert facts["exhausted"]


def test_a_search_among_numbers_that_hardly_a_constraint_admits_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(guided, "MOST_MISSES", 60)
    share = {"share": {"uniform": [0, 1]}}
    _, rows, facts = run(tmp_path, variables=share, constraints=["share < 1e-3"], parameters={ROWS: {"log2": [8, 16]}})
    assert len(rows) < 30
    assert facts["exhausted"]


@pytest.mark.parametrize("method", METHODS)
def test_constraints_lead_the_search(tmp_path, method):
    """One on fields, which half of the machines meet, and one on results; chance finds 14 that meet both."""
    axes = {**AXES, "engines.forward.columns": {"log2": [8, 64]}}
    limits = [f"{ROWS} * {COLUMNS} >= 512", "area_mm2 < 30"]
    _, rows, _ = run(tmp_path, method=method, budget=60, parameters=axes, constraints=limits)
    assert all(row.design.parameters[ROWS] * row.design.parameters[COLUMNS] >= 512 for row in rows)
    assert {row.status for row in rows} == {"ok", "invalid"}
    assert sum(row.status == "ok" for row in rows) >= 20


def mean_of(rows, name, last):
    return sum(row.value(name) for row in rows[-last:]) / last


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_search_goes_where_the_objective_points(tmp_path, method, direction):
    _, rows, _ = run(tmp_path, method=method, budget=40, objectives={"samples_per_second": direction})
    late = mean_of(rows, "samples_per_second", 12)
    early = mean_of(rows[:12], "samples_per_second", 12)
    assert late > early if direction == "maximize" else late < early


@pytest.mark.parametrize("method", METHODS)
def test_conditions_words_tiles_and_numbers_of_a_range_are_axes(tmp_path, method):
    axes = {
        "tile": {"values": [[8, 8], [4, 8]]},
        ROWS: {"values": [32, 8, 16]},
        LANES: {"values": [2, 4], "when": f"{ROWS} == 32"},
        COLUMNS: {"derive": f"1024 // {ROWS}"},
        BANDWIDTH: {"derive": "round(speed)"},
        "clock_hz": 800_000_000,
    }
    speed = {"speed": {"log_uniform": [16e9, 256e9]}}
    _, rows, facts = run(tmp_path, method=method, budget=25, parameters=axes, variables=speed)
    assert len(set(ids(rows))) == 25
    assert {row.status for row in rows} == {"ok"}
    shown = [row.design.parameters for row in rows]
    assert {(LANES in p) == (p[ROWS] == 32) for p in shown} == {True}
    assert {p[ROWS] for p in shown} == {8, 16, 32}
    assert {tuple(p["tile"]) for p in shown} == {(8, 8), (4, 8)}
    assert all(16e9 <= p[BANDWIDTH] <= 256e9 for p in shown)
    assert not facts["exhausted"]


def test_numbers_are_neighbours_in_their_order_and_words_are_not():
    axes = {ROWS: {"values": [32, 8, 16]}, "tile": {"values": [[8, 8], [4, 8]]}, "clock_hz": 8e8}
    plan = make_plan(parse_spec(spec(parameters=axes)))
    coding = guided._Coding(plan.space)
    assert coding.distributions == {
        ROWS: optuna.distributions.IntDistribution(0, 2),
        "tile": optuna.distributions.CategoricalDistribution((0, 1)),
    }
    assert coding.choice({ROWS: 1, "tile": 1}) == {ROWS: 16, "tile": [4, 8], "clock_hz": 8e8}


def test_machines_that_cannot_be_and_points_that_fail_are_left_behind(tmp_path, monkeypatch):
    """A sub-LUT of 12 entries is no machine; a run with 64 columns fails."""
    real = Session.run

    def some_fail(self, task, **options):
        found = real(self, task, **options)
        if task.arch.get(COLUMNS) != 64:
            return found
        return [Found(each.point, each.design, each.trace, FAILED, {}, "for this test") for each in found]

    monkeypatch.setattr(Session, "run", some_fail)
    axes = {**AXES, "engines.forward.sub_lut_size": {"values": [4, 8, 12]}}
    _, rows, _ = run(tmp_path, parameters=axes, budget=80)
    bad = [row.status != "ok" for row in rows]
    assert {row.status for row in rows} == {"ok", "invalid", "failed"}
    assert sum(bad[-30:]) < sum(bad[:30])


def test_an_objective_over_two_traces_is_their_mean(tmp_path):
    fields = {"traces": ["mnist-digits", {"network": "mnist-small", "sparsity": 0.9, "name": "drawn"}]}
    objectives = {"seconds": "minimize", "energy_j[drawn]": "minimize"}
    told = []
    ask = optuna.Study.tell

    def tell(self, trial, values=None, **options):
        told.append(values)
        return ask(self, trial, values, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.Study, "tell", tell)
        _, rows, _ = run(tmp_path, **fields, budget=10, objectives=objectives, energy_tables=["28nm", "45nm"])
    first = [row for row in rows if row.design.energy_table == "28nm"]
    assert len(rows) == 20
    assert [row.value("seconds") for row in first] == [
        pytest.approx((row.value("seconds[mnist-digits]") * row.value("seconds[drawn]")) ** 0.5) for row in first
    ]
    assert [values for values in told if values] == [
        [row.value("seconds"), row.value("energy_j[drawn]")] for row in first
    ]


def test_optuna_is_quiet_and_stays_as_it_was(tmp_path, capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path, budget=12)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert not caught
    assert capfd.readouterr().err == ""


def test_a_search_from_python_gives_its_frame(tmp_path):
    found = sweep(spec(budget=12, energy_tables=["28nm", "45nm"]), tmp_path, workers=0)
    assert len(found) == 24
    assert found["id"].is_unique


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ("area < 120", 0), ("area < 40", 0.5), ("40 > area", 0.5), ("area < 60", 1e-9), ("area <= 60", 0),
        ("area * 2 <= area", 1), ("area >= 80", 0.25), ("area < 0", 60), ("area == 48", 0.25), ("area != 60", 1),
        ("area < 120 and area < 50", 0.2), ("area < 50 and area / 0 < 1", 0.2), ("area < 50 or area < 48", 0.2),
        ("not area > 50", 1), ("area if kind == 'a' else 0", 0), ("kind == 'b'", 1), ("10 < area < 20", 1),
    ],
)  # fmt: skip
def test_a_constraint_says_by_how_much_it_is_missed(text, excess):
    names = {"area": 60, "kind": "a"}
    assert parse_expression(text, "here").excess(names.__getitem__) == pytest.approx(excess)
