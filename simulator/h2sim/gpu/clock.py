"""Clocks with one interface: CUDA events on the GPU's own time line, or the processor's nanoseconds.

A mark is a point in time. Taking one is cheap, and it may still lie in the future when mark() returns.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from h2sim.gpu.trace import RowPhase

if TYPE_CHECKING:
    import torch

Label = tuple[str, RowPhase]


class Clock(Protocol):
    """What takes marks: wait() returns when all of them are past, and then seconds(earlier, later) is the time between
    two."""

    def mark(self) -> Any:
        """A mark after all work that was started before it."""

    def wait(self) -> None:
        """Returns when all marks lie in the past."""

    def seconds(self, earlier: Any, later: Any) -> float:
        """Time from one mark to another, s."""
        ...


class CpuClock:
    """The processor's clock. Work is done when its call returns; a mark is a number of nanoseconds."""

    def mark(self) -> int:
        return time.perf_counter_ns()

    def wait(self) -> None:
        return None

    def seconds(self, earlier: int, later: int) -> float:
        return (later - earlier) / 1e9


class CudaClock:
    """The GPU's clock.

    A mark is a CUDA event in the current stream: it does not stop the GPU, and gaps between kernels count.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> torch.cuda.Event:
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize(self.device)

    def seconds(self, earlier: torch.cuda.Event, later: torch.cuda.Event) -> float:
        milliseconds: float = earlier.elapsed_time(later)
        return milliseconds / 1e3


class Marks:
    """Divides a step's time: the time from one mark to the next belongs to the layer and phase of the earlier one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._marks: list[tuple[Label, Any]] = []

    def __call__(self, layer: str, phase: RowPhase) -> None:
        self._marks.append(((layer, phase), self.clock.mark()))

    def end(self) -> tuple[float, dict[Label, float]]:
        """(seconds from the first mark to now, seconds by label).

        The latter add up to the former. All marks are forgotten.
        """
        labels, stamps = [label for label, _ in self._marks], [stamp for _, stamp in self._marks]
        stamps.append(self.clock.mark())
        self._marks = []
        self.clock.wait()
        parts: dict[Label, float] = defaultdict(float)
        for label, earlier, later in zip(labels, stamps, stamps[1:], strict=False):
            parts[label] += self.clock.seconds(earlier, later)
        return self.clock.seconds(stamps[0], stamps[-1]), dict(parts)


def timed(clock: Clock, work: Callable[[], None]) -> float:
    """Seconds that `work` takes, from an idle device until the device is idle again."""
    clock.wait()
    first = clock.mark()
    work()
    last = clock.mark()
    clock.wait()
    return clock.seconds(first, last)
