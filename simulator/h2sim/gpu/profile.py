"""A profile of a training step, whatever file it is from: kernels, and the calls, operations and ranges behind them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from h2sim.errors import GpuTraceError, at
from h2sim.io.kept import cached_property

Kind = Literal["range", "op", "launch"]
MOST_EVENTS = 5_000_000  # works and events that are kept; each takes some hundred bytes
MOST_NAME = 4000  # characters; what follows says nothing about layer or gradient
MOST_CHARACTERS = 1 << 28  # of all different names
_LAUNCHES = ("launch", "enqueue", "execute", "memcpy", "memset")
_Any = TypeVar("_Any", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An interval on a thread of the processor.

    kind: range, which somebody named; op, an operation of PyTorch; launch, a call that launches a kernel. sequence:
    autograd's number, the same for an operation of the forward pass and the operation of the backward pass that it
    made.
    """

    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    thread: Hashable
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A kernel or a copy, which took time on the device. launch: the key of the call that launched it.

    device: the number of its GPU, if the file says it.
    """

    name: str
    start_ns: int
    end_ns: int
    launch: Hashable | None = None
    device: int | None = None

    @property
    def ns(self) -> int:
        """How long it took, ns."""
        return self.end_ns - self.start_ns


class Kept:
    """Keeps each name once, and a count. Raises GpuTraceError where a file holds more than memory should."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._known: dict[Hashable, Hashable] = {}
        self._count = self._characters = 0

    def name(self, name: str) -> str:
        """The name of one more event, no longer than what is looked at."""
        self._count += 1
        if self._count > MOST_EVENTS:
            raise GpuTraceError(at(self._where, "events", f"at most {MOST_EVENTS:,} (profile fewer steps)", "more"))
        name = name[:MOST_NAME]
        if name not in self._known:
            self._characters += len(name)
            if self._characters > MOST_CHARACTERS:
                wanted = f"at most {MOST_CHARACTERS:,} characters of names"
                raise GpuTraceError(at(self._where, "events", wanted, "more"))
        return self.same(name)

    def same(self, value: _Any) -> _Any:
        """The first value that was equal to this one."""
        return self._known.setdefault(value, value)  # type: ignore[return-value]


@dataclass(frozen=True)
class Profile:
    """All of a profile.

    launches: index of the launching event by key. devices: names of GPUs by number, as far as the file says them.
    left_out: what was passed over and how often, such as events whose times cannot be. remarks: what else a reader
    must know. clashing: keys that calls of several processes share. homes: by number of a GPU (None: not said), how
    many processes of the file its works stand in, where each GPU has one of its own. told_apart: whether the file
    gives a GPU the same number in all processes.
    """

    kernels: tuple[Work, ...]
    events: tuple[Event, ...]
    launches: dict[Hashable, int]
    devices: Mapping[int, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    clashing: frozenset[Hashable] = frozenset()
    homes: Mapping[int | None, int] = field(default_factory=dict)
    told_apart: bool = False

    @property
    def gpus(self) -> tuple[int, ...]:
        """The numbers of the GPUs that kernels ran on, as far as the file says them."""
        return tuple(sorted({work.device for work in self.kernels if work.device is not None}))

    @property
    def launched(self) -> bool:
        """Whether the processor launched anything on a GPU, recorded there or not."""
        return any(event.kind == "launch" and _launches(event.name) for event in self.events)

    @property
    def lost(self) -> int:
        """The number of launches of kernels that are not in the file."""
        met = {self.launches.get(work.launch) for work in self.kernels}
        there = {index for index in self.launches.values() if "launch" in self.events[index].name.lower()}
        return len(there - met)

    @property
    def processes(self) -> int:
        """The number of processes that launched the works."""
        indices = {self._launch_of(work) for work in self.kernels} - {-1}
        threads = {self.events[index].thread for index in indices}
        return len({thread[0] if isinstance(thread, tuple) else thread for thread in threads})

    def on(self, gpu: int) -> Profile:
        """The profile with the works of one GPU. Those that do not say where they ran count if it is the only one."""
        kept = (gpu, None) if self.gpus == (gpu,) else (gpu,)
        return replace(self, kernels=tuple(work for work in self.kernels if work.device in kept))

    @cached_property
    def order(self) -> list[int]:
        """Indices of the events in order of their start, the outer before the inner."""
        return sorted(range(len(self.events)), key=lambda i: (self.events[i].start_ns, -self.events[i].end_ns, i))

    @cached_property
    def parents(self) -> list[int]:
        """For each event, the index of the innermost event of the same thread in which it begins; -1 if there is
        none."""
        parents, open_events = [-1] * len(self.events), dict[Hashable, list[int]]()
        for index in self.order:
            event = self.events[index]
            stack = open_events.setdefault(event.thread, [])
            while stack and self.events[stack[-1]].end_ns <= event.start_ns:
                stack.pop()
            parents[index] = stack[-1] if stack else -1
            if event.kind != "launch":
                stack.append(index)
        return parents

    @cached_property
    def depths(self) -> list[int]:
        """For each event, how many events are around it."""
        depths = [0] * len(self.events)
        for index in self.order:
            parent = self.parents[index]
            depths[index] = 0 if parent < 0 else depths[parent] + 1
        return depths

    @cached_property
    def _outermost(self) -> list[int]:
        """Indices of the operations that are in no other."""
        within = [False] * len(self.events)
        for index in self.order:
            parent = self.parents[index]
            within[index] = parent >= 0 and (within[parent] or self.events[parent].kind == "op")
        return [index for index, event in enumerate(self.events) if event.kind == "op" and not within[index]]

    def chain(self, index: int) -> Iterator[int]:
        """Indices of an event and of all events around it, the innermost first."""
        while index >= 0:
            yield index
            index = self.parents[index]

    @cached_property
    def works(self) -> list[tuple[Work, int]]:
        """(work, index of the event that launched it or -1) of all work, in order of launch.

        In a profile without kernels (of the processor alone) the outermost operations are the work.
        """
        if self.kernels:
            placed = [(work, self._launch_of(work)) for work in self.kernels]
        else:
            placed = [
                (Work(event.name, event.start_ns, event.end_ns), index)
                for index, event in ((index, self.events[index]) for index in self._outermost)
            ]
        return sorted(placed, key=lambda pair: (self.launched_ns(*pair), pair[0].start_ns, pair[0].name))

    def _launch_of(self, work: Work) -> int:
        return -1 if work.launch is None else self.launches.get(work.launch, -1)

    def launched_ns(self, work: Work, index: int) -> int:
        """Time at which the processor launched the work; if no call is known, the time at which the work began."""
        return self.events[index].start_ns if index >= 0 else work.start_ns


def _launches(call: str) -> bool:
    lower = call.lower()
    return any(word in lower for word in _LAUNCHES)


def busy_ns(works: list[Work]) -> int:
    """Time in which at least one of the works ran, ns."""
    total, end = 0, None
    for work in sorted(works, key=lambda w: w.start_ns):
        begin = work.start_ns if end is None else max(work.start_ns, end)
        total += max(0, work.end_ns - begin)
        end = work.end_ns if end is None else max(end, work.end_ns)
    return total
