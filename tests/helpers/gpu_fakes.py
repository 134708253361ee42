"""A meter and an NVML that behave as a GPU's would, where there is none."""

from __future__ import annotations

import types
from typing import Any

from h2sim.gpu.meter import Timing


class FakeMeter:
    """A GPU that takes `watts` whatever it does, and may count energy; time passes as `step` is called."""

    def __init__(self, watts: float = 100.0, counts: bool = True, busy: float = 0.5) -> None:
        self.watts, self.counts, self.busy, self.seconds = watts, counts, busy, 0.0
        self.timing = Timing(lambda: self.seconds, self.sleep)
        self.steps = 0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def step(self) -> None:
        self.steps += 1
        self.seconds += 0.25

    def energy_mj(self) -> int | None:
        return round(self.watts * self.seconds * 1000) if self.counts else None

    def power_w(self) -> float | None:
        return self.watts

    def memory_busy_share(self) -> float | None:
        return self.busy


class FakeNvml(types.ModuleType):
    """pynvml as h2sim calls it: a GPU of 300 W; what stands in `missing` is not supported."""

    NVML_CLOCK_MEM = 2

    class NVMLError(Exception):
        pass

    def __init__(self, *missing: str) -> None:
        super().__init__("pynvml")
        answers = {
            "nvmlDeviceGetTotalEnergyConsumption": 5_000,
            "nvmlDeviceGetPowerUsage": 123_456,
            "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=90, memory=40),
            "nvmlDeviceGetEnforcedPowerLimit": 300_000,
            "nvmlDeviceGetMemoryBusWidth": 4096,
        }
        for name, value in answers.items():
            setattr(self, name, lambda gpu, name=name, value=value: self._answer(name, value, missing))
        self.nvmlInit = lambda: self._answer("nvmlInit", None, missing)
        self.nvmlDeviceGetHandleByUUID = lambda uuid: self._answer("nvmlDeviceGetHandleByUUID", uuid, missing)
        self.nvmlDeviceGetMaxClockInfo = lambda gpu, kind: self._answer("nvmlDeviceGetMaxClockInfo", 877, missing)
        self.nvmlSystemGetDriverVersion = lambda: self._answer("nvmlSystemGetDriverVersion", "580.1", missing)

    def _answer(self, name: str, value: Any, missing: tuple[str, ...]) -> Any:
        if name in missing:
            raise self.NVMLError("Not Supported")
        return value
