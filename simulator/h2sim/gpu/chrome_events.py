"""Sorts the events of a Chrome trace into a GPU's work and what the processor did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.categories import Sort, sort_of
from h2sim.gpu.profile import Event, Kept, Kind, Profile, Work
from h2sim.gpu.trace import printable

MOST_GPUS = 64
MOST_US = 10**18
MOST_HALVES = 1_000_000  # events that begin and end apart, which wait for their other half
MOST_CATEGORIES = 1000
MOST_NAMED = 5
WRONG_TIMES = "events of the processor whose times cannot be"
NEVER_ENDED = "events that begin and never end, or end and never began"
UNENDED = "the list of events has no end: what may have followed it is missing"
NESTED = "GPU times within others count once: each moment belongs to the innermost"
_GPU = re.compile(r"(?:gpu|cuda|xpu|device)[ :#]{0,2}(\d{1,3})", re.IGNORECASE)
_FUNCTIONS = re.compile(r"(CUDA|GPU|HIP|XPU|PrivateUse1|device) functions", re.IGNORECASE)


class _Found(NamedTuple):
    """Work as it stands in the file: the process may tell its GPU, once all of the file is known."""

    work: Work
    pid: Hashable
    tid: Hashable


class Sorter:
    """Takes the events of a trace one at a time; `profile` is what they come to."""

    def __init__(self, where: str) -> None:
        self._where, self._kept = where, Kept(where)
        self._works: list[_Found] = []
        self._events: list[Event] = []
        self._launches: dict[Hashable, int] = {}
        self._clashing: set[Hashable] = set()
        self._host_pids: set[Hashable] = set()
        self._gpu_pids: dict[Hashable, int] = {}  # by the labels of the processes
        self._halves: dict[tuple[Hashable, Hashable], list[tuple[int, int, dict[str, Any]]]] = {}
        self._n_halves = 0
        self._heads: dict[Hashable, Hashable] = {}  # arrows by the work at their heads
        self._unknown: Counter[tuple[str, Hashable, bool]] = Counter()
        self._left_out: Counter[str] = Counter()
        self.cut = False

    def take(self, number: int, entry: object) -> None:
        """Takes one entry of the list. Raises GpuTraceError if it is work whose times cannot be, or one too many."""
        if not isinstance(entry, dict):
            return
        phase = entry.get("ph")
        if phase == "X":
            self._sort(number, entry, None)
        elif phase in ("B", "E"):
            self._half(number, entry)
        elif phase in ("s", "f"):
            self._arrow(number, entry)
        elif phase == "M":
            self._name_process(entry)

    def profile(self, devices: dict[int, str]) -> Profile:
        """All that was taken. devices: names of GPUs by number."""
        for halves in self._halves.values():
            self._join(halves)
        self._halves.clear()
        works = [self._placed(found) for found in self._works]
        homes: dict[int | None, set[Hashable]] = {}
        for work, found in zip(works, self._works, strict=True):
            homes.setdefault(work.device, set()).add(found.pid)
        whole, nested = _once([(w, f) for w, f in zip(works, self._works, strict=True)])
        self._count_unknown()
        remarks = [UNENDED] * self.cut + [NESTED] * nested
        return Profile(
            tuple(whole), tuple(self._events), self._launches, devices, self._left_out, tuple(remarks),
            frozenset(self._clashing), {device: len(pids) for device, pids in homes.items()},
        )  # fmt: skip

    def _sort(self, number: int, entry: dict[str, Any], times: tuple[int, int] | None) -> None:
        sort = sort_of(entry)
        if sort == "unknown":
            self._is_unknown(entry)
        elif sort == "work":
            self._work(entry, times or _interval(entry, f"{self._where}: traceEvents.{number}"))
        elif sort != "passed":
            self._host(sort, entry, number, times)

    def _work(self, entry: dict[str, Any], times: tuple[int, int]) -> None:
        name, pid, tid = self._name(entry, "kernel"), _id(entry, "pid"), _id(entry, "tid")
        key: Hashable = _number(entry, "correlation")
        if key is None and self._heads:
            key = self._heads.get((tid, times[0], name))
        device = next((n for n in (_gpu(entry, k) for k in ("device", "device id", "deviceId")) if n is not None), None)
        self._works.append(_Found(Work(name, *times, key, device), pid, tid))

    def _host(self, sort: Sort, entry: dict[str, Any], number: int, times: tuple[int, int] | None) -> None:
        try:
            start_ns, end_ns = times or _interval(entry, f"{self._where}: traceEvents.{number}")
        except GpuTraceError:  # profilers write some of the processor's events with times that cannot be
            self._left_out[WRONG_TIMES] += 1
            return
        pid = _id(entry, "pid")
        self._host_pids.add(pid)
        kind: Kind = "launch" if sort == "launch" else "op" if sort == "op" else "range"
        correlation = _number(entry, "correlation")
        if kind == "launch" and correlation is not None:
            self._launch(correlation, pid)
        self._event(entry, kind, start_ns, end_ns, _number(entry, "Sequence number"))

    def _event(self, entry: dict[str, Any], kind: Kind, start_ns: int, end_ns: int, sequence: int | None) -> None:
        name, thread = self._name(entry, ""), (str(_id(entry, "pid")), str(_id(entry, "tid")))
        self._events.append(
            Event(
                name=name,
                kind=kind,
                start_ns=start_ns,
                end_ns=end_ns,
                thread=self._kept.same(thread),
                sequence=sequence,
            )
        )

    def _launch(self, key: Hashable, pid: Hashable) -> None:
        first = self._launches.setdefault(key, len(self._events))
        if first < len(self._events) and self._events[first].thread[0] != str(pid):  # type: ignore[index]
            self._clashing.add(key)

    def _name(self, entry: dict[str, Any], otherwise: str) -> str:
        name = entry.get("name")
        return self._kept.name(name if isinstance(name, str) and name else otherwise)

    def _half(self, number: int, entry: dict[str, Any]) -> None:
        """The begin or the end of an event; they need not stand in order of time."""
        self._n_halves += 1
        if self._n_halves > MOST_HALVES:
            wanted = f"at most {MOST_HALVES:,} events of phase B or E"
            raise GpuTraceError(at(self._where, "traceEvents", wanted, "more"))
        try:
            ns = _ns(entry, "ts", f"{self._where}: traceEvents.{number}")
        except GpuTraceError:
            self._left_out[WRONG_TIMES] += 1
            return
        key = (_id(entry, "pid"), _id(entry, "tid"))
        self._halves.setdefault(key, []).append((ns, number, entry))

    def _join(self, halves: list[tuple[int, int, dict[str, Any]]]) -> None:
        """The whole events of one thread: an end belongs to the last begin that has none."""
        began: list[tuple[int, int, dict[str, Any]]] = []
        for ns, number, entry in sorted(halves, key=lambda half: half[:2]):
            if entry["ph"] == "B":
                began.append((ns, number, entry))
            elif began:
                start_ns, first, begin = began.pop()
                args = [e["args"] for e in (begin, entry) if isinstance(e.get("args"), dict)]
                self._sort(first, {**begin, "args": {k: v for a in args for k, v in a.items()}}, (start_ns, ns))
            else:
                self._left_out[NEVER_ENDED] += 1
        if began:
            self._left_out[NEVER_ENDED] += len(began)

    def _arrow(self, number: int, entry: dict[str, Any]) -> None:
        """torch.autograd.profiler draws an arrow from an operation to each time on a GPU, and writes no correlation."""
        category, key = entry.get("cat"), ("arrow", _id(entry, "id"))
        if not isinstance(category, str) or not category.startswith("cpu_to_"):
            return
        ns = _ns(entry, "ts", f"{self._where}: traceEvents.{number}")
        if entry["ph"] == "s":
            self._launch(key, _id(entry, "pid"))
            self._event({**entry, "name": "launch (an arrow)"}, "launch", ns, ns, None)
        else:
            self._heads[_id(entry, "tid"), ns, self._name(entry, "kernel")] = self._kept.same(key)

    def _name_process(self, entry: dict[str, Any]) -> None:
        """torch.profiler labels the processes that stand for GPUs `GPU 0`, `GPU 1`..., and the others `CPU`."""
        args = entry.get("args")
        said = args.get("labels") if isinstance(args, dict) and entry.get("name") == "process_labels" else None
        found = _GPU.fullmatch(said.strip()) if isinstance(said, str) else None
        if found and len(self._gpu_pids) < MOST_CATEGORIES:
            self._gpu_pids[_id(entry, "pid")] = int(found[1])

    def _placed(self, found: _Found) -> Work:
        """Work that does not say its GPU ran on the one that its process stands for, if it is no processor's."""
        work, pid, tid = found
        if work.device is not None:
            return work
        device: Hashable = self._gpu_pids.get(pid)
        if device is None and isinstance(pid, str):
            said = _GPU.fullmatch(pid.strip())
            device = int(said[1]) if said else tid if _FUNCTIONS.fullmatch(pid) else None
        elif device is None and pid not in self._host_pids:
            device = pid
        return replace(work, device=device) if type(device) is int and 0 <= device < MOST_GPUS else work

    def _is_unknown(self, entry: dict[str, Any]) -> None:
        args = entry.get("args")
        key = (printable(str(entry.get("cat") or "none")[:60], 30) or "none", _id(entry, "pid"),
               isinstance(args, dict) and "stream" in args)  # fmt: skip
        full = key not in self._unknown and len(self._unknown) >= MOST_CATEGORIES
        self._unknown[("others", *key[1:]) if full else key] += 1

    def _count_unknown(self) -> None:
        """What stands on a GPU's time line in a category that is not known may be work that is in no row."""
        gpus = {found.pid for found in self._works} - self._host_pids
        counts: Counter[str] = Counter()
        for (category, pid, streamed), count in self._unknown.items():
            if streamed or pid in self._gpu_pids or pid in gpus:
                counts[category] += count
        named = sorted(counts, key=lambda category: (-counts[category], category))
        for place, category in enumerate(named):
            which = category if place < MOST_NAMED else "others"
            self._left_out[f"events on a GPU's stream of the category {which}, which is not known"] += counts[category]


def _once(found: Iterable[tuple[Work, _Found]]) -> tuple[list[Work], bool]:
    """The works, and whether times of torch.autograd.profiler lay within others: it writes a time on the GPU for every
    operation, also for those that only call others."""
    plain: list[Work] = []
    nested: dict[Hashable, list[Work]] = {}
    for work, as_written in found:
        if isinstance(as_written.pid, str) and _FUNCTIONS.fullmatch(as_written.pid):
            nested.setdefault(as_written.tid, []).append(work)
        else:
            plain.append(work)
    split = [piece for works in nested.values() for piece in innermost(works)]
    whole = sum(len(works) for works in nested.values())
    return plain + split, sum(w.ns for w in split) < sum(w.ns for ws in nested.values() for w in ws) and whole > 0


def innermost(works: list[Work]) -> Iterator[Work]:
    """The works in pieces, such that each moment belongs to the one that began last of those that run."""
    running: list[Work] = []
    clock = 0
    for work in [*sorted(works, key=lambda w: (w.start_ns, -w.end_ns)), None]:
        while running and (work is None or running[-1].end_ns <= work.start_ns):
            top = running.pop()
            if top.end_ns > clock:
                yield replace(top, start_ns=max(clock, top.start_ns), end_ns=top.end_ns)
                clock = top.end_ns
        if work is not None:
            if running and work.start_ns > clock:
                yield replace(running[-1], start_ns=max(clock, running[-1].start_ns), end_ns=work.start_ns)
            clock = max(clock, work.start_ns) if running else work.start_ns
            running.append(work)


def _id(entry: dict[str, Any], field: str) -> Hashable:
    value = entry.get(field)
    return value if isinstance(value, int | str) else None


def _gpu(entry: dict[str, Any], name: str) -> int | None:
    """The number of a GPU in an argument, also written as 1.0, '1.0' or 'cuda:1'; None where there is none."""
    number = _number(entry, name)
    args = entry.get("args")
    value = args.get(name) if number is None and isinstance(args, dict) else None
    if isinstance(value, str):
        said = _GPU.fullmatch(value.strip())
        value = int(said[1]) if said else _number_in(value)
    if isinstance(value, Decimal | float) and 0 <= value < MOST_GPUS and value == int(value):
        return int(value)
    return value if type(value) is int else number


def _number(entry: dict[str, Any], name: str) -> int | None:
    """An argument of an event that counts from 0. None where the event has none, or -1, which means the same."""
    args = entry.get("args")
    value = args.get(name) if isinstance(args, dict) else None
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():
        return int(value)
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
        number = Decimal(text) if len(text) <= 64 else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None
