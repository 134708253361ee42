"""A profile of a training step, whatever file it is from: kernels, and the calls, operations and ranges behind them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

Kind = Literal["range", "op", "launch"]


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Profile:
    """All of a profile.

    launches: index of the launching event by key. devices: names of GPUs by number, as far as the file says them.
    left_out: what was passed over and how often, such as events whose times cannot be.
    """

    kernels: tuple[Work, ...]
    events: tuple[Event, ...]
    launches: dict[Hashable, int]
    devices: Mapping[int, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def gpus(self) -> tuple[int, ...]:
        """The numbers of the GPUs that kernels ran on, as far as the file says them."""
        return tuple(sorted({work.device for work in self.kernels if work.device is not None}))

    @property
    def launched(self) -> bool:
        """Whether the processor launched anything on a GPU, recorded there or not."""
        return any(event.kind == "launch" and "launch" in event.name.lower() for event in self.events)

    def on(self, gpu: int) -> Profile:
        """The profile with the kernels of one GPU, and those of which the file does not say where they ran."""
        return replace(self, kernels=tuple(work for work in self.kernels if work.device in (gpu, None)))

    @cached_property
    def parents(self) -> list[int]:
        """For each event, the index of the innermost event of the same thread in which it begins; -1 if there is
        none."""
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
                for index, event in enumerate(self.events)
                if event.kind == "op" and not any(self.events[i].kind == "op" for i in self._outside(index))
            ]
        return sorted(placed, key=lambda pair: (self.launched_ns(*pair), pair[0].start_ns, pair[0].name))

    def _launch_of(self, work: Work) -> int:
        return -1 if work.launch is None else self.launches.get(work.launch, -1)

    def _outside(self, index: int) -> Iterator[int]:
        return self.chain(self.parents[index])

    def launched_ns(self, work: Work, index: int) -> int:
        """Time at which the processor launched the work; if no call is known, the time at which the work began."""
        return self.events[index].start_ns if index >= 0 else work.start_ns


def busy_ns(works: list[Work]) -> int:
    """Time in which at least one of the works ran, ns."""
    total, end = 0, None
    for work in sorted(works, key=lambda w: w.start_ns):
        begin = work.start_ns if end is None else max(work.start_ns, end)
        total += max(0, work.end_ns - begin)
        end = work.end_ns if end is None else max(end, work.end_ns)
    return total
