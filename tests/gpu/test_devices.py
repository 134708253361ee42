"""Do the times of a profile carry the name of the device that took them, and is what cannot be told refused?"""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys

import pytest

from h2sim.errors import GpuTraceError
from h2sim.gpu.importing import Made, import_profile
from h2sim.gpu.rules import Rule

MADE = Made(network="tiny", inputs={"conv1": ("input",)}, batch=4)
RULES = (Rule(kernel=".", layer="conv1", phase="forward"),)


def event(cat, name, ts, dur, pid=1, **args):
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": 1, "ts": ts, "dur": dur, "args": args}


def launch(ts, correlation):
    return event("cuda_runtime", "cudaLaunchKernel", ts, 2, correlation=correlation)


OP = event("cpu_op", "aten::conv2d", 0, 10)
KERNEL = event("kernel", "sgemm", 100, 50, pid=0, correlation=5, device=0)
ONE = [OP, launch(1, 5), KERNEL]
TWO = [*ONE, launch(2, 6), event("kernel", "sgemm", 100, 30, pid=1, correlation=6, device=1)]
A100 = [{"id": 0, "name": "NVIDIA A100"}, {"id": 1, "name": "NVIDIA H100"}]


def chrome(folder, events, name="p.json", **more):
    path = folder / name
    path.write_text(json.dumps({"traceEvents": events, **more}))
    return path


def seconds(trace):
    return {row.layer: row.seconds for row in trace.rows}


def test_two_gpus_are_never_added_up(tmp_path):
    path = chrome(tmp_path, TWO, deviceProperties=A100)
    with pytest.raises(GpuTraceError, match=r"p.json: kernels: expected --gpu with one of 0, 1, .*; got 2 GPUs$"):
        import_profile(path, MADE, RULES)
    for gpu, took, name in ((0, 50e-6, "NVIDIA A100"), (1, 30e-6, "NVIDIA H100")):
        found = import_profile(path, MADE, RULES, gpu=gpu)
        assert seconds(found) == {"conv1": took}
        assert found.device.name == name


@pytest.mark.parametrize(("first", "second"), [(0.0, 1.0), ("0.0", "1.0"), ("cuda:0", "cuda:1"), ("GPU 0", 1)])
def test_two_gpus_are_told_apart_however_their_numbers_are_written(first, second, tmp_path):
    kernels = [event("kernel", "sgemm", 100, dur, pid=0, device=gpu) for dur, gpu in ((50, first), (30, second))]
    path = chrome(tmp_path, [OP, *kernels])
    with pytest.raises(GpuTraceError, match=r"p.json: kernels: expected --gpu with one of 0, 1, .*; got 2 GPUs$"):
        import_profile(path, MADE, RULES)
    assert seconds(import_profile(path, MADE, RULES, gpu=1)) == {"conv1": 30e-6}


@pytest.mark.parametrize("odd", [0.5, float("nan"), "nan", "", True, None, [0], -1, "1e9"])
def test_what_is_no_number_of_a_gpu_says_none(odd, tmp_path):
    path = chrome(tmp_path, [OP, event("kernel", "sgemm", 100, 50, pid=7, device=odd)])
    assert seconds(import_profile(path, MADE, RULES)) == {"conv1": 50e-6}


def test_a_gpu_without_kernels_is_refused(tmp_path):
    with pytest.raises(GpuTraceError, match=r"--gpu: expected one of the GPUs with kernels: 0; got 3$"):
        import_profile(chrome(tmp_path, ONE), MADE, RULES, gpu=3)


def test_launches_without_kernels_are_no_times_of_a_gpu(tmp_path):
    path = chrome(tmp_path, [OP, launch(1, 5)], deviceProperties=A100)
    with pytest.raises(GpuTraceError, match=r"kernels: expected kernels, .*ProfilerActivity.CUDA too\); got none$"):
        import_profile(path, MADE, (Rule(op="conv", layer="conv1", phase="forward"),))


def test_times_of_the_processor_never_carry_a_gpus_name(tmp_path):
    path = chrome(tmp_path, [OP], deviceProperties=A100)
    found = import_profile(path, MADE, (Rule(op="conv", layer="conv1", phase="forward"),))
    assert found.device.name == "unknown processor"


def test_a_step_of_years_is_refused(tmp_path):
    late = [launch(1_700_000_000_000_000, 7), event("kernel", "sgemm", 1_700_000_000_000_100, 50, pid=0, correlation=7)]
    with pytest.raises(GpuTraceError, match=r"step: expected steps of less than a day .*; got 19,6\d\d.\d days$"):
        import_profile(chrome(tmp_path, [*ONE, *late]), MADE, RULES)


def as_written(folder):
    """The same profile in the ways in which public tools write it."""
    text = json.dumps({"traceEvents": ONE})
    path = folder / "p.json"
    path.write_text(text)
    yield path
    path = folder / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    yield path
    path = folder / "gz.json"
    path.write_bytes(gzip.compress(text.encode()))
    yield path
    strings = [{**e, "ts": f"{e['ts']}.000", "dur": str(e["dur"])} for e in ONE]
    yield chrome(folder, strings, "strings.json")
    yield chrome(folder, [*ONE, event("cpu_op", "aten::add", 20, -15)], "negative.json")
    odd = text.replace("aten::conv2d", "torch\\cuda\\__init__.py(219)")
    path = folder / "windows.json"
    path.write_text(odd)
    yield path
    path = folder / "control.json"
    path.write_text(text.replace("aten::conv2d", "a\nb"))
    yield path
    path = folder / "list.json"
    path.write_text(json.dumps(ONE))
    yield path


def test_a_profile_is_read_in_every_way_in_which_tools_write_it(tmp_path):
    found = [seconds(import_profile(path, MADE, RULES)) for path in as_written(tmp_path)]
    assert found == [{"conv1": 50e-6}] * 8


def test_what_is_left_out_is_said(tmp_path):
    path = chrome(tmp_path, [*ONE, event("cpu_op", "aten::add", 20, -15), event("cpu_op", "aten::mul", "x", 1)])
    assert "left out: 2 events of the processor whose times cannot be" in import_profile(path, MADE, RULES).notes


def test_a_kernel_whose_time_cannot_be_is_refused(tmp_path):
    with pytest.raises(GpuTraceError, match=r"traceEvents.3: dur: expected at least 0 microseconds; got -1$"):
        import_profile(chrome(tmp_path, [*ONE, event("kernel", "k", 5, -1)]), MADE, RULES)


def test_the_older_profiler_writes_no_categories(tmp_path):
    op = {"name": "aten::conv2d", "ph": "X", "ts": 10.5, "dur": 134.4, "tid": 1, "pid": "CPU functions", "args": {}}
    kernel = {**op, "name": "sgemm", "ts": 102.9, "dur": 134.1, "tid": 0, "pid": "CUDA functions"}
    events = [op, kernel]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(events))
    assert seconds(import_profile(path, MADE, RULES)) == {"conv1": pytest.approx(134.1e-6)}


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.json.gz"
    block = b" " * (1 << 20)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"{")
        for _ in range(2100):
            file.write(block)
    code = (
        "import resource\nfrom pathlib import Path\nfrom h2sim.errors import H2SimError\n"
        "from h2sim.gpu.chrome import read_chrome\nresource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        f"try:\n    read_chrome(Path({str(path)!r}))\nexcept H2SimError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert "a gzip file that unpacks to more, where at most 2147483648 are read" in done.stdout


def nsys(folder, extra=""):
    path = folder / "p.sqlite"
    base = """
    CREATE TABLE StringIds(id INTEGER, value TEXT);
    INSERT INTO StringIds VALUES (1,'sgemm'),(2,'cudaLaunchKernel'),(3,'cudaGraphLaunch');
    CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL(start, end, correlationId, demangledName, deviceId);
    INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000,11000,1,1,0);
    CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME(start INTEGER, end INTEGER, correlationId INTEGER, globalTid INTEGER,
                                             nameId INTEGER);
    INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (0,500,1,1,2),(600,900,2,1,3);
    """
    with sqlite3.connect(path) as database:
        database.executescript(base + extra)
    database.close()
    return path


def test_the_time_of_whole_cuda_graphs_counts(tmp_path):
    graphs = """CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE(start, end, deviceId, correlationId, graphId);
    INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (12000,42000,0,2,1);"""
    assert seconds(import_profile(nsys(tmp_path, graphs), MADE, RULES)) == {"conv1": pytest.approx(40e-6)}


def test_two_gpus_of_an_nsight_file_are_never_added_up(tmp_path):
    other = """INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000,4000,2,1,1);
    CREATE TABLE TARGET_INFO_GPU(id, name); INSERT INTO TARGET_INFO_GPU VALUES (0,'NVIDIA A100'),(1,'NVIDIA H100');"""
    path = nsys(tmp_path, other)
    with pytest.raises(GpuTraceError, match=r"expected --gpu with one of 0, 1"):
        import_profile(path, MADE, RULES)
    found = import_profile(path, MADE, RULES, gpu=1)
    assert (seconds(found), found.device.name) == ({"conv1": pytest.approx(3e-6)}, "NVIDIA H100")


def test_ranges_of_newer_exports_are_read(tmp_path):
    ranges = """CREATE TABLE NVTX_EVENTS_V2(start, end, globalTid, text, eventType);
    INSERT INTO NVTX_EVENTS_V2 VALUES (0,800,1,'conv1',59);"""
    assert seconds(import_profile(nsys(tmp_path, ranges), MADE)) == {"conv1": pytest.approx(10e-6)}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("UPDATE StringIds SET value = x'00ff' WHERE id = 1;", r"StringIds.value: expected text; got b'\\x00\\xff'$"),
        ("UPDATE StringIds SET id = 'a' WHERE id = 1;", r"StringIds.id: expected an integer; got 'a'$"),
        ("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET start = 1.5;", r"KERNEL.start: expected an integer; got 1.5$"),
        ("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET deviceId = 'x';", r"KERNEL.deviceId: expected an integer; got 'x'$"),
        ("CREATE TABLE NVTX_EVENTS(start, end, globalTid, text); INSERT INTO NVTX_EVENTS VALUES (0, 9, 1, x'41');",
         r"NVTX_EVENTS.text: expected text; got b'A'$"),
        ("ALTER TABLE StringIds RENAME TO Other; CREATE VIEW StringIds AS WITH RECURSIVE n(id, value) AS "
         "(SELECT 1, 'a' UNION ALL SELECT id + 1, value FROM n) SELECT id, value FROM n;",
         r"tables: expected a table StringIds \(nsys export --type sqlite\); got a view$"),
    ],
)  # fmt: skip
def test_an_nsight_file_that_no_export_wrote_is_refused_in_one_line(extra, message, tmp_path):
    with pytest.raises(GpuTraceError, match=message) as caught:
        import_profile(nsys(tmp_path, extra), MADE, RULES)
    assert len(caught.value.lines) == 1
