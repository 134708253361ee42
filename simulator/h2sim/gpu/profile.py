"""A profile of a training step as its readers give it: kernels, and the calls, operations and ranges behind them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["range", "op", "launch"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """An interval on a thread: a range that somebody named, an operation of PyTorch, or a call that launches work.

    sequence joins an operation of the backward pass to the one of the forward pass that made it (autograd's number).
    """

    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    thread: Hashable
    sequence: int | None = None


@dataclass(frozen=True)
class Work:
    """What took time on the device: a kernel or a copy; `launch` is the key of the call that launched it."""

    name: str
    start_ns: int
    end_ns: int
    launch: Hashable | None = None

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True)
class Profile:
    """launches: the event that each key names; device: its name, where the file says."""

    kernels: tuple[Work, ...]
    events: tuple[Event, ...]
    launches: dict[Hashable, int]
    device: str | None = None

    @cached_property
    def parents(self) -> list[int]:
        """The innermost event of the same thread within which each begins; -1 where there is none."""
        order = sorted(range(len(self.events)), key=lambda i: (self.events[i].start_ns, -self.events[i].end_ns, i))
        parents, open_events = [-1] * len(self.events), dict[Hashable, list[int]]()
        for index in order:
            event = self.events[index]
            stack = open_events.setdefault(event.thread, [])
            while stack and self.events[stack[-1]].end_ns <= event.start_ns:
                stack.pop()
            parents[index] = stack[-1] if stack else -1
            if event.kind != "launch":
                stack.append(index)
        return parents

    def chain(self, index: int) -> Iterator[int]:
        """An event and all that hold it, the innermost first."""
        while index >= 0:
            yield index
            index = self.parents[index]

    @cached_property
    def works(self) -> list[tuple[Work, int]]:
        """(work, the event that it comes from or -1), by time of launch.

        Without a kernel (a profile of the processor alone) the outermost operations are the work.
        """
        if self.kernels:
            placed = [(work, self._launch_of(work)) for work in self.kernels]
        else:
            placed = [
                (Work(event.name, event.start_ns, event.end_ns), index)
                for index, event in enumerate(self.events)
                if event.kind == "op" and not any(self.events[i].kind == "op" for i in self._outside(index))
            ]
        return sorted(placed, key=lambda pair: (self.launched_ns(*pair), pair[0].start_ns, pair[0].name))

    def _launch_of(self, work: Work) -> int:
        return -1 if work.launch is None else self.launches.get(work.launch, -1)

    def _outside(self, index: int) -> Iterator[int]:
        return self.chain(self.parents[index])

    def launched_ns(self, work: Work, index: int) -> int:
        """When the processor asked for it; when it began, where no call is known."""
        return self.events[index].start_ns if index >= 0 else work.start_ns


def busy_ns(works: list[Work]) -> int:
    """Time in which at least one of them ran: overlaps count once."""
    total, end = 0, None
    for work in sorted(works, key=lambda w: w.start_ns):
        begin = work.start_ns if end is None else max(work.start_ns, end)
        total += max(0, work.end_ns - begin)
        end = work.end_ns if end is None else max(end, work.end_ns)
    return total
