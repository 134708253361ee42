"""A meter and an NVML that behave as a GPU's would, where there is none."""

from __future__ import annotations

import threading
import types
from typing import Any

from h2sim.gpu.energy import Timing
from h2sim.gpu.meter import State


class FakeMeter:
    """A GPU that takes `watts` whatever it does, and may count energy; time passes as `step` is called."""

    def __init__(self, watts: float = 100.0, counts: bool = True, busy: float = 0.5) -> None:
        self.watts, self.counts, self.busy, self.seconds = watts, counts, busy, 0.0
        self.timing = Timing(lambda: self.seconds, self.sleep)
        self.steps = 0

    def looked_at(self) -> Timing:
        """A millisecond passes whenever the main thread looks: what a sampling thread does takes no time."""

        def now() -> float:
            if threading.current_thread() is threading.main_thread():
                self.seconds += 1e-3
            return self.seconds

        return Timing(now, self.sleep)

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

    def state(self) -> State:
        return State(1500.0, 1200.0, 61.0, ("software power cap",))


class FakeNvml(types.ModuleType):
    """pynvml as h2sim calls it: a GPU of 300 W; what stands in `missing` is not supported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_FI_DEV_POWER_INSTANT = 186

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
            "nvmlDeviceGetNumGpuCores": 5120,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x24,
            "nvmlDeviceGetEccMode": (1, 1),
            "nvmlDeviceGetPersistenceMode": 0,
        }
        for name, value in answers.items():
            setattr(self, name, lambda gpu, name=name, value=value: self._answer(name, value, missing))
        self.nvmlInit = lambda: self._answer("nvmlInit", None, missing)
        self.nvmlDeviceGetHandleByUUID = lambda uuid: self._answer("nvmlDeviceGetHandleByUUID", uuid, missing)
        for name, by_kind in (
            ("nvmlDeviceGetMaxClockInfo", {1: 1530, 2: 877}),
            ("nvmlDeviceGetClockInfo", {1: 1290, 2: 870}),
        ):
            setattr(self, name, lambda gpu, kind, name=name, told=by_kind: self._answer(name, told[kind], missing))
        self.nvmlDeviceGetTemperature = lambda gpu, sensor: self._answer("nvmlDeviceGetTemperature", 64, missing)
        instant = types.SimpleNamespace(nvmlReturn=0, value=types.SimpleNamespace(uiVal=125_000))
        self.nvmlDeviceGetFieldValues = lambda gpu, ids: self._answer("nvmlDeviceGetFieldValues", [instant], missing)
        self.nvmlSystemGetDriverVersion = lambda: self._answer("nvmlSystemGetDriverVersion", "580.1", missing)

    def _answer(self, name: str, value: Any, missing: tuple[str, ...]) -> Any:
        if name in missing:
            raise self.NVMLError("Not Supported")
        return value


class FakeEvent:
    """A CUDA event that stands for the number of events before it, in milliseconds."""

    made = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        assert stream == "stream"
        FakeEvent.made += 1
        self.at_ms = FakeEvent.made

    def elapsed_time(self, later: FakeEvent) -> float:
        return float(later.at_ms - self.at_ms)
