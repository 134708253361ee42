"""The quick slice of the co-simulation: RTL, stepped and fast engines agree; and would not if one were changed.

`h2sim rtl check` is the long run; its record is reports/rtl-record.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from h2sim.arch import load_arch
from h2sim.rtl.bench import AmaranthBench, VerilatorBench, has_verilator
from h2sim.rtl.check import ENGINES, Report, check_machine, machines
from h2sim.rtl.layers import layers
from h2sim.rtl.mutations import MUTATIONS, check_mutations, mutation_machine

H2LEARN = load_arch("h2learn")
ROOT = Path(__file__).parents[2]
RARE = {"samples first timestep first (stepped)"}  # shows in a few of a thousand layers: the long run looks for it
needs_verilator = pytest.mark.skipif(
    not has_verilator(), reason="no Verilator here: Amaranth's simulator runs its cases"
)


@pytest.mark.parametrize("hardware", machines(H2LEARN, 6, seed=1)[3:], ids=lambda h: h.engine)
def test_amaranths_simulator_agrees_with_both_engines(hardware):
    report = check_machine(hardware, range(6), folder=None)
    assert report.n_cases == 6
    assert report.disagreements == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A machine of each engine, compiled once: (hardware, bench) by engine."""
    root = tmp_path_factory.mktemp("rtl")
    found = {engine: mutation_machine(H2LEARN, engine) for engine in ENGINES}
    return {engine: (each, VerilatorBench(each.parameters(), root / engine)) for engine, each in found.items()}


@needs_verilator
@pytest.mark.parametrize(("engine", "cases"), [("forward", 40), ("weight_update", 100), ("backward", 160)])
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


def test_the_committed_record_is_of_ten_thousand_cases_without_a_disagreement():
    record = (ROOT / "reports" / "rtl-record.md").read_text()
    cases, wrong = re.search(r"\*\*([\d,]+) cases, (\d+) disagreements\*\*", record).groups()
    assert int(cases.replace(",", "")) >= 10_000
    assert wrong == "0"
    for mutation in MUTATIONS:
        counts = re.findall(rf"\| {mutation.engine} \|.*\| {re.escape(mutation.name)} \| ([\d,]+) \|", record)
        assert [int(c.replace(",", "")) > 0 for c in counts] == [True], mutation.name
