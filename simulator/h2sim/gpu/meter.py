"""What h2sim asks a GPU for while it runs (Meter), and NVML's answers: energy, power, clocks, temperature."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from h2sim.errors import GpuTraceError

REASONS = {  # NVML's bits of why a clock is low
    0x2: "applications' clock setting", 0x4: "software power cap", 0x8: "hardware slowdown", 0x10: "sync boost",
    0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown", 0x80: "hardware power brake",
    0x100: "display clock setting",
}  # fmt: skip


class MeterError(GpuTraceError):
    """Energy cannot be measured. The text says why."""


@dataclass(frozen=True)
class State:
    """A GPU's clocks in MHz, its temperature in degrees Celsius, and why it runs slower than it could."""

    sm_mhz: float | None = None
    memory_mhz: float | None = None
    temperature_c: float | None = None
    throttled: tuple[str, ...] = ()


class Meter(Protocol):
    """What h2sim asks a GPU for. Each answer is None if the GPU does not give it."""

    def energy_mj(self) -> int | None:
        """Energy since the driver was loaded, mJ."""

    def power_w(self) -> float | None:
        """Power now, or averaged by the driver over a short time, W."""

    def memory_busy_share(self) -> float | None:
        """Share of the driver's last sampling period in which the external memory was read or written, 0 to 1."""

    def state(self) -> State:
        """Clocks, temperature and throttling now."""
        ...


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

    def _ask(self, name: str, *more: Any) -> Any:
        """NVML's answer to a question about the GPU; None where the GPU, or this NVML, has none."""
        try:
            asked = getattr(self._nvml, name, None)
            return None if asked is None else asked(self._gpu, *more)
        except self._nvml.NVMLError:
            return None

    def energy_mj(self) -> int | None:
        millijoules: int | None = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return millijoules

    def power_w(self) -> float | None:
        milliwatts = self._instant_mw() or self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts * 1e-3

    def _instant_mw(self) -> int | None:
        """Power now, mW: of some GPUs nvmlDeviceGetPowerUsage is the mean of a second."""
        field = getattr(self._nvml, "NVML_FI_DEV_POWER_INSTANT", None)
        found = None if field is None else self._ask("nvmlDeviceGetFieldValues", [field])
        return int(found[0].value.uiVal) if found and found[0].nvmlReturn == 0 else None

    def state(self) -> State:
        sm_mhz, memory_mhz = (
            self._ask("nvmlDeviceGetClockInfo", getattr(self._nvml, f"NVML_CLOCK_{of}", None)) for of in ("SM", "MEM")
        )
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        throttled = tuple(said for bit, said in REASONS.items() if bits & bit)
        return State(sm_mhz, memory_mhz, self._ask("nvmlDeviceGetTemperature", 0), throttled)

    def peak_flops_per_s(self) -> float | None:
        """The most float32 operations per second, derived: 2 x cores x highest clock."""
        cores = self._ask("nvmlDeviceGetNumGpuCores")
        clock_mhz = self._ask("nvmlDeviceGetMaxClockInfo", getattr(self._nvml, "NVML_CLOCK_SM", None))
        return None if cores is None or clock_mhz is None else 2e6 * cores * clock_mhz

    def modes(self) -> dict[str, str]:
        """Modes that change how fast it is, and how its energy is told, by name."""
        asked = {"ecc": "nvmlDeviceGetEccMode", "mig": "nvmlDeviceGetMigMode",
                 "persistence": "nvmlDeviceGetPersistenceMode"}  # fmt: skip
        answers = {name: self._ask(question) for name, question in asked.items()}
        first = {name: told[0] if isinstance(told, list | tuple) else told for name, told in answers.items()}
        return {name: "on" if told else "off" for name, told in first.items() if told is not None}

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
        clock_mhz = self._ask("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_MEM)
        bits = self._ask("nvmlDeviceGetMemoryBusWidth")
        return None if bits is None or clock_mhz is None else 2.0 * clock_mhz * 1e6 * bits / 8

    def driver(self) -> str | None:
        """The driver's version."""
        try:
            text = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        return text.decode() if isinstance(text, bytes) else str(text)
