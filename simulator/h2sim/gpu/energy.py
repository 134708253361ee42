"""Energy of a GPU: the difference of its energy counter where the GPU has one, else its power integrated."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from h2sim.errors import at
from h2sim.gpu.meter import Meter, MeterError, State
from h2sim.gpu.trace import Conditions, Energy

INTERVAL_S = 0.01  # [A] between two readings of the power
LEAST_COUNTS = 50  # steps of the energy counter in a window, so that one more or less is 2 %
AGREEMENT = 0.05  # of the energies of two windows
Sample = tuple[float, float]


@dataclass(frozen=True)
class Timing:
    """The functions that tell time and wait. Tests replace them, and so need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Sampler:
    """A context manager that samples a GPU in a thread, every INTERVAL_S and at both ends of its block.

    samples: (seconds, watts). busy: shares of time in which the memory was busy. counts_mj: of the energy counter.
    """

    def __init__(self, meter: Meter, timing: Timing | None = None) -> None:
        self.meter, self.timing = meter, timing or Timing()
        self.samples: list[Sample] = []
        self.busy: list[float] = []
        self.counts_mj: list[int] = []
        self.states: list[State] = []
        self._error: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _note(self) -> None:
        watts = self.meter.power_w()
        if watts is not None:
            self.samples.append((self.timing.now(), watts))
        share = self.meter.memory_busy_share()
        if share is not None:
            self.busy.append(share)
        count = self.meter.energy_mj()
        if count is not None:
            self.counts_mj.append(count)
        self.states.append(self.meter.state())

    def _run(self) -> None:
        try:
            while not self._done.wait(INTERVAL_S):
                self._note()
        except Exception as error:  # raised again where the block ends
            self._error = error

    def __enter__(self) -> Sampler:
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._note()


def trapezoid_joules(samples: list[Sample]) -> float:
    """Energy from the first to the last sample (seconds, watts), J: the sum of (t1 - t0) x (w0 + w1) / 2 over
    neighbours."""
    return math.fsum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(samples))


def idle_power_w(meter: Meter, seconds: float = 1.0, timing: Timing | None = None) -> float | None:
    """Mean power of the idle GPU over `seconds`, W, its CUDA context made before.

    None if the GPU does not tell its power.
    """
    timing = timing or Timing()
    samples: list[float] = []
    end = timing.now() + seconds
    while not samples or timing.now() < end:
        watts = meter.power_w()
        if watts is None:
            return None
        samples.append(watts)
        timing.sleep(INTERVAL_S)
    return fmean(samples)


@dataclass(frozen=True)
class Measured:
    """The energy of a step, and what the GPU did meanwhile."""

    energy: Energy
    conditions: Conditions


@dataclass(frozen=True)
class _Window:
    """Energy of `steps` steps in a row, J, and how it was found. step_j: the smallest step of the counter."""

    joules: float
    seconds: float
    steps: int
    method: str
    step_j: float | None
    sampler: Sampler

    @property
    def each_j(self) -> float:
        return self.joules / self.steps


def measure_energy(
    meter: Meter,
    step: Callable[[], None],
    wait: Callable[[], None],
    step_seconds: float,
    idle_w: float | None,
    least_seconds: float = 2.0,
    timing: Timing | None = None,
) -> Measured:
    """Energy of one step: the energy of as many steps as take `least_seconds`, divided by their number.

    A second window of half that time must give the same, but for AGREEMENT. wait() returns when the GPU is idle.
    idle_w: power of the idle GPU, for the energy above idle. Raises MeterError if the GPU gives neither energy nor
    power, or nothing above 0; if the windows do not agree, with both figures; and if the counter's steps are too large.
    """
    timing = timing or Timing()
    long, short = (
        _window(meter, step, wait, max(1, math.ceil(seconds / step_seconds)), timing)
        for seconds in (least_seconds, least_seconds / 2)
    )
    if abs(long.each_j - short.each_j) > AGREEMENT * max(long.each_j, short.each_j):
        told = " and ".join(f"{w.each_j:.4g} J over {w.seconds:.3g} s" for w in (long, short))
        raise MeterError(f"energy of a step: expected two windows within {AGREEMENT:.0%}; got {told}")
    energy = Energy(
        method=f"{long.method}, whole board",
        joules=long.each_j,
        above_idle_joules=None if idle_w is None else (long.joules - idle_w * long.seconds) / long.steps,
        idle_w=idle_w,
        measured_seconds=long.seconds,
        measured_steps=long.steps,
        memory_busy_share=fmean(long.sampler.busy) if long.sampler.busy else None,
        shorter_joules=short.each_j,
        shorter_seconds=short.seconds,
        counter_step_joules=long.step_j,
    )
    return Measured(energy, conditions_of([*long.sampler.states, *short.sampler.states]))


def _window(meter: Meter, step: Callable[[], None], wait: Callable[[], None], steps: int, timing: Timing) -> _Window:
    wait()
    with Sampler(meter, timing) as sampler:
        start_mj, start = meter.energy_mj(), timing.now()
        for _ in range(steps):
            step()
        wait()
        end_mj, seconds = meter.energy_mj(), timing.now() - start
    step_j = None
    if start_mj is not None and end_mj is not None and end_mj > start_mj:
        joules, method = (end_mj - start_mj) * 1e-3, "NVML's total energy counter"
        step_j = counter_step_j(sampler.counts_mj, joules)
    elif len(sampler.samples) < 2:
        raise MeterError("NVML: this GPU gives neither energy nor power")
    else:
        joules, method = trapezoid_joules(sampler.samples), "NVML's power, integrated by trapezoids"
        seconds = sampler.samples[-1][0] - sampler.samples[0][0]
    if joules <= 0 or seconds <= 0:
        raise MeterError(f"{method}: expected energy above 0 J; got {joules:g} J in {seconds:g} s")
    return _Window(joules, seconds, steps, method, step_j, sampler)


def counter_step_j(counts_mj: list[int], joules: float) -> float | None:
    """The smallest step of the energy counter among its readings in a window, J; None if it was read too seldom to say.

    Raises MeterError if the window's energy is less than LEAST_COUNTS such steps.
    """
    if len(counts_mj) <= LEAST_COUNTS:
        return None
    step_j = 1e-3 * min((later - earlier for earlier, later in pairwise(counts_mj) if later > earlier), default=0)
    if not joules >= LEAST_COUNTS * step_j > 0:
        wanted = f"a window of at least {LEAST_COUNTS} of its steps; measure for longer"
        raise MeterError(at("NVML", "energy counter", wanted, f"{joules:.4g} J, steps of {step_j:.4g} J"))
    return step_j


def conditions_of(states: list[State]) -> Conditions:
    """Clocks, temperature and throttling over many readings."""
    sm = [state.sm_mhz for state in states if state.sm_mhz]
    memory = [state.memory_mhz for state in states if state.memory_mhz]
    warm = [state.temperature_c for state in states if state.temperature_c is not None]
    return Conditions(
        sm_clock_mhz=median(sm) if sm else None,
        lowest_sm_clock_mhz=min(sm, default=None),
        memory_clock_mhz=median(memory) if memory else None,
        lowest_memory_clock_mhz=min(memory, default=None),
        temperature_c=max(warm, default=None),
        throttled=tuple(dict.fromkeys(reason for state in states for reason in state.throttled)),
    )
