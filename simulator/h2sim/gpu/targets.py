"""The devices that a step can be timed on: the first CUDA GPU, or this machine's processor."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.clock import Clock, CpuClock, CudaClock
from h2sim.gpu.meter import Meter, MeterError, NvmlMeter
from h2sim.gpu.trace import Device


@dataclass(frozen=True, kw_only=True)
class Target:
    """The device that runs the step.

    meter: what measures its energy; no_meter: the reason if nothing does. software: versions and settings by name.
    """

    name: str
    clock: Clock
    device: Device
    meter: Meter | None
    no_meter: str
    software: dict[str, str]


def cuda_target() -> Target:
    """The first CUDA GPU. Raises GpuTraceError if there is none."""
    if not torch.cuda.is_available():
        wanted = "a CUDA GPU, and a torch built for it"
        instead = "none (device cpu times this machine's processor instead)"
        raise GpuTraceError(f"device: expected {wanted}; got {instead}")
    seen = torch.cuda.get_device_properties(0)
    torch.zeros(1, device="cuda:0")  # makes the context, whose power belongs to the idle power
    meter, reason = None, ""
    try:
        meter = NvmlMeter(f"GPU-{seen.uuid}")
    except MeterError as error:
        reason = str(error)
    device = Device(
        name=seen.name,
        power_w=meter.power_limit_w() if meter else None,
        memory_bytes=seen.total_memory,
        memory_bandwidth_bytes_per_s=meter.memory_bandwidth_bytes_per_s() if meter else None,
        peak_flops_per_s=meter.peak_flops_per_s() if meter else None,
    )
    versions = {"driver": meter.driver() if meter else None, "cuda": torch.version.cuda}
    cudnn_version: Callable[[], int | None] = torch.backends.cudnn.version
    cudnn = cudnn_version()
    settings = {
        "cudnn": None if cudnn is None else str(cudnn),
        "cudnn_benchmark": str(torch.backends.cudnn.benchmark),
        "cudnn_allow_tf32": str(torch.backends.cudnn.allow_tf32),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "compute_capability": f"{seen.major}.{seen.minor}",
    }
    modes = meter.modes() if meter else {}
    software = {name: text for name, text in {**versions, **settings, **modes}.items() if text}
    return Target(
        name="cuda:0",
        clock=CudaClock(torch.device("cuda:0")),
        device=device,
        meter=meter,
        no_meter=reason,
        software=software,
    )


def cpu_target() -> Target:
    """This machine's processor, with the threads that torch is set to."""
    name = f"{platform.machine()} processor, {torch.get_num_threads()} threads"
    return Target(
        name="cpu",
        clock=CpuClock(),
        device=Device(name=name),
        meter=None,
        no_meter="not measured on a processor; NVML measures GPUs alone",
        software={},
    )


TARGETS = {"cuda": cuda_target, "cpu": cpu_target}


def target_of(device: str | None) -> Target:
    """The target of a name, 'cuda' or 'cpu'; None: CUDA if there is one, else the processor.

    Raises GpuTraceError for another name, and where there is no such device.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    if name not in TARGETS:
        raise GpuTraceError(at("record", "device", f"one of {', '.join(TARGETS)}", repr(device)))
    return TARGETS[name]()
