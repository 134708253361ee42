"""The pipeline in Chrome trace event format: opens in Perfetto, a track per engine and per memory."""

from __future__ import annotations

from typing import Any

from h2sim.activity import ENGINES, LayerActivity
from h2sim.result import Result

PROCESSES = {1: "engines", 2: "memories"}


def timeline_events(result: Result) -> dict[str, Any]:
    """One steady period; ts and dur in us, exact cycles in args. Stalls of a row stand below it, summed by cause.

    When within the row each stall happened is not kept: dependency stands first (a row waits for its operands'
    producer before anything else), memory stalls last.
    """
    engine_track: dict[str, int] = {engine: number for number, engine in enumerate(ENGINES, start=1)}
    memories = sorted({s.memory for s in result.activity.memory})
    memory_track = {name: number for number, name in enumerate(memories, start=1)}
    events = [_name("process_name", pid, 0, name) for pid, name in PROCESSES.items()]
    events += [_name("thread_name", 1, tid, engine) for engine, tid in engine_track.items()]
    events += [_name("thread_name", 2, tid, name) for name, tid in memory_track.items()]
    us = 1e6 / result.arch.clock_hz
    for row in result.activity.layers:
        events += _row_events(row, engine_track[row.engine], us)
    for s in result.activity.memory:
        args = {"start_cycle": s.start_cycle, "end_cycle": s.end_cycle, "busy_cycles": s.busy_cycles}
        span = (s.start_cycle, s.end_cycle - s.start_cycle)
        events.append(_slice(f"{s.layer} {s.phase}", 2, memory_track[s.memory], *span, us, args))
    other = {
        "arch": result.arch.name,
        "network": result.workload.network,
        "source": result.workload.source,
        "clock_hz": result.arch.clock_hz,
    }
    return {"displayTimeUnit": "ns", "otherData": other, "traceEvents": events}


def _row_events(row: LayerActivity, tid: int, us: float) -> list[dict[str, Any]]:
    args = {
        "start_cycle": row.start_cycle, "end_cycle": row.end_cycle, "compute_cycles": row.compute_cycles,
        "fill_cycles": row.fill_cycles, "stall_memory_read_cycles": row.stalls.memory_read,
        "stall_memory_write_cycles": row.stalls.memory_write, "stall_dependency_cycles": row.stalls.dependency,
    }  # fmt: skip
    events = [_slice(f"{row.layer} {row.phase}", 1, tid, row.start_cycle, row.end_cycle - row.start_cycle, us, args)]
    at = row.start_cycle
    parts = [
        ("stall: dependency", row.stalls.dependency), ("compute and fill", row.compute_cycles + row.fill_cycles),
        ("stall: memory read", row.stalls.memory_read), ("stall: memory write", row.stalls.memory_write),
    ]  # fmt: skip
    for name, cycles in parts:
        if cycles:
            events.append(_slice(name, 1, tid, at, cycles, us, {"cycles": cycles}))
        at += cycles
    return events


def _slice(name: str, pid: int, tid: int, start: int, cycles: int, us: float, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "X", "pid": pid, "tid": tid, "ts": start * us, "dur": cycles * us, "args": args}


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
