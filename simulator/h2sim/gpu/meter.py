"""Energy of a GPU: NVML behind a small protocol, its counter where the GPU has one, else its power integrated."""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Protocol

from h2sim.errors import GpuTraceError
from h2sim.gpu.trace import Energy

INTERVAL_S = 0.01  # [A] between two readings of the power
Sample = tuple[float, float]


class MeterError(GpuTraceError):
    """There is nothing to measure energy with; its text is the reason."""


class Meter(Protocol):
    """What h2sim asks a GPU for; None where the GPU does not say."""

    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded."""

    def power_w(self) -> float | None:
        """Watts now, or over the driver's last short while."""

    def memory_busy_share(self) -> float | None:
        """Share of the last short while in which the external memory was read or written."""


class NvmlMeter:
    """NVML's view of one GPU, found by its UUID (so that CUDA_VISIBLE_DEVICES cannot mislead)."""

    def __init__(self, uuid: str) -> None:
        try:
            pynvml: Any = importlib.import_module("pynvml")
        except ModuleNotFoundError:
            raise MeterError("no pynvml: pip install nvidia-ml-py") from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise MeterError(f"NVML: {error}") from None

    def _ask(self, name: str) -> Any:
        try:
            return getattr(self._nvml, name)(self._gpu)
        except self._nvml.NVMLError:
            return None

    def energy_mj(self) -> int | None:
        millijoules: int | None = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return millijoules

    def power_w(self) -> float | None:
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts * 1e-3

    def memory_busy_share(self) -> float | None:
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return None if rates is None else rates.memory / 100

    def power_limit_w(self) -> float | None:
        """The limit that the driver keeps to."""
        milliwatts = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return None if milliwatts is None else milliwatts * 1e-3

    def memory_bandwidth_bytes_per_s(self) -> float | None:
        """Derived: two transfers per clock of the memory at its highest, over the whole bus."""
        try:
            clock_mhz = self._nvml.nvmlDeviceGetMaxClockInfo(self._gpu, self._nvml.NVML_CLOCK_MEM)
        except self._nvml.NVMLError:
            return None
        bits = self._ask("nvmlDeviceGetMemoryBusWidth")
        return None if bits is None else 2.0 * clock_mhz * 1e6 * bits / 8

    def driver(self) -> str | None:
        """Version of the driver."""
        try:
            text = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        return text.decode() if isinstance(text, bytes) else str(text)


@dataclass(frozen=True)
class Timing:
    """Where time comes from, so that tests need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Sampler:
    """A thread that notes power and memory use every INTERVAL_S while the block runs; once at either end too."""

    def __init__(self, meter: Meter, timing: Timing | None = None) -> None:
        self.meter, self.timing = meter, timing or Timing()
        self.samples: list[Sample] = []
        self.busy: list[float] = []
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
    """Energy between the first and the last (seconds, watts): straight lines from reading to reading."""
    return math.fsum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(samples))


def idle_power_w(meter: Meter, seconds: float = 1.0, timing: Timing | None = None) -> float | None:
    """Mean power while nothing runs, its context made: readings over `seconds`; None where the GPU gives none."""
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


def measure_energy(
    meter: Meter,
    step: Callable[[], None],
    wait: Callable[[], None],
    step_seconds: float,
    idle_w: float | None,
    least_seconds: float = 2.0,
    timing: Timing | None = None,
) -> Energy:
    """Energy of one step: that of so many that they last `least_seconds`, divided.

    `wait` returns when the GPU is idle. Raises MeterError where the GPU gives neither energy nor power.
    """
    timing, steps = timing or Timing(), max(1, math.ceil(least_seconds / step_seconds))
    wait()
    with Sampler(meter, timing) as sampler:
        start_mj, start = meter.energy_mj(), timing.now()
        for _ in range(steps):
            step()
        wait()
        end_mj, seconds = meter.energy_mj(), timing.now() - start
    if start_mj is not None and end_mj is not None and end_mj > start_mj:
        joules, method = (end_mj - start_mj) * 1e-3, "NVML's total energy counter"
    elif len(sampler.samples) < 2:
        raise MeterError("NVML: this GPU gives neither energy nor power")
    else:
        joules, method = trapezoid_joules(sampler.samples), "NVML's power, integrated by trapezoids"
        seconds = sampler.samples[-1][0] - sampler.samples[0][0]
    if joules <= 0 or seconds <= 0:
        raise MeterError(f"{method}: expected energy above 0 J; got {joules:g} J in {seconds:g} s")
    return Energy(
        method=f"{method}, whole board",
        joules=joules / steps,
        above_idle_joules=None if idle_w is None else (joules - idle_w * seconds) / steps,
        idle_w=idle_w,
        measured_seconds=seconds,
        measured_steps=steps,
        memory_busy_share=fmean(sampler.busy) if sampler.busy else None,
    )
