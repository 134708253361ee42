"""The quick slice of the co-simulation: RTL, stepped and fast engines agree; and would not if one were changed.

`h2sim rtl check` is the long run; its record is reports/rtl-record.md.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2sim.arch import load_arch
from h2sim.rtl import bench as benches
from h2sim.rtl.bench import AmaranthBench, VerilatorBench, has_verilator
from h2sim.rtl.check import ENGINES, Report, check_machine, machines, wide_machines
from h2sim.rtl.corners import PARTIAL_ROWS, corners_drawn
from h2sim.rtl.layers import layers
from h2sim.rtl.mutations import MUTATIONS, check_mutations, mutation_machine

H2LEARN = load_arch("h2learn")
ROOT = Path(__file__).parents[2]
RARE = {"samples first timestep first (stepped)"}  # shows in a few of a thousand layers: the long run looks for it
PLANES = 4  # counts have up to so many bit planes
needs_verilator = pytest.mark.skipif(
    not has_verilator(), reason="no Verilator here: Amaranth's simulator runs its cases"
)


@pytest.mark.parametrize("hardware", machines(H2LEARN, 6, seed=1)[3:], ids=lambda h: h.engine)
def test_amaranths_simulator_agrees_with_both_engines(hardware):
    report = check_machine(replace(hardware, planes=PLANES), range(6), folder=None)
    assert report.n_cases == 6
    assert report.disagreements == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A machine of each engine, compiled once: (hardware, bench) by engine."""
    root = tmp_path_factory.mktemp("rtl")
    found = {engine: replace(mutation_machine(H2LEARN, engine), planes=PLANES) for engine in ENGINES}
    return {engine: (each, VerilatorBench(each.parameters(), root / engine)) for engine, each in found.items()}


@needs_verilator
@pytest.mark.parametrize(("engine", "cases"), [("forward", 40), ("weight_update", 60), ("backward", 160)])
def test_rtl_agrees_and_every_mutation_of_the_simulator_is_noticed(built, engine, cases):
    noticed = check_mutations(*built[engine], cases)
    assert noticed.pop("unchanged") == 0
    assert set(noticed) == {m.name for m in MUTATIONS if m.engine == engine}
    missed = {name for name, count in noticed.items() if count == 0}
    assert missed <= RARE


@needs_verilator
@pytest.mark.parametrize("engine", ENGINES)
def test_late_buffers_stall_the_array_and_change_nothing_else(built, engine):
    hardware, bench = built[engine]
    late = [layer for layer in layers(hardware, range(1000, 1400)) if layer.case.stall_seed]
    report = Report()
    for layer, run in zip(late, bench.run([layer.case for layer in late]), strict=True):
        report.add(layer, run, hardware)
    assert report.disagreements == []
    assert report.stalled_cases > 5  # of about forty; some are over before anything is late


@needs_verilator
@pytest.mark.parametrize("engine", ENGINES)
def test_both_test_benches_see_the_same_machine(built, engine):
    hardware, bench = built[engine]
    chosen = [layer for layer in layers(hardware, range(4)) if layer.case.stall_seed == 0]
    cases = [layer.case for layer in chosen]
    runs = zip(bench.run(cases), AmaranthBench(hardware.parameters()).run(cases), strict=True)
    for layer, (compiled, stepped) in zip(chosen, runs, strict=True):
        assert compiled.total_cycles == stepped.total_cycles
        assert compiled.iteration_cycles == stepped.iteration_cycles
        assert compiled.adder_conflicts == stepped.adder_conflicts
        seen = layer.read(compiled.results), layer.read(stepped.results)
        assert all(np.array_equal(seen[0][name], seen[1][name]) for name in seen[0])


@needs_verilator
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_compiled_unit_by_unit_behind_boxes_does_what_the_whole_one_does(
    built, engine, tmp_path, monkeypatch
):
    hardware, whole = built[engine]
    monkeypatch.setattr(benches, "MOST_FLAT_PES", 1)
    boxed = VerilatorBench(hardware.parameters(), tmp_path)
    assert "#define BOXED 1" in (tmp_path / "ports.h").read_text()
    cases = [layer.case for layer in layers(hardware, range(24))]
    for ours, theirs in zip(boxed.run(cases), whole.run(cases), strict=True):
        numbers = "total_cycles", "compute_cycles", "stall_cycles", "adder_conflicts", "overrun", "iteration_cycles"
        assert [getattr(ours, n) for n in numbers] == [getattr(theirs, n) for n in numbers]
        assert np.array_equal(ours.results, theirs.results)


@needs_verilator
def test_a_wide_backward_engine_agrees_in_every_corner(tmp_path):
    arch = H2LEARN.with_({"engines.backward.rows": 4, "engines.backward.columns": 9, "engines.backward.parallelism": 2})
    (hardware,) = wide_machines(arch)
    report = check_machine(hardware, range(30), tmp_path)
    assert "#define BOXED 1" in (tmp_path / "ports.h").read_text()
    assert report.disagreements == []
    assert {corner for corner, count in report.corners.items() if count} == set(corners_drawn(1))


def test_wide_machines_end_with_the_published_array():
    found = [each.arch.engines.backward for each in wide_machines(H2LEARN)]
    assert [(e.rows, e.columns, e.parallelism) for e in found] == [(4, 16, 4), (8, 32, 4), (16, 64, 4)]
    assert wide_machines(H2LEARN.with_({"engines.backward.rows": 2, "engines.backward.columns": 10})) == []


def record_of(name, planes, engines):
    """A committed record of some engines and its cases; no disagreement, and cases of every corner and mutation."""
    record = (ROOT / "reports" / name).read_text()
    cases, wrong = re.search(r"\*\*([\d,]+) cases, (\d+) disagreements\*\*", record).groups()
    assert wrong == "0"
    corners = corners_drawn(planes)
    for corner in corners if "backward" in engines else set(corners) - {PARTIAL_ROWS}:
        assert int(re.search(rf"\| {re.escape(corner)} \| ([\d,]+) \|", record)[1].replace(",", "")) > 0
    for mutation in MUTATIONS:
        if mutation.corner in (None, *corners) and mutation.engine in engines:
            corner = re.escape(mutation.corner or "any")
            row = rf"\| {mutation.engine} \|.*\| {corner} \| {re.escape(mutation.name)} \| ([\d,]+) \|"
            assert [int(c.replace(",", "")) > 0 for c in re.findall(row, record)] == [True], mutation.name
    return record, int(cases.replace(",", ""))


def test_the_committed_record_is_of_ten_thousand_cases_without_a_disagreement():
    record, cases = record_of("rtl-record.md", 1, ENGINES)
    assert cases >= 10_000
    assert re.search(r"\| backward \| 16x64x4, .* \| 120 \| [\d,]+ \| 0 \|", record)


def test_the_committed_record_of_counts_has_two_thousand_cases_of_one_to_four_planes():
    record, _ = record_of("rtl-planes.md", PLANES, ENGINES[:2])
    rows = re.findall(
        r"\| ((?:forward|weight_update)_(?:conv|fc)) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", record
    )
    cases = {kind: [int(n.replace(",", "")) for n in numbers] for kind, *numbers in rows}
    assert len(cases) == 4
    assert min(min(numbers) for numbers in cases.values()) > 0
    assert sum(sum(numbers) for numbers in cases.values()) >= 2000
