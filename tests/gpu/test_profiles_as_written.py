"""Profiles in the ways in which public tools write them, beyond PyTorch's newest: each gives the right times or a
reason."""

from __future__ import annotations

import gzip
import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.errors import GpuTraceError
from h2sim.gpu import load_gpu_trace
from h2sim.gpu.chrome_events import innermost
from h2sim.gpu.importing import Made, import_profile
from h2sim.gpu.jsonstream import CUT, ELEMENT, items
from h2sim.gpu.profile import Work
from h2sim.gpu.rules import Rule, is_conv_backward
from tests.gpu.test_devices import KERNEL, ONE, OP, RULES, TWO, chrome, event, launch, nsys, seconds
from tests.gpu.test_devices import MADE as ONE_LAYER
from tests.helpers.gpu_made import MADE


def found(path, rules=RULES, **more):
    return import_profile(path, ONE_LAYER, rules, **more)


def refused(path, message, rules=RULES, **more):
    with pytest.raises(GpuTraceError, match=message) as caught:
        found(path, rules, **more)
    assert len(caught.value.lines) == 1


CATEGORIES = [
    ("kernel,foo", "cuda_runtime"),
    ("foo, Kernel", "cuda_driver,bar"),
    ("concurrent_kernel", "hip_runtime"),
    ("gpu_memcpy", "xpu_runtime"),
    ("kernel", "privateuse1_runtime"),
    ("kernel", "Runtime"),
]


@pytest.mark.parametrize(("kernel", "call"), CATEGORIES)
def test_work_and_launches_are_known_by_every_profilers_categories(kernel, call, tmp_path):
    events = [OP, {**launch(1, 5), "cat": call}, {**KERNEL, "cat": kernel}]
    trace = found(chrome(tmp_path, events), (Rule(op="conv", layer="conv1", phase="forward"),))
    assert seconds(trace) == {"conv1": 50e-6}


@pytest.mark.parametrize(("call", "name"), [("xpu_runtime", "urEnqueueKernelLaunch"), ("privateuse1_runtime", "aclrtLaunchKernel"),  # noqa: E501
                                            ("cuda_runtime", "hipExtModuleLaunchKernel"), ("cuda_runtime", "cudaMemcpyAsync")])  # fmt: skip  # noqa: E501
def test_launches_of_any_gpu_without_kernels_are_refused(call, name, tmp_path):
    path = chrome(tmp_path, [OP, {**launch(1, 5), "cat": call, "name": name}])
    refused(path, r"kernels: expected kernels, for the profile shows launches .*; got none$")


def test_events_without_categories_are_sorted_by_shape(tmp_path):
    events = [{k: v for k, v in e.items() if k != "cat"} for e in [OP, launch(1, 5), KERNEL]]
    events[2]["args"]["stream"] = 7
    assert seconds(found(chrome(tmp_path, events), (Rule(op="conv", layer="conv1"),))) == {"conv1": 50e-6}


def halves(whole):
    begin = {key: value for key, value in whole.items() if key != "dur"}
    return [
        {**begin, "ph": "B"},
        {"ph": "E", "pid": whole["pid"], "tid": whole["tid"], "ts": whole["ts"] + whole["dur"]},
    ]


def test_events_that_begin_and_end_apart_are_whole_events(tmp_path):
    events = [half for whole in ONE for half in halves(whole)]
    rules = (Rule(op="conv", layer="conv1"),)
    for order in (events, events[::-1]):
        trace = found(chrome(tmp_path, order), rules)
        assert seconds(trace) == {"conv1": 50e-6}
        assert not any("never" in note for note in trace.notes)
    lone = [{"ph": "E", "pid": 9, "tid": 9, "ts": 4}, {"ph": "B", "pid": 9, "tid": 9, "ts": 4, "name": "x"}]
    trace = found(chrome(tmp_path, [*events, *lone]), rules)
    assert "left out: 2 events that begin and never end, or end and never began" in trace.notes


def autograd(*nested):
    """As torch.autograd.profiler.export_chrome_trace writes it: no categories, arrows, a GPU time for every op."""
    events = []
    for number, (name, ts, dur, gpu_ts, gpu_dur) in enumerate(nested):
        host = {"name": name, "ph": "X", "ts": ts, "dur": dur, "tid": 1, "pid": "CPU functions", "args": {}}
        tail = {**host, "ph": "s", "id": number, "cat": "cpu_to_cuda"}
        head = {"name": name, "ph": "f", "ts": gpu_ts, "tid": 0, "pid": "CUDA functions", "id": number,
                "cat": "cpu_to_cuda", "args": {}}  # fmt: skip
        work = {"name": name, "ph": "X", "ts": gpu_ts, "dur": gpu_dur, "tid": 0, "pid": "CUDA functions", "args": {}}
        events += [host, tail, *([head, work] if gpu_dur else [])]
    return events


def test_nested_gpu_times_of_the_older_profiler_count_once(tmp_path):
    path = tmp_path / "p.json"
    nested = [("aten::conv2d", 0, 100, 200, 50), ("aten::convolution", 10, 80, 210, 30), ("aten::add", 300, 9, 400, 5)]
    path.write_text(json.dumps(autograd(*nested)))
    rules = (Rule(op="conv2d", layer="conv1"), Rule(op="add", layer="data", phase="other"))
    trace = found(path, rules)
    assert seconds(trace) == {"conv1": pytest.approx(50e-6), "data": pytest.approx(5e-6)}
    assert any(note.startswith("GPU times within others count once") for note in trace.notes)


def test_arrows_to_times_that_were_not_written_are_launches_without_kernels(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(autograd(("aten::conv2d", 0, 100, 0, 0))))
    refused(path, "kernels: expected kernels, for the profile shows launches")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=8))
def test_pieces_cover_each_moment_once_and_belong_to_the_innermost(drawn):
    works = [Work(str(place), start, start + ns) for place, (start, ns) in enumerate(drawn)]
    pieces = list(innermost(works))
    busy = {t for work in works for t in range(work.start_ns, work.end_ns)}
    covered = [t for piece in pieces for t in range(piece.start_ns, piece.end_ns)]
    assert sorted(covered) == sorted(busy)
    for piece in pieces:
        whole = works[int(piece.name)]
        assert whole.start_ns <= piece.start_ns
        assert piece.end_ns <= whole.end_ns


def test_unknown_categories_on_a_gpus_stream_and_lost_kernels_are_told(tmp_path):
    odd = [event("hpu_op", "x", 300, 5, pid=0, stream=7), event("odd", "host", 3, 1), launch(3, 77)]
    notes = found(chrome(tmp_path, [*ONE, *odd])).notes
    assert "left out: 1 events on a GPU's stream of the category hpu_op, which is not known" in notes
    assert "left out: 1 launches whose kernels are not in the profile" in notes
    assert not any("odd" in note for note in notes)


def test_the_labels_of_processes_say_which_gpu_they_stand_for(tmp_path):
    label = {"ph": "M", "name": "process_labels", "pid": 9000, "args": {"labels": "GPU 3"}}
    kernel = {**KERNEL, "pid": 9000, "args": {"correlation": 5}}
    devices = [{"id": number, "name": f"GPU type {number}"} for number in range(4)]
    assert (
        found(chrome(tmp_path, [OP, launch(1, 5), kernel, label], deviceProperties=devices)).device.name == "GPU type 3"
    )


def test_kernels_that_do_not_say_their_gpu_are_left_out_where_there_are_two(tmp_path):
    silent = event("kernel", "sgemm", 500, 7, pid="stream")
    trace = found(chrome(tmp_path, [*TWO, silent]), gpu=1)
    assert seconds(trace) == {"conv1": 30e-6}
    assert "left out: 1 kernels and copies of other GPUs" in trace.notes
    assert "left out: 1 kernels and copies that do not say their GPU" in trace.notes


def ranks(same_gpu, same_ids):
    second = 5 if same_ids else 6
    gpu = 0 if same_gpu else 1
    other = [event("cuda_runtime", "cudaLaunchKernel", 1, 2, pid=2, correlation=second),
             event("kernel", "sgemm", 100, 50, pid=gpu, correlation=second, device=gpu)]  # fmt: skip
    return [*ONE, *other]


def test_two_ranks_in_one_file_are_refused_where_they_cannot_be_told_apart(tmp_path):
    refused(chrome(tmp_path, ranks(True, False)), r"kernels: expected one process that launches .*; got 2 processes$")
    refused(
        chrome(tmp_path, ranks(True, True)),
        r"correlation: expected ids of the calls of one process .*; got id 5 in two$",
    )
    refused(chrome(tmp_path, ranks(False, True)), "correlation: expected ids", gpu=1)
    homes = [*ONE, {**KERNEL, "pid": "GPU of rank 1"}]
    refused(chrome(tmp_path, homes), r"kernels: expected the kernels of a GPU in one process .*; got 2 processes, each")


def test_a_kernel_of_more_than_a_day_is_refused(tmp_path):
    refused(chrome(tmp_path, [OP, launch(1, 5), {**KERNEL, "dur": 1e12}]), "kernels: expected times of less than a day")


@pytest.mark.parametrize("ts", ["nan", "sNaN", "inf", "1e999", "1" * 100, "", None, [], True])
def test_times_that_are_no_numbers_are_refused(ts, tmp_path):
    refused(
        chrome(tmp_path, [OP, launch(1, 5), {**KERNEL, "ts": ts}]), r"traceEvents.2: ts: expected microseconds; got"
    )


def step(number, ts, dur):
    return event("user_annotation", f"ProfilerStep#{number}", ts, dur)


def test_nested_steps_are_refused_and_idle_ones_are_no_steps(tmp_path):
    refused(chrome(tmp_path, [*ONE, step(1, 0, 500), step(2, 100, 50)]),
            r"step: expected ProfilerStep# ranges one after another; got ProfilerStep#2 before the end of ProfilerStep#1$")  # fmt: skip  # noqa: E501
    trace = found(chrome(tmp_path, [*ONE, step(1, 0, 90), step(2, 90, 50)]))
    assert seconds(trace) == {"conv1": 50e-6}
    assert "left out: 1 ProfilerStep# ranges in which nothing was launched" in trace.notes
    refused(
        chrome(tmp_path, [*ONE, step(2, 90, 50)]), "step: expected ProfilerStep# ranges in which something was launched"
    )


def text_of(events):
    return json.dumps(events)


def test_a_list_without_its_bracket_is_read_and_told_and_one_cut_within_an_event_is_refused(tmp_path):
    path, whole = tmp_path / "p.json", text_of(ONE)
    for text in (whole[:-1], whole[:-1] + ",\n"):
        path.write_text(text)
        trace = found(path)
        assert seconds(trace) == {"conv1": 50e-6}
        assert "the list of events has no end: what may have followed it is missing" in trace.notes
    for text in (whole[:-3], '{"traceEvents": ' + whole[:-1], '{"traceEvents": ' + whole, whole + "x"):
        path.write_text(text)
        refused(path, "not valid JSON at line 1")
    path.write_bytes(gzip.compress(whole.encode())[:-12])
    refused(path, "cannot be read: Compressed file ended")


def read_in_pieces(raw, size):
    """The items of a file of which a few bytes are read at a time."""
    file = io.BytesIO(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("h2sim.gpu.jsonstream.CHUNK", size)
        return list(items(file.read, "events"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(values, max_size=6), st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=3), st.booleans(),  # noqa: E501
       st.integers(1, 9))  # fmt: skip
def test_elements_come_as_json_reads_them_whatever_pieces_the_file_comes_in(listed, others, first, size):
    whole = {"events": listed, **others} if first else {**others, "events": listed}
    for data, bare in ((whole, False), (listed, True)):
        text = (
            json.dumps(data, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        )
        raw = text.encode()
        read = [value for key, value in read_in_pieces(raw, size) if key == ELEMENT]
        assert read == (json.loads(text) if bare else json.loads(text)["events"])


@given(
    st.lists(st.sampled_from(["\\\\", "\\n", "\\q", "\\c", "a", "\\u0041", "\\uX", "\\U"]), max_size=12),
    st.integers(1, 5),
)
def test_single_backslashes_stand_for_themselves_and_escapes_stay_escapes(parts, size):
    meant = {"\\\\": "\\", "\\n": "\n", "\\u0041": "A"}
    raw = ('["' + "".join(parts) + '", 1').encode()
    read = read_in_pieces(raw, size)
    assert read == [(ELEMENT, "".join(meant.get(part, part) for part in parts)), (ELEMENT, 1), (CUT, None)]


def test_names_are_searched_in_time_that_grows_with_their_length(tmp_path):
    assert is_conv_backward("ConvolutionBackward0")
    assert is_conv_backward("aten::cudnn_convolution_backward")
    assert not is_conv_backward("backward_conv")
    assert not is_conv_backward("conv backward")
    assert not is_conv_backward("conv" * 1_000_000)


def test_events_that_are_nested_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("h2sim.gpu.importing.MOST_AROUND", 100)
    ops = [event("cpu_op", "aten::x", i, 100 - 2 * i) for i in range(20)]
    calls = [event("cuda_runtime", "cudaLaunchKernel", 30, 1, correlation=i) for i in range(10)]
    kernels = [event("kernel", "k", 200, 1, pid=0, correlation=i, device=0) for i in range(10)]
    refused(chrome(tmp_path, ops + calls + kernels), "nested too deeply")


@pytest.mark.parametrize(("limit", "value"), [("MOST_EVENTS", 2), ("MOST_CHARACTERS", 10)])
def test_more_events_or_names_than_memory_should_hold_are_refused(limit, value, tmp_path, monkeypatch):
    monkeypatch.setattr(f"h2sim.gpu.profile.{limit}", value)
    refused(chrome(tmp_path, ONE), f"events: expected at most {value}.*; got more$")
    refused(nsys(tmp_path), f"events: expected at most {value}.*; got more$")


def test_halves_that_wait_and_rows_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("h2sim.gpu.chrome_events.MOST_HALVES", 3)
    refused(chrome(tmp_path, [half for whole in ONE for half in halves(whole)]), "at most 3 events of phase B or E")
    monkeypatch.setattr("h2sim.gpu.nsys_tables.MOST_ROWS", 3)
    refused(nsys(tmp_path), r"expected at most 3 rows \(profile fewer steps\); got more")


def test_devices_and_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, what in (("/dev/zero", "a device"), (tmp_path / "pipe", "a pipe")):
        for form in (None, "chrome", "nsys"):
            with pytest.raises(GpuTraceError, match=f"cannot be read: {what}, where a file is expected"):
                import_profile(type(tmp_path)(path), MADE, form=form)
        with pytest.raises(GpuTraceError, match=f"cannot be read: {what}, where a file is expected"):
            load_gpu_trace(path)


GRAPHS = "CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE(start, end, deviceId, correlationId, graphId, globalPid);"


def test_an_export_of_cuda_graphs_alone_is_read(tmp_path):
    extra = f"""DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL; {GRAPHS}
    INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (12000,42000,0,2,1,NULL);"""
    assert seconds(found(nsys(tmp_path, extra))) == {"conv1": pytest.approx(30e-6)}


@pytest.mark.parametrize("kernel", ["(13000,23000,2,1,0,NULL)", "(13000,23000,NULL,1,0,77)"])
def test_graphs_whose_kernels_are_there_too_count_once(kernel, tmp_path):
    extra = f"""{GRAPHS} INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (12000,42000,0,2,1,NULL);
    ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL ADD COLUMN graphNodeId;
    INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES {kernel};"""
    trace = found(nsys(tmp_path, extra))
    assert seconds(trace) == {"conv1": pytest.approx(20e-6)}
    assert "left out: 1 CUDA graphs whose kernels are in the profile too" in trace.notes


@pytest.mark.parametrize("copy", ["(13000,14000,2,0,NULL)", "(13000,14000,3,0,8)"])
def test_graphs_whose_copies_are_there_too_count_once(copy, tmp_path):
    extra = f"""{GRAPHS} INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (12000,42000,0,2,1,NULL);
    CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY(start, end, correlationId, deviceId, graphNodeId);
    INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES {copy};"""
    trace = found(nsys(tmp_path, extra))
    assert seconds(trace) == {"conv1": pytest.approx(11e-6)}
    assert "left out: 1 CUDA graphs whose kernels are in the profile too" in trace.notes


@pytest.mark.parametrize("table", ["StringIds", "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME"])
def test_any_table_may_be_of_a_newer_version_and_rows_that_two_hold_are_one(table, tmp_path):
    copied = f"CREATE TABLE {table}_V3 AS SELECT * FROM {table};"
    assert seconds(found(nsys(tmp_path, copied))) == {"conv1": pytest.approx(10e-6)}
    (tmp_path / "p.sqlite").unlink()
    assert seconds(found(nsys(tmp_path, f"{copied} DROP TABLE {table};"))) == {"conv1": pytest.approx(10e-6)}


def test_processes_that_see_some_gpus_under_other_numbers_are_told_apart(tmp_path):
    extra = """ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL ADD COLUMN globalPid; DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL;
    INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000,11000,1,1,0,(1<<48)|(7<<24)),(1000,31000,2,1,0,(1<<48)|(8<<24));
    CREATE TABLE TARGET_INFO_GPU(id, name); INSERT INTO TARGET_INFO_GPU VALUES (0,'A100'),(1,'H100');
    CREATE TABLE TARGET_INFO_CUDA_DEVICE(gpuId, cudaId, pid, uuid);
    INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES (0,0,7,NULL),(1,0,8,NULL);"""
    path = nsys(tmp_path, extra)
    refused(path, "expected --gpu with one of 0, 1")
    trace = found(path, gpu=1)
    assert (seconds(trace), trace.device.name) == ({"conv1": pytest.approx(30e-6)}, "H100")


def test_kernels_without_a_process_or_a_correlation_id_are_read(tmp_path):
    extra = """CREATE TABLE K AS SELECT start, end, demangledName FROM CUPTI_ACTIVITY_KIND_KERNEL;
    DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL; ALTER TABLE K RENAME TO CUPTI_ACTIVITY_KIND_KERNEL;"""
    assert seconds(found(nsys(tmp_path, extra))) == {"conv1": pytest.approx(10e-6)}


def test_ids_that_two_processes_share_are_refused_where_kernels_do_not_say_their_process(tmp_path):
    extra = "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (0,500,1,1<<30,2);"
    refused(nsys(tmp_path, extra), "correlation: expected ids of the calls of one process")


@pytest.mark.parametrize(
    ("extra", "got"),
    [
        ("CREATE VIEW NVTX_EVENTS AS SELECT 0 AS start, 9 AS end, 1 AS globalTid, 'conv1' AS text;", "a view"),
        ("CREATE VIRTUAL TABLE NVTX_EVENTS USING fts5(start, text);", "a virtual table"),
        ("CREATE TRIGGER t AFTER INSERT ON StringIds BEGIN SELECT 1; END;", "a table with a trigger"),
    ],
)
def test_only_plain_tables_are_read(extra, got, tmp_path):
    try:
        path = nsys(tmp_path, extra)
    except Exception as fault:  # SQLite may be built without fts5
        pytest.skip(str(fault))
    refused(path, f"tables: expected a table .*; got {got}$")


def test_a_profile_is_read_without_a_change_to_its_file(tmp_path):
    path = nsys(tmp_path)
    before = (path.read_bytes(), sorted(os.listdir(tmp_path)))
    found(path)
    assert (path.read_bytes(), sorted(os.listdir(tmp_path))) == before


def test_steps_that_are_told_do_not_excuse_a_time_of_years(tmp_path):
    late = [launch(1_700_000_000_000_000, 7), event("kernel", "sgemm", 1_700_000_000_000_100, 50, pid=0, correlation=7)]
    made = Made(network="tiny", inputs={"conv1": ("input",)}, batch=4, steps=100_000)
    with pytest.raises(GpuTraceError, match="step: expected steps of less than a day"):
        import_profile(chrome(tmp_path, [*ONE, *late]), made, RULES)
