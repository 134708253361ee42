"""GPU traces and profiles for tests, built as the tools that write them do."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2sim.gpu import GpuTrace, parse_gpu_trace
from h2sim.gpu.importing import Made


def fields(**changes: Any) -> dict[str, Any]:
    """A small valid GPU trace as plain data, with fields replaced or (None) left out."""
    data = {
        "schema": "h2sim-gpu-trace",
        "version": 1,
        "origin": "measured",
        "network": "two",
        "dataset": "noise",
        "samples": 4,
        "batch": 4,
        "implementation": "vanilla",
        "device": {"name": "GPU", "power_w": 100.0},
        "step": {"seconds": 0.5},
        "rows": [
            {"layer": "conv1", "phase": "forward", "seconds": 0.2, "energy_j": 10.0},
            {"layer": "conv1", "phase": "backward", "seconds": 0.25, "energy_j": 12.0},
            {"layer": "loss", "phase": "other", "seconds": 0.05},
        ],
        **changes,
    }
    return {key: value for key, value in data.items() if value is not None}


def gpu_trace(**changes: Any) -> GpuTrace:
    """The trace of `fields`, parsed."""
    return parse_gpu_trace(fields(**changes), "made")


@dataclass
class ChromeTrace:
    """A Chrome trace as torch.profiler exports it from a GPU: microseconds, launches joined by correlation ids."""

    events: list[dict[str, Any]] = field(default_factory=list)
    correlation: int = 100

    def add(self, cat: str, name: str, ts: float, dur: float, tid: int = 1, **args: Any) -> None:
        self.events.append(
            {"ph": "X", "cat": cat, "name": name, "pid": 7, "tid": tid, "ts": ts, "dur": dur, "args": args}
        )

    def kernel(self, name: str, launched: float, ts: float, dur: float, tid: int = 1, cat: str = "kernel") -> None:
        """A kernel on the GPU and the call that launched it."""
        self.correlation += 1
        self.add("cuda_runtime", "cudaLaunchKernel", launched, 1.0, tid, correlation=self.correlation)
        self.add(cat, name, ts, dur, 20, correlation=self.correlation, stream=20, device=0)

    def write(self, path: Path) -> Path:
        noise = [
            {"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "python"}},
            {"ph": "s", "id": 1, "pid": 7, "tid": 1, "ts": 1, "cat": "ac2g", "name": "ac2g"},
            {"ph": "X", "cat": "gpu_user_annotation", "name": "conv1", "pid": 0, "tid": 20, "ts": 0.0, "dur": 500.0},
            {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "x", "ts": 0, "dur": 9},
        ]
        device = [{"id": 0, "name": "Tesla V100-SXM2-16GB", "totalGlobalMem": 1 << 34}]
        path.write_text(
            json.dumps({"schemaVersion": 1, "deviceProperties": device, "traceEvents": noise + self.events})
        )
        return path


def cuda_step() -> ChromeTrace:
    """Two steps (microseconds): the forward pass in ranges, the backward pass on another thread without any."""
    trace = ChromeTrace()
    for number, start in enumerate((0.0, 1000.0)):
        _cuda_step(trace, number, start)
    return trace


def _cuda_step(t: ChromeTrace, number: int, at: float) -> None:
    base = 10 * number
    t.add("user_annotation", f"ProfilerStep#{number + 3}", at, 900.0)
    t.add("user_annotation", "conv1", at + 10, 50)
    t.add("cpu_op", "aten::conv2d", at + 11, 20, **{"Sequence number": base + 1, "Fwd thread id": 0})
    t.kernel("implicit_convolve_sgemm", at + 15, at + 300, 7)
    t.add("cpu_op", "Fire", at + 35, 10, **{"Sequence number": base + 2, "Fwd thread id": 0})
    t.kernel("elementwise_ge", at + 36, at + 310, 2)
    t.add("user_annotation", "h2sim:conv2", at + 70, 30)
    t.add("cpu_op", "aten::conv2d", at + 71, 20, **{"Sequence number": base + 3, "Fwd thread id": 0})
    t.kernel("implicit_convolve_sgemm", at + 75, at + 320, 11)
    t.add("user_annotation", "fc1", at + 110, 30)
    t.add("cpu_op", "aten::addmm", at + 111, 20, **{"Sequence number": base + 4, "Fwd thread id": 0})
    t.kernel("volta_sgemm_128x64_tn", at + 115, at + 335, 13)
    t.add("user_annotation", "h2sim:loss", at + 150, 20)
    t.kernel("softmax", at + 155, at + 350, 3)
    wrap = "autograd::engine::evaluate_function: "
    backward = {"Fwd thread id": 1}

    def op(name: str, start: float, dur: float, sequence: int) -> None:
        t.add("cpu_op", wrap + name, at + start, dur, 2, **{"Sequence number": base + sequence}, **backward)
        t.add("cpu_op", name, at + start + 1, dur - 2, 2, **{"Sequence number": base + sequence}, **backward)

    op("AddmmBackward0", 200, 30, 4)
    t.add("cpu_op", "aten::mm", at + 203, 6, 2)
    t.kernel("volta_sgemm_128x64_nn", at + 205, at + 360, 17, 2)
    t.add("cpu_op", "aten::mm", at + 212, 6, 2)
    t.kernel("volta_sgemm_128x64_nt", at + 214, at + 380, 19, 2)
    t.add("cpu_op", "aten::sum", at + 220, 6, 2)
    t.kernel("reduce_kernel", at + 222, at + 400, 1, 2)
    op("ConvolutionBackward0", 240, 30, 3)
    t.add("cpu_op", "aten::convolution_backward", at + 243, 25, 2)
    t.kernel("nchwToNhwcKernel", at + 245, at + 402, 2, 2)
    t.kernel("cudnn::cnn::dgrad_engine", at + 247, at + 405, 23, 2)
    t.kernel("volta_scudnn_128x64_stridedB_splitK_wgrad", at + 250, at + 430, 29, 2)
    t.kernel("reduce_kernel", at + 255, at + 460, 1, 2)
    op("FireBackward", 280, 20, 2)
    t.kernel("elementwise_mul", at + 285, at + 462, 5, 2)
    op("ConvolutionBackward0", 310, 20, 1)
    t.kernel("precomputed_convolve_sgemm", at + 315, at + 470, 31, 2)
    t.add("cpu_op", wrap + "torch::autograd::AccumulateGrad", at + 340, 10, 2)
    t.kernel("elementwise_add", at + 342, at + 505, 4, 2)
    t.add("user_annotation", "Optimizer.step#Adam.step", at + 400, 50)
    t.kernel("multi_tensor_apply_kernel", at + 410, at + 520, 6)
    t.kernel("Memcpy HtoD", at + 500, at + 530, 8, cat="gpu_memcpy")


CUDA_STEP_US = {
    ("conv1", "forward"): 7 + 2,
    ("conv1", "backward"): 5,
    ("conv1", "weight_update"): 31,
    ("conv2", "forward"): 11,
    ("conv2", "backward"): 2 + 23,
    ("conv2", "weight_update"): 29 + 1,
    ("fc1", "forward"): 13,
    ("fc1", "backward"): 17,
    ("fc1", "weight_update"): 19 + 1,
    ("gradient accumulation", "other"): 4,
    ("loss", "other"): 3,
    ("optimizer", "other"): 6,
    ("unmapped", "other"): 8,
}


INPUTS = {"conv1": ("input",), "conv2": ("conv1",), "fc1": ("conv2",)}
MADE = Made(network="three", inputs=INPUTS, batch=4, timesteps=10)


def by_label(trace: GpuTrace) -> dict[tuple[str, str], float]:
    """Seconds of each row."""
    return {(row.layer, row.phase): row.seconds for row in trace.rows}


PID = 0x01_0000_2A << 24  # an nsys process number, its low 24 bits free for the thread
TABLES = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
    demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL,
    globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER,
    text TEXT, globalTid INTEGER, textId INTEGER, domainId INTEGER);
CREATE TABLE TARGET_INFO_GPU (id INTEGER NOT NULL, name TEXT, totalMemory INTEGER);
"""


class NsysExport:
    """A database as `nsys export --type sqlite` writes it (only the columns that matter, and some that do not)."""

    def __init__(self, path: Path) -> None:
        self.path, self.database = path, sqlite3.connect(path)
        self.database.executescript(TABLES)
        self.database.execute("INSERT INTO TARGET_INFO_GPU VALUES (0, 'NVIDIA A100-SXM4-40GB', 1)")
        self.correlation, self.strings = 0, dict[str, int]()

    def string(self, text: str) -> int:
        if text not in self.strings:
            self.strings[text] = len(self.strings) + 1
            self.database.execute("INSERT INTO StringIds VALUES (?, ?)", (self.strings[text], text))
        return self.strings[text]

    def nvtx(self, text: str, start: int, end: int | None, tid: int = 1, kind: int = 59, stored: bool = False) -> None:
        """A range; `stored`: its text stands among the strings, as registered strings do."""
        words = (None, self.string(text)) if stored else (text, None)
        self.database.execute(
            "INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, NULL, ?, ?, ?, 0)",
            (start, end, kind, words[0], PID | tid, words[1]),
        )

    def kernel(self, name: str, launched: int, start: int, ns: int, tid: int = 1, pid: int = PID) -> None:
        self.correlation += 1
        values = (launched, launched + 5, 0, pid | tid, self.correlation, self.string("cudaLaunchKernel_v7000"), 0)
        self.database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        number = self.string(name)
        self.database.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, 0, 1, 7, ?, ?, ?, ?)",
            (start, start + ns, self.correlation, pid, number, number),
        )

    def copy(self, launched: int, start: int, ns: int) -> None:
        self.correlation += 1
        values = (launched, launched + 5, 0, PID | 1, self.correlation, self.string("cudaMemcpyAsync"), 0)
        self.database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.database.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (?, ?, 0, 7, ?, ?, 64)",
            (start, start + ns, self.correlation, PID),
        )

    def close(self) -> Path:
        self.database.commit()
        self.database.close()
        return self.path
