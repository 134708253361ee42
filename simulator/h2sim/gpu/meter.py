"""Energy of a GPU by NVML: the difference of its energy counter where the GPU has one, else its power integrated."""

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
    """Energy cannot be measured. The text says why."""


class Meter(Protocol):
    """What h2sim asks a GPU for. Each answer is None if the GPU does not give it."""

    def energy_mj(self) -> int | None:
        """Energy since the driver was loaded, mJ."""

    def power_w(self) -> float | None:
        """Power now, or averaged by the driver over a short time, W."""

    def memory_busy_share(self) -> float | None:
        """Share of the driver's last sampling period in which the external memory was read or written, 0 to 1."""


class NvmlMeter:
    """One GPU as NVML sees it. It is found by its UUID, because NVML does not follow CUDA_VISIBLE_DEVICES.

    Raises MeterError if pynvml or the GPU cannot be had.
    """

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
        """The power limit that the driver enforces, W."""
        milliwatts = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return None if milliwatts is None else milliwatts * 1e-3

    def memory_bandwidth_bytes_per_s(self) -> float | None:
        """Bandwidth of the external memory, derived: 2 transfers per cycle x highest memory clock x bus width in
        bytes."""
        try:
            clock_mhz = self._nvml.nvmlDeviceGetMaxClockInfo(self._gpu, self._nvml.NVML_CLOCK_MEM)
        except self._nvml.NVMLError:
            return None
        bits = self._ask("nvmlDeviceGetMemoryBusWidth")
        return None if bits is None else 2.0 * clock_mhz * 1e6 * bits / 8

    def driver(self) -> str | None:
        """The driver's version."""
        try:
            text = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        return text.decode() if isinstance(text, bytes) else str(text)


@dataclass(frozen=True)
class Timing:
    """The functions that tell time and wait. Tests replace them, and so need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Sampler:
    """A context manager that samples power and memory use in a thread, every INTERVAL_S and at both ends of its block.

    samples: (seconds, watts). busy: shares of time in which the memory was busy.
    """

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


def measure_energy(
    meter: Meter,
    step: Callable[[], None],
    wait: Callable[[], None],
    step_seconds: float,
    idle_w: float | None,
    least_seconds: float = 2.0,
    timing: Timing | None = None,
) -> Energy:
    """Energy of one step: the energy of as many steps as take `least_seconds`, divided by their number.

    wait() returns when the GPU is idle. idle_w: power of the idle GPU, for the energy above idle. Raises MeterError if
    the GPU gives neither energy nor power, or nothing above 0.
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
