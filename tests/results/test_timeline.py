"""Does Perfetto show every interval of a timeline, in both of its formats, and do its cycles add up?"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.cli import main
from h2sim.io import library
from h2sim.report.timeline import Clock, make_timeline, result_timeline
from h2sim.report.timeline_chrome import chrome_events
from h2sim.report.timeline_perfetto import perfetto_trace
from tests.helpers.books import books_of, networks
from tests.helpers.perfetto import HAS_PROCESSOR, ask, dropped, read_chrome, read_trace
from tests.helpers.traces import tiny_trace

CLOCKS = (1, 333, 800_000_000, 1_300_000_000, 3_700_000_001)
UNITS = ("ns", "cycles")
ARCH = h2sim.load_arch("h2learn")


@pytest.fixture(scope="module", params=[*library.names("trace"), "mnist-digits, ideal memory"])
def result(request):
    name, _, ideal = request.param.partition(", ")
    return h2sim.simulate(ARCH, h2sim.load_trace(name), ideal_memory=bool(ideal), bounds=True)


def in_json(timeline):
    """The events as a reader of the file gets them."""
    return json.loads(json.dumps(chrome_events(timeline)))


@pytest.mark.parametrize(("clock_hz", "unit"), [*((clock_hz, "ns") for clock_hz in CLOCKS), (CLOCKS[0], "cycles")])
def test_perfetto_drops_no_slice_and_both_formats_hold_the_same(result, clock_hz, unit):
    timeline = result_timeline(replace(result, arch=result.arch.with_({"clock_hz": clock_hz})), unit)
    document = in_json(timeline)
    slices = [e for e in document["traceEvents"] if e["ph"] == "X"]
    assert len(slices) > 50
    assert dropped(slices) == []
    assert all(e["dur"] >= 0 for e in slices)
    read = read_trace(perfetto_trace(timeline))
    assert read.open_ == 0
    assert read == read_chrome(document)


@settings(max_examples=60)
@given(networks(), st.sampled_from(CLOCKS), st.sampled_from(UNITS), st.booleans())
def test_both_formats_of_random_schedules_hold_the_same_and_lose_nothing(jobs, clock_hz, unit, ideal):
    books = books_of(jobs, ideal)
    timeline = make_timeline(books, Clock(clock_hz, unit), {"clock_hz": clock_hz})
    document, content = in_json(timeline), perfetto_trace(timeline)
    assert dropped(e for e in document["traceEvents"] if e["ph"] == "X") == []
    read = read_trace(content)
    assert read == read_chrome(document)
    assert len(read.slices) == len(timeline.slices)
    assert perfetto_trace(make_timeline(books, Clock(clock_hz, unit), {"clock_hz": clock_hz})) == content


def test_the_rule_drops_what_overlaps_in_part():
    inside = [{"ph": "X", "pid": 1, "tid": 1, "ts": 0.0, "dur": 2.0, "name": "outer"},
              {"ph": "X", "pid": 1, "tid": 1, "ts": 1.0, "dur": 1.0, "name": "inner"}]  # fmt: skip
    assert dropped(inside) == []
    assert dropped([inside[0], {**inside[1], "dur": 1.001}]) == ["inner"]


@pytest.mark.parametrize("read", [
    lambda timeline: read_chrome(in_json(timeline)), lambda timeline: read_trace(perfetto_trace(timeline)),
])  # fmt: skip
def test_cycles_of_every_track_add_up_to_the_rows(result, read):
    by_track: dict[str, dict[str, int]] = {}
    for track, name, _, _, args in read(result_timeline(result)).slices:
        sums, told = by_track.setdefault(track, {}), dict(args)
        sums[name] = sums.get(name, 0) + told["cycles"]
        assert told["end_cycle"] - told["start_cycle"] == told["cycles"]
    for engine in ("forward", "weight_update", "backward"):
        summary, sums = result.engine(engine), by_track.get(engine, {})
        assert sums.get("compute", 0) == summary.compute_cycles
        assert sums.get("fill", 0) == summary.fill_cycles
        assert sums.get("stall: memory read", 0) == summary.memory_read
        assert sums.get("stall: memory write", 0) == summary.memory_write
        assert sums.get("wait: dependency", 0) == summary.dependency
    for memory in ("Mem 0", "Mem 1", "Mem 2"):
        busy = sum(s.busy_cycles for s in result.activity.memory if s.memory == memory)
        assert sum(by_track.get(memory, {}).values()) == busy


def test_a_counter_says_how_busy_each_memory_was(result):
    for counter in result_timeline(result).counters:
        assert all(0 <= share <= 100 for _, share in counter.points)
        assert counter.points[-1] == (result.activity.steady_cycles, 0)
        held = sum(share / 100 * (after[0] - at) for (at, share), after in pairwise(counter.points))
        busy = sum(s.busy_cycles for s in result.activity.memory if s.memory == counter.name.removesuffix(" busy"))
        assert held == pytest.approx(busy, rel=1e-2)


def test_flows_lead_from_a_last_write_into_work_that_is_no_wait(result):
    flows = result_timeline(result).flows
    is_ideal = not any(stream.busy_cycles for stream in result.activity.memory)
    assert bool(flows) != is_ideal
    for flow in flows:
        assert flow.left.track.name.startswith("Mem")
        assert flow.entered.name in ("compute", "fill")
        assert flow.left.end <= flow.entered.start


def test_a_perfetto_trace_is_several_times_smaller_than_json():
    timeline = result_timeline(h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"), bounds=True))
    assert 3.5 * len(perfetto_trace(timeline)) < len(json.dumps(chrome_events(timeline), indent=1))


def test_the_command_writes_the_format_of_the_ending_and_the_unit_that_was_asked_for(tmp_path):
    trace = tiny_trace(tmp_path)

    def written(name, *options):
        arguments = ["run", "h2learn", str(trace), "--timeline", str(tmp_path / name), *options]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        return (tmp_path / name).read_bytes()

    for unit, said in (("ns", "1 ns is 1 ns"), ("cycles", "1 ns is one cycle")):
        document = json.loads(written(f"{unit}.other", "--timeline-unit", unit))
        content = written(f"{unit}.pftrace", "--timeline-unit", unit)
        assert content == written(f"{unit}-again.pftrace", "--timeline-unit", unit)
        read = read_trace(content)
        assert read == read_chrome(document)
        assert read.told["unit"] == said
        assert read.told["clock_hz"] == 800_000_000
        assert {"arch_sha256", "trace_sha256", "energy_table_sha256"} <= read.told.keys()
    assert all(length == dict(args)["cycles"] for _, _, _, length, args in read.slices)


def test_standard_output_gets_json(tmp_path):
    done = CliRunner().invoke(main, ["run", "h2learn", str(tiny_trace(tmp_path)), "--timeline", "-"])
    assert json.loads(done.stdout)["traceEvents"]


SLICES = """
    select thread.name as track, slice.name as name, ts, dur,
        extract_arg(slice.arg_set_id, '{0}.start_cycle') as first,
        extract_arg(slice.arg_set_id, '{0}.end_cycle') as stop,
        extract_arg(slice.arg_set_id, '{0}.cycles') as cycles, extract_arg(slice.arg_set_id, '{0}.bytes') as bytes
    from slice join thread_track on slice.track_id = thread_track.id join thread using(utid) order by 1, 2, 3, 4, 5"""
SUMS = """
    select process.name as process, thread.name as track, count(*) as n, sum(dur) as ns
    from slice join thread_track on slice.track_id = thread_track.id join thread using(utid) join process using(upid)
    group by 1, 2 order by 1, 2"""
COUNTERS = """
    select process.name as process, track.name as track, ts, value
    from counter join process_counter_track as track on counter.track_id = track.id join process using(upid)
    order by 1, 2, 3"""
FLOWS = """
    select a.name as writer, a.ts as writer_ts, b.name as reader, b.ts as reader_ts, b.dur as reader_dur
    from flow join slice as a on a.id = slice_out join slice as b on b.id = slice_in order by 1, 2, 3, 4, 5"""
ERRORS = "select name, value from stats where value > 0 and severity != 'info'"
TOLD = "select name, coalesce(str_value, int_value) as value from metadata where name glob 'cr-*'"


@pytest.mark.skipif(not HAS_PROCESSOR, reason="no node, or H2SIM_TRACE_PROCESSOR names no folder")
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ideal", [False, True])
def test_perfettos_own_trace_processor_reads_the_same_from_both_formats(unit, ideal, tmp_path):
    result = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"), ideal_memory=ideal, bounds=True)
    timeline, found = result_timeline(result, unit), {}
    (tmp_path / "t.json").write_text(json.dumps(chrome_events(timeline)))
    (tmp_path / "t.pftrace").write_bytes(perfetto_trace(timeline))
    for ending, args in (("json", "args"), ("pftrace", "debug")):
        queries = (ERRORS, SLICES.format(args), SUMS, COUNTERS, FLOWS, TOLD)
        errors, *found[ending], told = ask(tmp_path / f"t.{ending}", *queries)
        assert errors == []
    assert found["json"] == found["pftrace"]
    slices, sums, counters, flows = found["pftrace"]
    assert len(slices) == len(timeline.slices)
    assert len(flows) == len(timeline.flows)
    assert len(counters) == sum(len(counter.points) for counter in timeline.counters)
    assert sum(each["n"] for each in sums) == len(slices)
    assert {each["name"]: each["value"] for each in told} == {f"cr-{k}": v for k, v in timeline.told.items()}
