"""What is said of a sweep: of real machines on a shipped trace, and of made-up ones where the answer is known."""

from __future__ import annotations

import fcntl
import os
import re

import pytest
import yaml

from h2sim import load_energy_table, load_trace, simulate
from h2sim.document import Number, to_csv, to_text
from h2sim.energy import parse_energy_table
from h2sim.errors import SweepError
from h2sim.report.sweep import (
    LiveLine,
    point_table_yaml,
    point_yaml,
    status_document,
    sweep_document,
    table_document,
)
from h2sim.report.sweep_words import parameter_text, short_names
from h2sim.rivals.registry import parse_machine
from h2sim.sweeps.coordinate import Tally
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import frame_of, rows_of
from tests.helpers.sweeps import run_inline, stored

ROWS, COLUMNS = "engines.backward.rows", "engines.backward.columns"
PRICE = "energy_table.offchip.energy_pj_per_bit"
SPEC = {
    "traces": ["mnist-digits"],
    "energy_tables": ["28nm", "45nm"],
    "parameters": {
        ROWS: [8, 16, -1],
        COLUMNS: [32, 64],
        "tile": {"values": [[8, 8], [4, 8]]},
        "memory.bandwidth_bytes_per_s": [128e9, 256e9],
        PRICE: [3.97, 4.5],
    },
    "constraints": ["area_mm2 < 90"],
}
MADE = {
    "traces": ["mnist-digits"],
    "parameters": {ROWS: [1, 2, 3, 4], COLUMNS: [1, 2, 4]},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    plan, store = run_inline(SPEC, tmp_path_factory.mktemp("swept"))
    with store:
        yield plan, store


def made(results, folder, base=(1.0, 1.0, 1.0), **changes):
    return stored({**MADE, **changes}, folder, results, base)


def one(parameters):
    """A machine that is faster and larger the more rows, and thriftier and larger the more columns it has."""
    rows, columns = parameters[ROWS], parameters[COLUMNS]
    return {"seconds": 2 / rows, "energy_j": 2 / columns, "area_mm2": 0.4 * rows * columns}


def said(document):
    return to_text(document)


def ids(table):
    place = [column.name for column in table.columns].index("id")
    return [row[place] for row in table.rows]


def test_every_point_written_as_files_comes_to_the_numbers_of_its_row(swept):
    plan, store = swept
    trace = load_trace("mnist-digits")
    frame = frame_of(plan, store)
    valid = frame[frame.status == "ok"]
    for row in valid[:: max(1, len(valid) // 6)].itertuples():
        machine = parse_machine(yaml.safe_load(point_yaml(plan, store, row.id)), "point")
        table = parse_energy_table(yaml.safe_load(point_table_yaml(plan, store, row.id)), "table")
        result = simulate(machine, trace, table)
        assert machine.name == f"h2learn-{row.id}"
        assert result.steady_seconds == row.seconds
        assert result.cost.energy_j == row.energy_j
        assert result.cost.area.total_um2 / 1e6 == row.area_mm2


def test_a_point_that_changes_no_price_runs_with_the_table_of_its_name(tmp_path):
    plan, store = run_inline({"traces": ["mnist-digits"], "parameters": {ROWS: [8]}}, tmp_path)
    with store:
        (row,) = rows_of(plan, store)
        text = point_yaml(plan, store, row.id[:3])
    machine = parse_machine(yaml.safe_load(text), "point")
    result = simulate(machine, load_trace("mnist-digits"), load_energy_table("28nm"))
    assert result.cost.energy_j == row.value("energy_j")
    assert "#   h2sim run FILE mnist-digits --energy-table 28nm\n" in text
    assert repr(row.value("energy_j")) in text


def test_a_point_that_changes_prices_says_where_its_table_comes_from(swept):
    plan, store = swept
    row = next(row for row in rows_of(plan, store) if row.status == "ok")
    text = point_yaml(plan, store, row.id)
    assert f" {row.id} --table > TABLE\n" in text
    assert "--energy-table TABLE" in text
    assert f"name: {row.design.energy_table}-{row.id}" in point_table_yaml(plan, store, row.id)


@pytest.mark.parametrize(("prefix", "wrong"), [
    ("", r"^'': expected the beginning of an id; nearest are [0-9a-f]{12}, .* and \d+ more$"),
    ("xyz", r"^'xyz': expected the beginning of an id; nearest are"),
    ("%~", r"^'%~': expected the beginning of an id"),
])  # fmt: skip
def test_an_unknown_id_is_answered_with_the_nearest_in_one_line(swept, prefix, wrong):
    with pytest.raises(SweepError, match=wrong):
        point_yaml(*swept, prefix)


def test_an_ambiguous_id_names_those_that_begin_so(swept):
    plan, store = swept
    first = {}
    for design in store.designs():
        first.setdefault(design.id[0], []).append(design.id)
    letter, several = next((k, v) for k, v in first.items() if len(v) > 1)
    with pytest.raises(SweepError, match=rf"^{letter}: expected the beginning of one id; got that of {len(several)}: "):
        point_yaml(plan, store, letter)


def test_a_point_that_is_no_machine_has_no_file(swept):
    plan, store = swept
    row = next(row for row in rows_of(plan, store) if "got -1" in (row.error or ""))
    for written in (point_yaml, point_table_yaml):
        with pytest.raises(SweepError, match=r"expected a machine that can be; got h2learn: engines\.backward\.rows"):
            written(plan, store, row.id)


def test_a_sweep_of_real_machines_says_which_is_best_and_what_limits_it(swept):
    text = said(sweep_document(*swept))
    assert re.match(
        r"best of \d+ machines under area_mm2 < 90, energy table 28nm: [0-9a-f]{12}, 1\.\d\dx faster than h2learn "
        r"at equal or less area\. What limits it: .*, \d+% of the step; with memory that takes no time it would be",
        text,
    )
    assert "got -1" in text
    assert "got area_mm2 = " in text
    assert f"points change prices ({PRICE})" in text
    assert "Best machines, energy table 45nm" in text
    assert "Pareto front under 45nm: " in text


def test_the_best_machine_is_the_fastest_of_those_with_no_more_area(tmp_path):
    # within 1 mm2: 1 x 1, 2 x 1 (1.0 s: as fast as the base), 1 x 2
    plan, store = made(one, tmp_path, base=(2.0, 2.0, 1.0))
    with store:
        document = sweep_document(plan, store, limits=False)
        best = Findings.of(plan, store)
        row = best.best(best.no_worse(best.ok("28nm"), "area_mm2", "28nm"), "seconds")
    assert row.design.parameters == {ROWS: 2, COLUMNS: 1}
    assert document.verdict == f"best of 12 machines: {row.id}, 2.00x faster than h2learn at equal or less area."


def test_where_only_larger_machines_are_faster_it_says_how_much_larger(tmp_path):
    plan, store = made(one, tmp_path, base=(1.0, 1.0, 0.8))
    with store:
        document = sweep_document(plan, store, limits=False)
    assert re.fullmatch(
        r"best of 12 machines: \w{12}, 2\.00x faster than h2learn with 8\.00x its area; "
        r"none is faster at equal or less area\.", document.verdict
    )  # fmt: skip


def test_where_no_machine_is_better_it_says_so(tmp_path):
    plan, store = made(one, tmp_path, base=(0.1, 1.0, 1.0))
    with store:
        document = sweep_document(plan, store, limits=False)
    assert re.fullmatch(r"none of 12 machines is faster than h2learn: \w{12} comes to 0\.200x\.", document.verdict)


def test_without_a_base_that_runs_the_best_is_named_by_its_value(tmp_path):
    plan, store = made(one, tmp_path)
    with store:
        store.tell(base={})
        document = sweep_document(plan, store, limits=False)
        status = status_document(plan, store)
    assert re.fullmatch(
        r"best of 12 machines: \w{12}, seconds 500\.0 ms \(h2learn itself cannot be compared\)\.", document.verdict
    )
    assert "dominates" not in said(status)


def test_an_objective_that_is_maximized_is_better_the_more(tmp_path):
    def rate(parameters):
        return {**one(parameters), "samples_per_second": 10.0 * parameters[ROWS]}

    objectives = {"samples_per_second": "maximize", "area_mm2": "minimize"}
    plan, store = made(rate, tmp_path, objectives=objectives)
    base = {"seconds": 1.0, "energy_j": 1.0, "area_mm2": 10.0, "samples_per_second": 20.0}
    with store:
        store.tell(base={"mnist-digits": {"28nm": base}})
        document = sweep_document(plan, store, limits=False)
        table = table_document(plan, store, sort="samples_per_second", top=1).tables[0]
    assert "2.00x better in samples_per_second than h2learn at equal or less area" in document.verdict
    assert "most samples_per_second" in said(document)
    (row,) = table.rows
    assert [cell.value for cell in row if isinstance(cell, Number)][:2] == [4, 1]


def test_a_sweep_without_a_valid_machine_says_why(tmp_path):
    plan, store = run_inline({"traces": ["mnist-digits"], "parameters": {ROWS: [-1, -2]}}, tmp_path)
    with store:
        text = said(sweep_document(plan, store))
        assert said(table_document(plan, store)).startswith("no valid machine among 2 points.")
    assert text.startswith("no valid machine among 2 points.")
    assert "invalid       2  h2learn: engines.backward.rows: expected greater than or equal to 1; got -" in text


def test_an_exhausted_space_is_noted(tmp_path):
    plan, store = made(one, tmp_path)
    with store:
        store.tell(exhausted=True)
        assert "note: the space is exhausted: it holds fewer machines than the budget of" in said(
            sweep_document(plan, store, limits=False)
        )


def test_the_table_holds_the_front_sorted_and_no_more_than_asked_for(tmp_path):
    plan, store = made(one, tmp_path, base=(2.0, 2.0, 1.0))
    with store:
        whole = table_document(plan, store).tables[0]
        front = table_document(plan, store, pareto=True, sort="energy_j", top=5, columns=("rows",)).tables[0]
    assert len(whole.rows) == 12
    names = [column.name for column in front.columns]
    assert names[:6] == ["id", "rows", "columns", "seconds", "energy_j", "area_mm2"]
    energies = [row[4].value for row in front.rows]
    assert energies == sorted(energies)
    assert len(energies) == 5
    assert [row[names.index("x less energy")].value for row in front.rows] == [2.0 / e for e in energies]
    assert to_csv(front).splitlines()[0].startswith(f"id,{ROWS},{COLUMNS},seconds,energy_j,area_mm2")


def test_sorting_by_a_parameter_and_by_what_is_good_when_large(swept):
    plan, store = swept
    place = {}
    for by in ("rows", "backward_utilization", "samples_per_second"):
        table = table_document(plan, store, sort=by, columns=(by,)).tables[0]
        index = [column.name for column in table.columns].index(by)
        place[by] = [row[index].value for row in table.rows]
    assert place["rows"] == sorted(place["rows"])
    assert place["backward_utilization"] == sorted(place["backward_utilization"], reverse=True)
    assert place["samples_per_second"] == sorted(place["samples_per_second"], reverse=True)


@pytest.mark.parametrize(("name", "wrong"), [
    ("enrgy_j", r"^enrgy_j: unknown column; did you mean 'energy_j'\?$"),
    ("seconds[mnist]", r"^seconds\[mnist\]: unknown column; did you mean 'seconds\[mnist-digits\]'\?$"),
    ("engines.backward.row", r"^engines\.backward\.row: unknown column; did you mean 'engines\.backward\.rows'\?$"),
])  # fmt: skip
def test_an_unknown_column_is_answered_with_the_nearest(swept, name, wrong):
    for asked in ({"sort": name}, {"columns": (name,)}):
        with pytest.raises(SweepError, match=wrong):
            table_document(*swept, **asked)


def test_results_of_one_trace_are_columns(swept):
    plan, store = swept
    table = table_document(plan, store, sort="seconds[mnist-digits]", columns=("seconds[mnist-digits]",)).tables[0]
    names = [column.name for column in table.columns]
    assert [row[names.index("seconds[mnist-digits]")] for row in table.rows] == [
        row[names.index("seconds")] for row in table.rows
    ]


def test_status_says_how_far_it_is_and_whether_anybody_works_at_it(tmp_path):
    plan, store = made(one, tmp_path)
    with store:
        assert said(status_document(plan, store)).startswith("ended: 12 of 12 results (12 ok).")
        store.tell(ended=False)
        assert said(status_document(plan, store)).startswith("broken off before its end: 12 of 12 results")
        handle = os.open(tmp_path / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            assert said(status_document(plan, store)).startswith("running: 12 of 12 results")
        finally:
            os.close(handle)
        assert said(status_document(plan, store)).startswith("broken off")


def test_documents_fit_into_80_columns_and_cut_nothing(swept):
    plan, store = swept
    for document in (sweep_document(plan, store, limits=False), table_document(plan, store, pareto=True)):
        text = to_text(document, 80)
        assert max(map(len, text.splitlines())) <= 80
        for table in document.tables:
            assert all(point in text for point in ids(table)) if "id" in [c.name for c in table.columns] else True


def test_the_live_line_ends_with_what_the_store_says(tmp_path):
    lines = []
    folder = tmp_path / "sweep"
    live = None

    def watch(tally, found):
        nonlocal live
        live = live or LiveLine(plan, folder)
        lines.append(live.told(tally, found))

    from h2sim.sweeps.plan import make_plan
    from h2sim.sweeps.spec import parse_spec

    plan = make_plan(parse_spec(SPEC), folder)
    _, store = run_inline(SPEC, folder, watch)
    with store:
        findings = Findings.of(plan, store)
        front = findings.live_front("28nm", findings.ok("28nm"))
        fastest = findings.best(findings.ok("28nm"), "seconds")
    assert len(lines) > 2
    assert lines[-1].startswith("96 of 96 results; ")
    assert f"front {front.size}, hypervolume {front.hypervolume:.3f}" in lines[-1]
    assert f"best seconds {fastest.value('seconds') * 1e6:.2f} us" in lines[-1]
    for name in plan.spec.objectives:
        assert f"; best {name} " in lines[-1]
    assert "invalid" in lines[-1]


def test_without_a_folder_the_live_line_counts(tmp_path):
    plan, store = made(one, tmp_path)
    with store:
        assert re.match(r"3 of 12 results; [\d.,]+/s", LiveLine(plan).told(Tally(done=3), []))


def test_the_shortest_ends_of_paths_that_tell_them_apart():
    paths = ["engines.backward.rows", "engines.forward.rows", "tile", "memory.bandwidth"]
    assert list(short_names(paths).values()) == ["backward.rows", "forward.rows", "tile", "bandwidth"]
    assert list(short_names(["rows", "a.rows"]).values()) == ["rows", "a.rows"]


@pytest.mark.parametrize(("value", "text"), [
    (8, "8"), (128e9, "128e9"), (128_000_000_000, "128e9"), (1_000_001, "1000001"), (0.5, "0.5"), (True, "true"),
    ([4, 8], "[4, 8]"), ("dual", "dual"), (None, "-"), ({"height": 8}, "{height: 8}"),
])  # fmt: skip
def test_parameters_are_short_and_exact(value, text):
    assert parameter_text(value) == text
