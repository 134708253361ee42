"""Reads the SQLite files that Nsight Systems exports (`nsys export --type sqlite`)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Hashable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.profile import Event, Kind, Profile, Work

KERNELS = "CUPTI_ACTIVITY_KIND_KERNEL"
COPIES = {
    "CUPTI_ACTIVITY_KIND_MEMCPY": "memcpy",
    "CUPTI_ACTIVITY_KIND_MEMSET": "memset",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": "CUDA graph",  # whole graphs, whose kernels are then in no other table
}
STEPS_A_CALL, MOST_STEPS = 1_000_000, 20_000_000_000  # of SQLite's machine; a row of a table takes some tens
NUMBERS = ("id", "start", "end", "correlationId", "globalTid", "globalPid", "deviceId", "nameId", "textId", "eventType",
           "demangledName", "shortName")  # fmt: skip
OPTIONAL = ("globalPid", "deviceId", "nameId", "textId", "eventType", "demangledName", "shortName")
RUNTIME, NVTX, STRINGS, GPUS = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS", "StringIds", "TARGET_INFO_GPU"
RANGE_TYPES = (59, 60)  # push/pop and start/end
_OP = re.compile(
    r"(?P<name>.+?), (?:seq = (?P<seq>\d{1,18})\b|op_id = \d+)"
)  # as torch.autograd.profiler.emit_nvtx names


def read_nsys(path: Path) -> Profile:
    """The profile in an export. Raises GpuTraceError if the file is none, or a table or column is missing."""
    if not path.is_file():
        raise GpuTraceError(f"{path}: no such file")
    try:
        address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            budget = iter(range(MOST_STEPS // STEPS_A_CALL))
            database.set_progress_handler(lambda: int(next(budget, None) is None), STEPS_A_CALL)
            return _profile(database, str(path))
    except sqlite3.OperationalError as fault:
        why = f"more than {MOST_STEPS:,} steps of work" if "interrupt" in str(fault) else str(fault)
        raise GpuTraceError(f"{path}: not a readable SQLite file: {why}") from None
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as fault:
        raise GpuTraceError(f"{path}: not a readable SQLite file: {fault}") from None


def _profile(database: sqlite3.Connection, where: str) -> Profile:
    strings = {row["id"]: row["value"] for row in _rows(database, where, STRINGS, ("id", "value"))}
    kernels = []
    wanted = ("demangledName", "shortName", "deviceId")
    for row in _rows(database, where, KERNELS, ("start", "end", "correlationId"), wanted):
        name = strings.get(row.get("demangledName")) or strings.get(row.get("shortName")) or "kernel"
        kernels.append(_work(name, row))
    for table, name in COPIES.items():
        if _columns(database, table):
            rows = _rows(database, where, table, ("start", "end", "correlationId"), ("deviceId",))
            kernels += [_work(name, row) for row in rows]
    events: list[Event] = []
    launches: dict[Hashable, int] = {}
    for row in _rows(database, where, RUNTIME, ("start", "end", "correlationId", "globalTid"), ("nameId",)):
        launches.setdefault(_key(row, "globalTid"), len(events))
        launches.setdefault((None, row["correlationId"]), len(events))  # of kernels that do not say their process
        name = strings.get(row.get("nameId"), "launch")
        events.append(
            Event(name=name, kind="launch", start_ns=row["start"], end_ns=row["end"], thread=row["globalTid"])
        )
    for table in (NVTX, f"{NVTX}_V2"):
        if _columns(database, table):
            events += _ranges(database, where, table, strings)
    return Profile(tuple(kernels), tuple(events), launches, _devices(database, where))


def _work(name: str, row: dict[str, Any]) -> Work:
    return Work(name, row["start"], row["end"], _key(row, "globalPid"), row.get("deviceId"))


def _ranges(database: sqlite3.Connection, where: str, table: str, strings: dict[int, str]) -> Iterator[Event]:
    for row in _rows(database, where, table, ("start", "end", "globalTid"), ("text", "textId", "eventType")):
        text = row.get("text") or strings.get(row.get("textId", -1))
        if (
            not text
            or row.get("eventType") not in (None, *RANGE_TYPES)
            or row["end"] is None
            or row["end"] < row["start"]
        ):
            continue
        op = _OP.match(text)
        sequence = int(op["seq"]) if op and op["seq"] else None
        kind: Kind = "op" if op or text.startswith(("aten::", "autograd::")) else "range"
        yield Event(
            name=op["name"] if op else text,
            kind=kind,
            start_ns=row["start"],
            end_ns=row["end"],
            thread=row["globalTid"],
            sequence=sequence,
        )


def _key(row: dict[str, Any], holder: str) -> Hashable:
    """(process, correlation id): ids are unique only in a process.

    A global id holds the process above 24 bits of thread.
    """
    process = row.get(holder)
    return (None if process is None else process >> 24, row["correlationId"])


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    """The columns of a table; none for a view or a virtual table of that name, which could be endless."""
    made = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    found = database.execute(made, (table,)).fetchone()
    if found is None or not isinstance(found[0], str) or "virtual" in found[0].lower().split("(")[0]:
        return set()
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def _rows(
    database: sqlite3.Connection, where: str, table: str, needed: tuple[str, ...], wanted: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of a table, each as {column: value}; columns in `wanted`, and globalPid, only if the export has them."""
    there = _columns(database, table)
    if not there:
        raise GpuTraceError(at(where, "tables", f"a table {table} (nsys export --type sqlite)", "none"))
    missing = [name for name in needed if name not in there]
    if missing:
        raise GpuTraceError(at(where, table, f"a column {missing[0]}", ", ".join(sorted(there))[:80]))
    columns = [*needed, *(name for name in (*wanted, "globalPid") if name in there and name not in needed)]
    listed = ", ".join(f'"{name}"' for name in columns)
    for values in database.execute(f"SELECT {listed} FROM {table} ORDER BY rowid"):
        row = dict(zip(columns, values, strict=True))
        _check(row, table, where)
        yield row


def _check(row: dict[str, Any], table: str, where: str) -> None:
    """Raises GpuTraceError if a number is no integer, or an end lies before its start. Only a range may have no end."""
    ranges = table.startswith(NVTX)
    for name, value in row.items():
        missing = value is None and (name in OPTIONAL or (ranges and name in ("end", "text")) or name == "value")
        wanted = int if name in NUMBERS else str
        if type(value) is not wanted and not missing:
            expected = "an integer" if wanted is int else "text"
            raise GpuTraceError(at(where, f"{table}.{name}", expected, repr(value)[:40]))
    if not ranges and "end" in row and row["end"] < row["start"]:
        raise GpuTraceError(at(where, f"{table}.end", f"at least {row['start']}, the start", row["end"]))


def _devices(database: sqlite3.Connection, where: str) -> dict[int, str]:
    """Names of GPUs by their number; of a table without numbers by their place."""
    if "name" not in _columns(database, GPUS):
        return {}
    rows = _rows(database, where, GPUS, ("name",), ("id",))
    return {row.get("id", place): row["name"] for place, row in enumerate(rows)}
