"""Records a GPU trace: times, energy, memory and software versions of a real training step."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from h2sim._version import __version__
from h2sim.errors import GpuTraceError, at
from h2sim.gpu.clock import Clock, CpuClock, CudaClock, Label, timed
from h2sim.gpu.equality import Checked, checked_values
from h2sim.gpu.implementations import REFERENCE, Implementation
from h2sim.gpu.meter import Meter, MeterError, NvmlMeter, Timing, idle_power_w, measure_energy
from h2sim.gpu.step import TrainingStep, Workload
from h2sim.gpu.trace import SCHEMA, VERSION, Device, Energy, GpuTrace, Row, Step, checked

Report = Callable[[str, int, int], None]
LONGEST_S = 86_400
ORDER = {"forward": 0, "backward": 1, "weight_update": 2, "other": 3}


@dataclass(frozen=True)
class Plan:
    """How often the step runs.

    warm_up: steps that are not measured. repeats: measured steps without marks, and as many more with marks.
    energy_seconds: least time over which energy is measured. Raises GpuTraceError for numbers out of range.
    """

    warm_up: int = 10
    repeats: int = 50
    energy_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warm_up < 0:
            raise GpuTraceError(at("record", "repeats", "at least 1, and 0 or more to warm up", self.repeats))
        if not 0 < self.energy_seconds <= LONGEST_S:
            raise GpuTraceError(at("record", "energy_seconds", f"above 0, at most {LONGEST_S}", self.energy_seconds))


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
        instead = "none (--device cpu times this machine's processor instead)"
        raise GpuTraceError(f"gpu record: expected {wanted}; got {instead}")
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
    software = {name: text for name, text in {**versions, **settings}.items() if text}
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
        no_meter="NVML measures GPUs alone",
        software={},
    )


TARGETS = {"cuda": cuda_target, "cpu": cpu_target}


def record(
    workload: Workload,
    target: Target,
    plan: Plan,
    command: str | None = None,
    report: Report = lambda what, done, total: None,
    timing: Timing | None = None,
) -> GpuTrace:
    """Runs the step of `workload` on `target` as `plan` says. Returns the measured GPU trace.

    report(what, steps done, steps in all) is called after each step. Raises GpuTraceError if a trace cannot hold one of
    the names (before anything runs), if memory runs out, and if weights turn to NaN.
    """
    _check_words(workload, target, command)
    try:
        return _record(workload, target, plan, command, report, timing)
    except torch.OutOfMemoryError:
        wanted = f"memory for batch {workload.batch} over {workload.timesteps} timesteps"
        raise GpuTraceError(at("gpu record", "--batch", wanted, "less; try a smaller batch")) from None


def _check_words(workload: Workload, target: Target, command: str | None) -> None:
    """Builds a trace with the same names, so that a bad one is refused now and not after minutes of measuring."""
    with checked("gpu record"):
        GpuTrace(
            schema=SCHEMA,
            version=VERSION,
            origin="measured",
            network=workload.name,
            dataset="checked later",
            samples=workload.batch,
            batch=workload.batch,
            timesteps=workload.timesteps,
            implementation=workload.implementation,
            device=target.device,
            step=Step(seconds=1.0),
            rows=tuple(Row(layer=layer["name"], phase="forward", seconds=0.0) for layer in workload.layers),
            command=command,
        )


def _record(
    workload: Workload, target: Target, plan: Plan, command: str | None, report: Report, timing: Timing | None
) -> GpuTrace:
    idle_w = idle_power_w(target.meter, timing=timing) if target.meter else None
    training = TrainingStep(workload, target.name)
    way = training.way
    first = checked_values(training)
    if lacking := way.check():
        raise GpuTraceError(at("gpu record", f"--implementation {workload.implementation}", *lacking))
    plan = replace(plan, warm_up=max(plan.warm_up, way.warm_up))
    for done in range(plan.warm_up):
        training.step()
        report("warm-up", done + 1, plan.warm_up)
    whole, peak = _unmarked(training, target, plan, report)
    marked, parts = _marked(training, target.clock, plan, report) if way.marked else ([], [])
    energy, reason = _energy(training, target, plan, float(np.median(whole)), idle_w, timing)
    training.check()
    middle, low, high = _quartiles(whole)
    return GpuTrace(
        schema=SCHEMA,
        version=VERSION,
        origin="measured",
        network=workload.name,
        dataset=training.describe_samples(),
        samples=workload.batch,
        batch=workload.batch,
        timesteps=workload.timesteps,
        implementation=workload.implementation,
        device=target.device,
        step=Step(
            seconds=middle,
            lower_quartile_seconds=low,
            upper_quartile_seconds=high,
            marked_seconds=float(np.median(marked)) if marked else None,
            repeats=plan.repeats,
            warm_up=plan.warm_up,
        ),
        rows=_rows(parts, [layer["name"] for layer in workload.layers]),
        energy=energy,
        values=first.values,
        peak_memory_bytes=peak if way.counts_memory else None,
        software={"h2sim": __version__, "python": platform.python_version(), "torch": torch.__version__}
        | target.software,
        command=command,
        notes=(*_notes(way, first), *([f"no energy: {reason}"] if reason else [])),
    )


def _notes(way: Implementation, first: Checked) -> Iterator[str]:
    """What a reader must know of how an implementation was timed."""
    yield "float32; one step at a time, the device idle in between; medians of the steps"
    if way.marked:
        yield "rows: medians over the marked steps, whose gradients come from calls of their own"
    if way.compiles:
        yield f"compiled in the first step, which took {first.first_seconds:.1f} s (less where torch's cache has code)"
    if first.values is None:
        yield f"values not checked: memory has no room for {REFERENCE}"
    yield from way.notes


def _unmarked(training: TrainingStep, target: Target, plan: Plan, report: Report) -> tuple[list[float], int | None]:
    """(seconds of each step, the most bytes that tensors held at once; None where torch does not count them)."""
    cuda, seconds = target.name.startswith("cuda"), []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for done in range(plan.repeats):
        seconds.append(timed(target.clock, training.step))
        report("steps", done + 1, plan.repeats)
    return seconds, torch.cuda.max_memory_allocated() if cuda else None


def _marked(
    training: TrainingStep, clock: Clock, plan: Plan, report: Report
) -> tuple[list[float], list[dict[Label, float]]]:
    """(seconds of each marked step, its parts). Two steps run before, uncounted, for their calls are new to torch."""
    for _ in range(min(2, plan.warm_up)):
        training.marked_step(clock)
    seconds, parts = [], []
    for done in range(plan.repeats):
        whole, divided = training.marked_step(clock)
        seconds.append(whole)
        parts.append(divided)
        report("marked steps", done + 1, plan.repeats)
    return seconds, parts


def _energy(
    training: TrainingStep, target: Target, plan: Plan, seconds: float, idle_w: float | None, timing: Timing | None
) -> tuple[Energy | None, str]:
    """(energy of a step, "") or (None, why there is none)."""
    if target.meter is None:
        return None, target.no_meter
    try:
        wait = target.clock.wait
        return measure_energy(target.meter, training.step, wait, seconds, idle_w, plan.energy_seconds, timing), ""
    except MeterError as error:
        return None, str(error)


def _rows(parts: list[dict[Label, float]], layers: list[str]) -> tuple[Row, ...]:
    """Median and quartiles by layer and phase, in the network's order. What belongs to no layer comes last."""
    place = {name: number for number, name in enumerate(layers)}
    labels = {label for step in parts for label in step}
    ordered = sorted(labels, key=lambda label: (place.get(label[0], len(layers)), ORDER[label[1]], label[0]))
    rows = []
    for layer, phase in ordered:
        middle, low, high = _quartiles([step.get((layer, phase), 0.0) for step in parts])
        rows.append(
            Row(layer=layer, phase=phase, seconds=middle, lower_quartile_seconds=low, upper_quartile_seconds=high)
        )
    return tuple(rows)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    """(median, lower quartile, upper quartile)."""
    low, middle, high = (float(v) for v in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
    return middle, min(low, middle), max(high, middle)
