"""Does Perfetto show every interval of a timeline, and do its cycles add up?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.report.timeline import timeline_events
from tests.helpers.perfetto import dropped
from tests.helpers.traces import tiny_trace

SHIPPED = ("mnist-digits", "mnist-table34", "mnist-table34-fp16")
CLOCKS = (1, 333, 800_000_000, 1_300_000_000, 3_700_000_001)
ARCH = h2sim.load_arch("h2learn")


@pytest.fixture(scope="module", params=SHIPPED)
def result(request):
    return h2sim.simulate(ARCH, h2sim.load_trace(request.param), bounds=True)


@pytest.mark.parametrize("unit", ["ns", "cycles"])
@pytest.mark.parametrize("clock_hz", CLOCKS)
def test_perfetto_drops_no_slice(result, clock_hz, unit):
    told = timeline_events(_at(result, clock_hz), result.books, unit)
    text = json.loads(json.dumps(told))
    slices = [e for e in text["traceEvents"] if e["ph"] == "X"]
    assert len(slices) > 100
    assert dropped(slices) == []
    assert all(e["dur"] >= 0 for e in slices)


def _at(result, clock_hz):
    return replace(result, arch=result.arch.with_({"clock_hz": clock_hz}))


def test_the_rule_drops_what_overlaps_in_part():
    inside = [{"ph": "X", "pid": 1, "tid": 1, "ts": 0.0, "dur": 2.0, "name": "outer"},
              {"ph": "X", "pid": 1, "tid": 1, "ts": 1.0, "dur": 1.0, "name": "inner"}]  # fmt: skip
    assert dropped(inside) == []
    assert dropped([inside[0], {**inside[1], "dur": 1.001}]) == ["inner"]


def test_cycles_of_every_track_add_up_to_the_rows(result):
    events = timeline_events(result, result.books)["traceEvents"]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    by_track: dict[str, dict[str, int]] = {}
    for event in events:
        if event["ph"] == "X":
            sums = by_track.setdefault(tracks[event["pid"], event["tid"]], {})
            sums[event["name"]] = sums.get(event["name"], 0) + event["args"]["cycles"]
            assert event["args"]["end_cycle"] - event["args"]["start_cycle"] == event["args"]["cycles"]
    for engine in ("forward", "weight_update", "backward"):
        summary, sums = result.engine(engine), by_track[engine]
        assert sums.get("compute", 0) == summary.compute_cycles
        assert sums.get("fill", 0) == summary.fill_cycles
        assert sums.get("stall: memory read", 0) == summary.memory_read
        assert sums.get("stall: memory write", 0) == summary.memory_write
        assert sums.get("wait: dependency", 0) == summary.dependency
    for memory in ("Mem 0", "Mem 1", "Mem 2"):
        busy = sum(s.busy_cycles for s in result.activity.memory if s.memory == memory)
        assert sum(by_track[memory].values()) == busy


def test_a_counter_says_how_busy_each_memory_was(result):
    events = timeline_events(result, result.books, "cycles")["traceEvents"]
    for memory in ("Mem 0", "Mem 1", "Mem 2"):
        points = [(e["ts"], e["args"]["%"]) for e in events if e["ph"] == "C" and e["name"] == f"{memory} busy %"]
        assert all(0 <= share <= 100 for _, share in points)
        assert points[-1] == (result.activity.steady_cycles / 1000, 0)
        held = sum(share / 100 * 1000 * (after[0] - at) for (at, share), after in pairwise(points))
        busy = sum(s.busy_cycles for s in result.activity.memory if s.memory == memory)
        assert held == pytest.approx(busy, rel=1e-2)


def test_flows_lead_from_a_last_write_into_work_that_is_no_wait(result):
    events = timeline_events(result, result.books, "cycles")["traceEvents"]
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert len(starts) > 5
    assert starts.keys() == ends.keys()
    slices = {(e["pid"], e["tid"], e["ts"], e["name"].split(": ")[0]) for e in events if e["ph"] == "X"}
    for identity, left in starts.items():
        assert ends[identity]["ts"] >= left["ts"]
        entered = ends[identity]
        assert any((entered["pid"], entered["tid"], entered["ts"], name) in slices for name in ("compute", "fill"))


def test_the_command_writes_the_unit_that_was_asked_for(tmp_path):
    trace = tiny_trace(tmp_path)
    for unit in ("ns", "cycles"):
        arguments = ["run", "h2learn", str(trace), "--timeline", str(tmp_path / unit), "--timeline-unit", unit]
        assert CliRunner().invoke(main, arguments).exit_code == 0
    ns, cycles = (json.loads((tmp_path / unit).read_text()) for unit in ("ns", "cycles"))
    assert ns["otherData"]["unit"] == "1 ns is 1 ns"
    assert cycles["otherData"]["unit"] == "1 ns is one cycle"
    last = max(e["ts"] + e["dur"] for e in cycles["traceEvents"] if e["ph"] == "X")
    assert last * 1000 == max(e["args"]["end_cycle"] for e in cycles["traceEvents"] if e["ph"] == "X")
    assert all("trace_sha256" in told["otherData"] for told in (ns, cycles))


PROCESSOR = os.environ.get("H2SIM_TRACE_PROCESSOR", "")


@pytest.mark.skipif(
    not (PROCESSOR and shutil.which("node")), reason="no node, or H2SIM_TRACE_PROCESSOR names no folder"
)
@pytest.mark.parametrize("unit", ["ns", "cycles"])
def test_perfettos_own_trace_processor_keeps_every_slice(unit, tmp_path):
    result = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"), bounds=True)
    told = timeline_events(result, result.books, unit)
    (tmp_path / "t.json").write_text(json.dumps(told))
    queries = [
        "select count(*) as n from slice",
        "select name, value from stats where value > 0 and severity != 'info'",
        "select count(*) as n from flow",
    ]
    script = Path(__file__).with_name("trace_processor.mjs")
    command = ["node", str(script), PROCESSOR, str(tmp_path / "t.json"), *queries]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    slices, errors, flows = (json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("ROWS "))
    of_kind = {kind: sum(e["ph"] == kind for e in told["traceEvents"]) for kind in "Xs"}
    assert slices == [{"n": of_kind["X"]}]
    assert errors == []
    assert flows == [{"n": of_kind["s"]}]
