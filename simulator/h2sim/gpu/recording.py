"""Records a GPU trace: times, energy, memory and software versions of a real training step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.energy import Timing
from h2sim.gpu.equality import Checked, checked_values
from h2sim.gpu.implementations import REFERENCE, Implementation
from h2sim.gpu.step import TrainingStep, Workload
from h2sim.gpu.targets import Target
from h2sim.gpu.timed import Plan, Report, idle_power, measure_step, rows_of, versions
from h2sim.gpu.trace import SCHEMA, VERSION, GpuTrace, Row, Step, checked


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
    idle_w = idle_power(target, timing)
    training = TrainingStep(workload, target.name)
    way = training.way
    first = checked_values(training)
    plan = replace(plan, warm_up=max(plan.warm_up, way.warm_up))
    measured = measure_step(training, target, plan, idle_w, report, timing, marked=way.marked)
    training.check()
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
        step=measured.step(plan),
        rows=rows_of(measured.parts, [layer["name"] for layer in workload.layers]),
        energy=measured.energy,
        conditions=measured.conditions,
        values=first.values,
        peak_memory_bytes=measured.peak_memory_bytes if way.counts_memory else None,
        software=versions() | target.software,
        command=command,
        notes=(*_notes(way, first), *measured.notes),
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
