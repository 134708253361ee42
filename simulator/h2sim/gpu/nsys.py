"""Reads the SQLite files that Nsight Systems exports (`nsys export --type sqlite`)."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.nsys_tables import Tables, opened_tables
from h2sim.gpu.profile import MOST_NAME, Event, Kept, Kind, Profile, Work

KERNELS, GRAPHS = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
COPIES = {"CUPTI_ACTIVITY_KIND_MEMCPY": "memcpy", "CUPTI_ACTIVITY_KIND_MEMSET": "memset"}
RUNTIME, NVTX, STRINGS = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS", "StringIds"
GPUS, MASKED = "TARGET_INFO_GPU", "TARGET_INFO_CUDA_DEVICE"
RANGE_TYPES = (None, 59, 60, 70, 71)  # push/pop and start/end, of NVTX and of files that stand for it
COUNTED_TWICE = "CUDA graphs whose kernels are in the profile too"
REVERSED = "ranges that end before they begin"
# as torch.autograd.profiler.emit_nvtx names operations
_OP = re.compile(r"(?P<name>.+?), (?:seq = (?P<seq>\d{1,18})\b|op_id = \d+)")
_WORK = ("correlationId", "deviceId", "globalPid", "graphNodeId")


def read_nsys(path: Path) -> Profile:
    """The profile in an export. Raises GpuTraceError if the file is none, or a table or column is missing."""
    with opened_tables(path) as tables:
        return _Export(tables, Kept(str(path))).profile()


@dataclass
class _Export:
    """What is read of one file."""

    tables: Tables
    kept: Kept
    strings: dict[int, str] = field(default_factory=dict)
    kernels: list[Work] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    launches: dict[Hashable, int] = field(default_factory=dict)
    clashing: set[Hashable] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def profile(self) -> Profile:
        for row in self.tables.rows(STRINGS, ("id", "value")):
            if row["value"] is not None:
                self.strings[row["id"]] = self.kept.name(row["value"])
        gpus = _Gpus(self.tables)
        in_graphs = self._kernels(gpus)
        for table, name in COPIES.items():
            for row in self._timed(table, _WORK) if self.tables.has(table) else ():
                self._take(self._work(name, row, gpus), row, in_graphs)
        self._graphs(gpus, in_graphs)
        self._calls()
        if self.tables.has(NVTX):
            self._ranges()
        return Profile(
            tuple(self.kernels), tuple(self.events), self.launches, gpus.names, self.left_out,
            clashing=frozenset(self.clashing), told_apart=True,
        )  # fmt: skip

    def _timed(self, table: str, wanted: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """The rows of a table of times. Raises GpuTraceError where an end lies before its start."""
        for row in self.tables.rows(table, ("start", "end"), wanted):
            if row["end"] < row["start"]:
                where = self.tables.where
                raise GpuTraceError(at(where, f"{table}.end", f"at least {row['start']}, the start", row["end"]))
            yield row

    def _kernels(self, gpus: _Gpus) -> dict[int | None, list[int]]:
        """Reads the kernels. Returns the starts of those that a CUDA graph launched, by GPU."""
        in_graphs: dict[int | None, list[int]] = {}
        if not self.tables.has(KERNELS) and self.tables.has(GRAPHS):
            return in_graphs
        for row in self._timed(KERNELS, ("demangledName", "shortName", *_WORK)):
            name = self.strings.get(row["demangledName"]) or self.strings.get(row["shortName"]) or "kernel"
            self._take(self._work(name, row, gpus), row, in_graphs)
        return in_graphs

    def _take(self, work: Work, row: dict[str, Any], in_graphs: dict[int | None, list[int]]) -> None:
        self.kernels.append(work)
        if row["graphNodeId"]:
            in_graphs.setdefault(work.device, []).append(work.start_ns)

    def _graphs(self, gpus: _Gpus, in_graphs: dict[int | None, list[int]]) -> None:
        """Reads the graphs that were traced whole; one whose kernels or copies were traced too counts by these."""
        if not self.tables.has(GRAPHS):
            return
        launched = {work.launch for work in self.kernels} - {None}
        for starts in in_graphs.values():
            starts.sort()
        for row in self._timed(GRAPHS, _WORK):
            graph = self._work("CUDA graph", row, gpus)
            starts = in_graphs.get(graph.device, [])
            first = bisect_left(starts, graph.start_ns)
            if graph.launch in launched or (first < len(starts) and starts[first] < graph.end_ns):
                self.left_out[COUNTED_TWICE] += 1
            else:
                self.kernels.append(graph)

    def _work(self, name: str, row: dict[str, Any], gpus: _Gpus) -> Work:
        process = _process(row["globalPid"])
        key = None if row["correlationId"] is None else self.kept.same((process, row["correlationId"]))
        return Work(self.kept.name(name), row["start"], row["end"], key, gpus.of(process, row["deviceId"]))

    def _calls(self) -> None:
        for row in self._timed_calls():
            process = _process(row["globalTid"])
            if row["correlationId"] is not None:
                self.launches.setdefault((process, row["correlationId"]), len(self.events))
                silent = (None, row["correlationId"])  # of kernels that do not say their process
                first = self.launches.setdefault(silent, len(self.events))
                if first < len(self.events) and self.events[first].thread[0] != process:  # type: ignore[index]
                    self.clashing.add(silent)
            name = self.strings.get(row["nameId"], "launch")
            self._event(name, "launch", row)

    def _timed_calls(self) -> Iterator[dict[str, Any]]:
        self.tables.need(RUNTIME, "globalTid", "correlationId")
        return self._timed(RUNTIME, ("correlationId", "globalTid", "nameId"))

    def _event(self, name: str, kind: Kind, row: dict[str, Any], sequence: int | None = None) -> None:
        thread = self.kept.same((_process(row["globalTid"]), row["globalTid"]))
        self.events.append(
            Event(
                name=self.kept.name(name),
                kind=kind,
                start_ns=row["start"],
                end_ns=row["end"],
                thread=thread,
                sequence=sequence,
            )
        )

    def _ranges(self) -> None:
        self.tables.need(NVTX, "globalTid")
        for row in self.tables.rows(NVTX, ("start", "end"), ("globalTid", "text", "textId", "eventType")):
            text = row["text"] or self.strings.get(row["textId"])
            if not text or row["eventType"] not in RANGE_TYPES or row["end"] is None:
                continue
            if row["end"] < row["start"]:
                self.left_out[REVERSED] += 1
                continue
            op = _OP.match(text[:MOST_NAME])
            kind: Kind = "op" if op or text.startswith(("aten::", "autograd::")) else "range"
            self._event(op["name"] if op else text, kind, row, int(op["seq"]) if op and op["seq"] else None)


class _Gpus:
    """The GPUs of the machine. A process may see only some of them, under other numbers (CUDA_VISIBLE_DEVICES)."""

    def __init__(self, tables: Tables) -> None:
        self.names: dict[int, str] = {}
        by_uuid: dict[str, int] = {}
        if tables.has(GPUS) and "name" in tables.columns(GPUS):
            for place, row in enumerate(tables.rows(GPUS, ("name",), ("id", "uuid"))):
                number = place if row["id"] is None else row["id"]
                if row["name"]:
                    self.names[number] = row["name"]
                if row["uuid"]:
                    by_uuid[row["uuid"]] = number
        self._seen: dict[tuple[int | None, int], int] = {}
        self._unclear: set[tuple[int | None, int]] = set()
        if tables.has(MASKED):
            for row in tables.rows(MASKED, ("cudaId",), ("gpuId", "pid", "uuid")):
                gpu = by_uuid.get(row["uuid"]) if row["gpuId"] is None else row["gpuId"]
                if gpu is not None:
                    self._sees(row["pid"], row["cudaId"], gpu)

    def _sees(self, pid: int | None, number: int, gpu: int) -> None:
        for key in {(pid, number), (None, number)}:
            if self._seen.setdefault(key, gpu) != gpu:
                self._unclear.add(key)

    def of(self, process: int | None, number: int | None) -> int | None:
        """The machine's number of a GPU that a process calls `number`; None if the file does not say which it is."""
        if number is None:
            return None
        pid = None if process is None else process & 0xFFFFFF  # above it stands the machine's number
        key = (pid, number) if (pid, number) in self._seen else (None, number)
        return None if key in self._unclear else self._seen.get(key, number)


def _process(global_id: int | None) -> int | None:
    """The process in a global id, which holds it above 24 bits of thread. Correlation ids are unique only in one."""
    return None if global_id is None else global_id >> 24
