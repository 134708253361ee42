"""Reads the Chrome traces that torch.profiler exports (export_chrome_trace), plain or gzipped."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Hashable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.profile import Event, Kind, Profile, Work
from h2sim.io.reading import read_bytes, read_gzip

WORKS = {"kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"}
LAUNCHES = {"cuda_runtime", "cuda_driver", "runtime"}
OPS = {"cpu_op", "operator"}
MOST_BYTES = 2 << 30  # of a trace, unpacked
MOST_GPUS = 64
MOST_US = 10**18
WRONG_TIMES = "events of the processor whose times cannot be"
_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
RANGES = {"user_annotation"}  # gpu_user_annotation repeats them on the GPU's time line


def read_chrome(path: Path) -> Profile:
    """The profile in a Chrome trace. Raises GpuTraceError if the file is none, or a kernel's times are damaged."""
    data = _json(path)
    listed = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(listed, list):
        raise GpuTraceError(at(str(path), "traceEvents", "a list of events", type(listed).__name__))
    read = _Reader(path)
    for number, entry in enumerate(listed):
        if isinstance(entry, dict) and entry.get("ph") == "X":
            read.event(number, entry)
    return Profile(read.kernels, tuple(read.events), read.launches, _devices(data), read.left_out)


class _Reader:
    """Sorts the complete events of a trace into kernels and what the processor did."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kernels: list[tuple[Work, object]] = []
        self._host_pids: set[object] = set()
        self.events: list[Event] = []
        self.launches: dict[Hashable, int] = {}
        self.left_out: dict[str, int] = {}

    def event(self, number: int, entry: dict[str, Any]) -> None:
        """Takes one event; those of other categories are passed over."""
        category = _category(entry)
        where = f"{self._path}: traceEvents.{number}"
        if category in WORKS:
            start_ns, end_ns = _interval(entry, where)
            key, device = _number(entry, "correlation"), _number(entry, "device")
            self._kernels.append((Work(str(entry.get("name")), start_ns, end_ns, key, device), entry.get("pid")))
        elif category in LAUNCHES | OPS | RANGES:
            self._host(category, entry, where)

    @property
    def kernels(self) -> tuple[Work, ...]:
        """The kernels; one that does not say its GPU ran on the one that its process stands for, if it is none of the
        processor's."""
        return tuple(self._placed(work, pid) for work, pid in self._kernels)

    def _placed(self, work: Work, pid: object) -> Work:
        if work.device is None and type(pid) is int and 0 <= pid < MOST_GPUS and pid not in self._host_pids:
            return replace(work, device=pid)
        return work

    def _host(self, category: str, entry: dict[str, Any], where: str) -> None:
        try:
            start_ns, end_ns = _interval(entry, where)
        except GpuTraceError:  # profilers write some of the processor's events with times that cannot be
            self.left_out[WRONG_TIMES] = self.left_out.get(WRONG_TIMES, 0) + 1
            return
        self._host_pids.add(entry.get("pid") if isinstance(entry.get("pid"), int | str) else None)
        kind: Kind = "launch" if category in LAUNCHES else "op" if category in OPS else "range"
        correlation = _number(entry, "correlation")
        if kind == "launch" and correlation is not None:
            self.launches.setdefault(correlation, len(self.events))
        self.events.append(
            Event(
                name=str(entry.get("name")),
                kind=kind,
                start_ns=start_ns,
                end_ns=end_ns,
                thread=(str(entry.get("pid")), str(entry.get("tid"))),
                sequence=_number(entry, "Sequence number"),
            )
        )


def _category(entry: dict[str, Any]) -> str:
    """The event's category; PyTorch's older profiler writes none, and names two processes instead."""
    found = str(entry.get("cat", "")).lower()
    if found:
        return found
    return {"CPU functions": "cpu_op", "CUDA functions": "kernel"}.get(str(entry.get("pid")), "")


def _json(path: Path) -> object:
    """The data of a file as profilers write them: gzipped or not, whatever it is called, a byte order mark before it,
    control characters and single backslashes in names."""
    try:
        raw = read_bytes(path, MOST_BYTES)
        if raw[:2] == b"\x1f\x8b":
            raw = read_gzip(path, MOST_BYTES)
        text = raw.decode("utf-8-sig")
        try:
            data: object = json.loads(text, strict=False)
        except json.JSONDecodeError as fault:
            if "escape" not in fault.msg:
                raise
            data = json.loads(_ESCAPE.sub(r"\\\\", text), strict=False)
        return data
    except FileNotFoundError:
        raise GpuTraceError(f"{path}: no such file") from None
    except json.JSONDecodeError as fault:
        raise GpuTraceError(f"{path}: not valid JSON at line {fault.lineno}: {fault.msg}") from None
    except OSError as fault:
        raise GpuTraceError(f"{path}: cannot be read: {str(fault.strerror or fault)[:100]}") from None
    except (EOFError, zlib.error, ValueError, RecursionError) as fault:
        raise GpuTraceError(f"{path}: cannot be read: {str(fault)[:100]}") from None


def _number(entry: dict[str, Any], name: str) -> int | None:
    """An argument of an event that counts from 0. None where the event has none, or -1, which means the same."""
    args = entry.get("args")
    value = args.get(name) if isinstance(args, dict) else None
    return value if type(value) is int and value >= 0 else None


def _interval(entry: dict[str, Any], where: str) -> tuple[int, int]:
    """(start, end) of an event in ns. The file has microseconds with three decimals."""
    start_ns, ns = (_ns(entry, field, where) for field in ("ts", "dur"))
    if ns < 0:
        raise GpuTraceError(at(where, "dur", "at least 0 microseconds", repr(entry["dur"])[:40]))
    return start_ns, start_ns + ns


def _ns(entry: dict[str, Any], field: str, where: str) -> int:
    """Nanoseconds of a time in microseconds, which may be written as text. Raises GpuTraceError."""
    value = entry.get(field)
    us = _number_in(value) if isinstance(value, str) else value
    # a NaN is not below the most
    if isinstance(us, Decimal | float | int) and not isinstance(us, bool) and -MOST_US < us < MOST_US:
        return round(us * 1000)
    raise GpuTraceError(at(where, field, "microseconds", repr(value)[:40]))


def _number_in(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None  # a Decimal NaN cannot be compared


def _devices(data: object) -> dict[int, str]:
    """Names of GPUs by their number."""
    listed = data.get("deviceProperties") if isinstance(data, dict) else None
    found: dict[int, str] = {}
    for place, each in enumerate(listed if isinstance(listed, list) else []):
        name = each.get("name") if isinstance(each, dict) else None
        if isinstance(name, str) and name:
            number = each.get("id")
            found[number if type(number) is int else place] = name
    return found
