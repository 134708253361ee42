"""Reads the Chrome traces that torch.profiler exports (export_chrome_trace), plain or gzipped."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.profile import Event, Kind, Profile, Work

WORKS = {"kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"}
LAUNCHES = {"cuda_runtime", "cuda_driver", "runtime"}
OPS = {"cpu_op", "operator"}
RANGES = {"user_annotation"}  # gpu_user_annotation repeats them on the GPU's time line


def read_chrome(path: Path) -> Profile:
    """The profile in a Chrome trace. Raises GpuTraceError if the file is none, or an event is damaged."""
    data = _json(path)
    listed = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(listed, list):
        raise GpuTraceError(at(str(path), "traceEvents", "a list of events", type(listed).__name__))
    kernels: list[Work] = []
    events: list[Event] = []
    launches: dict[Hashable, int] = {}
    for number, entry in enumerate(listed):
        if not isinstance(entry, dict) or entry.get("ph") != "X":
            continue
        category = str(entry.get("cat", "")).lower()
        if category in WORKS:
            start_ns, end_ns = _interval(entry, f"{path}: traceEvents.{number}")
            kernels.append(Work(str(entry.get("name")), start_ns, end_ns, _number(entry, "correlation")))
        elif category in LAUNCHES | OPS | RANGES:
            start_ns, end_ns = _interval(entry, f"{path}: traceEvents.{number}")
            kind: Kind = "launch" if category in LAUNCHES else "op" if category in OPS else "range"
            thread = (str(entry.get("pid")), str(entry.get("tid")))
            correlation = _number(entry, "correlation")
            if kind == "launch" and correlation is not None:
                launches.setdefault(correlation, len(events))
            sequence = _number(entry, "Sequence number")
            events.append(
                Event(
                    name=str(entry.get("name")),
                    kind=kind,
                    start_ns=start_ns,
                    end_ns=end_ns,
                    thread=thread,
                    sequence=sequence,
                )
            )
    return Profile(tuple(kernels), tuple(events), launches, _device(data))


def _json(path: Path) -> object:
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            data: object = json.load(file)
            return data
    except FileNotFoundError:
        raise GpuTraceError(f"{path}: no such file") from None
    except json.JSONDecodeError as fault:
        raise GpuTraceError(f"{path}: not valid JSON at line {fault.lineno}: {fault.msg}") from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as fault:
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
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e18:
        raise GpuTraceError(at(where, field, "microseconds", repr(value)[:40]))
    return round(value * 1000)


def _device(data: object) -> str | None:
    properties = data.get("deviceProperties") if isinstance(data, dict) else None
    first = properties[0] if isinstance(properties, list) and properties else None
    name = first.get("name") if isinstance(first, dict) else None
    return name if isinstance(name, str) and name else None
