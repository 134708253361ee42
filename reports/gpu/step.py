"""One training step of a point, and what it takes in this process: on the CPU memory, on a GPU time and energy too."""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from networks import NETWORKS
from torch import distributed, nn
from torch.nn import functional

from h2sim.gpu.clock import CudaClock, timed
from h2sim.gpu.energy import idle_power_w, measure_energy
from h2sim.gpu.meter import MeterError, NvmlMeter

WARM_UP, REPEATS, ENERGY_S = 5, 20, 10.0  # steps, steps, seconds


@dataclass(frozen=True, kw_only=True, order=True)
class Point:
    """What one process measures. batch: of one process. forward: the forward pass alone, without gradients."""

    device: str
    network: str
    batch_norm: bool
    timesteps: int
    batch: int
    way: str
    processes: int = 1
    forward: bool = False


class Step:
    """One training step, or forward pass, of a point, on synthetic images."""

    def __init__(self, point: Point) -> None:
        torch.manual_seed(0)
        self.point = point
        self.device = _device(point)
        side, classes, build = NETWORKS[point.network]
        model = build(point.batch_norm, point.way, point.processes > 1).to(self.device)
        if point.processes > 1:
            if point.device == "cuda" and not point.way.startswith("fused"):
                model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            model = nn.parallel.DistributedDataParallel(model)
        self.model = model.eval() if point.forward else model
        generator = torch.Generator().manual_seed(1 + _rank(point))
        self.frames = torch.rand(point.timesteps, point.batch, 3, side, side, generator=generator).to(self.device)
        self.labels = (torch.arange(point.batch) % classes).to(self.device)

    def __call__(self, timesteps: int | None = None, samples: int | None = None) -> torch.Tensor:
        """The loss; of so many timesteps and samples."""
        frames, labels = self.frames[:timesteps, :samples], self.labels[:samples]
        with torch.set_grad_enabled(not self.point.forward):
            loss = functional.cross_entropy(self.model(frames), labels)
        if not self.point.forward:
            loss.backward()
        return loss.detach()

    def make_gradients(self) -> None:
        """Their memory is there before the step, as in a run."""
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    @property
    def parameter_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def kept_bytes(self) -> int:
        """What autograd keeps of one forward pass beside parameters and buffers."""
        kept: dict[int, int] = {}

        def pack(value: torch.Tensor) -> torch.Tensor:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            held = self.model(self.frames)  # what is kept must not be freed while it is counted
        own = {p.untyped_storage().data_ptr() for p in (*self.model.parameters(), *self.model.buffers())}
        del held
        return sum(size for place, size in kept.items() if place not in own)


def _rank(point: Point) -> int:
    return distributed.get_rank() if point.processes > 1 else 0


def _device(point: Point) -> torch.device:
    """Of several processes each has the GPU of its rank."""
    return torch.device("cuda", _rank(point)) if point.device == "cuda" else torch.device("cpu")


def on_cpu(point: Point) -> dict[str, Any]:
    """Peak of one step in this process, and what autograd keeps."""
    torch.set_num_threads(1)
    step = Step(point)
    step(2, 1)  # compiles, and takes what libraries keep for themselves
    step.make_gradients()
    gc.collect()
    idle = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    loss = step()
    peak = status("VmHWM") - idle
    return {
        "peak_bytes": peak, "parameter_bytes": step.parameter_bytes, "kept_bytes": step.kept_bytes(),
        "loss": f"{float(loss):.6f}",
    }  # fmt: skip


def status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def on_cuda(point: Point) -> dict[str, Any]:
    """Median time, peak and energy of a step on this process's GPU."""
    step = Step(point)
    seen, clock = torch.cuda.get_device_properties(step.device), CudaClock(step.device)
    meter, idle_w = None, None
    try:
        meter = NvmlMeter(f"GPU-{seen.uuid}")
        idle_w = idle_power_w(meter)
    except MeterError:
        pass  # times are worth having without energy
    for _ in range(WARM_UP):
        loss = step()
    torch.cuda.reset_peak_memory_stats(step.device)
    seconds = sorted(timed(clock, step) for _ in range(REPEATS))[REPEATS // 2]
    found = {
        "gpu": seen.name, "seconds": seconds, "peak_bytes": torch.cuda.max_memory_allocated(step.device),
        "parameter_bytes": step.parameter_bytes, "loss": f"{float(loss):.6f}",
    }  # fmt: skip
    if not point.forward:
        found["kept_bytes"] = step.kept_bytes()
    if meter is not None and point.processes == 1:
        with suppress(MeterError):  # two windows that do not agree: no energy
            found["joules"] = measure_energy(meter, step, clock.wait, seconds, idle_w, ENERGY_S).energy.joules
    return found


MEASURES = {"cpu": on_cpu, "cuda": on_cuda}
