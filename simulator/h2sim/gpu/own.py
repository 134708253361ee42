"""Times a training step of a user's own model by layer and phase: `h2sim.gpu.record`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from h2sim.errors import GpuTraceError, at
from h2sim.export.batches import is_loader
from h2sim.export.capture import Loss, versions_of
from h2sim.export.forward import Forward, as_written, uncompiled
from h2sim.export.places import Places, places_of
from h2sim.export.state import as_found
from h2sim.gpu.clock import CudaClock
from h2sim.gpu.energy import Timing
from h2sim.gpu.files import write_gpu_trace
from h2sim.gpu.model_step import ModelStep, Optimizer, moved, one_line, placed, random_as_found, shape_of
from h2sim.gpu.targets import Target, target_of
from h2sim.gpu.timed import Measured, Plan, Report, idle_power, measure_step, rows_of, unreported, versions
from h2sim.gpu.trace import SCHEMA, VERSION, GpuTrace, Row, Step, checked, device_of
from h2sim.io.files import check_writable

WEIGHTS = ("conv", "linear", "readout")  # roles of modules that hold weights
IMPLEMENTATION = "PyTorch as the model is written"
MOST_NAMED = 6  # modules in a note


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a model is to be timed, and what its trace is to say of itself. notes: to stand among its own."""

    network: str
    dataset: str = "not named"
    implementation: str = IMPLEMENTATION
    plan: Plan
    forward: Forward | None = None
    optimizer: Optimizer | None = None
    command: str | None = None
    notes: tuple[str, ...] = ()


def record(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Loss,
    path: str | Path | None = None,
    *,
    device: str | None = None,
    optimizer: Optimizer | None = None,
    forward: Forward | None = None,
    network: str | None = None,
    dataset: str = "not named",
    plan: Plan | None = None,
    about_device: Mapping[str, Any] | None = None,
    command: str | None = None,
    report: Report = unreported,
) -> GpuTrace:
    """Runs training steps of a model and returns their time, by layer and phase, as a GPU trace.

    inputs: a tensor, or a tuple of arguments of model(...). forward(model, inputs): runs all timesteps, for a model
    that takes one at a time. loss(output, targets) gives one number. path: where to write the trace, .json or .csv;
    None: nowhere. device: 'cuda' or 'cpu'; None: CUDA if there is one, else this machine's processor. optimizer: one
    whose settings are taken, or what makes one of a list of parameters; None: Adam. plan: how many steps. about_device:
    what the device does not tell, such as node_nm, area_mm2, peak_flops_per_s.

    Rows have the layer names of `h2sim.export.trace`: time of a batch norm or neuron stands in its layer's row. Steps
    are timed with CUDA events on a GPU, by the processor's clock on a CPU. Weights, gradients, buffers, states, modes,
    hooks and random numbers are afterwards as before, whatever happened; the update runs on copies of the weights.
    Raises GpuTraceError, in a line, for what cannot be timed.
    """
    asked = Asked(
        network=network or type(as_written(model)).__name__,
        dataset=dataset,
        plan=plan or Plan(),
        forward=forward,
        optimizer=optimizer,
        command=command,
    )
    if path is not None:
        check_writable(Path(path))
    target = target_of(device)
    target = replace(target, device=device_of({**target.device.model_dump(), **(about_device or {})}, "record"))
    trace = timed_model(model, inputs, targets, loss, target, asked, report=report)
    if path is not None:
        write_gpu_trace(Path(path), trace)
    return trace


def timed_model(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Loss,
    target: Target,
    asked: Asked,
    places: Places | None = None,
    report: Report = unreported,
    timing: Timing | None = None,
) -> GpuTrace:
    """The GPU trace of a model on a target. places: where marks are set; None: as the exporter finds them."""
    check_arguments(model, inputs, loss)
    _check_words(asked, target)
    idle_w = idle_power(target, timing)
    device = torch.device(target.name)
    written = as_written(model)
    with _as_found(written, loss), placed(written, device), _in_memory(inputs):
        if places is None:
            with one_line("model", f"one that runs on {shape_of(inputs)}"), torch.enable_grad():
                places = places_of(written, moved(inputs, device), asked.forward)
        _check_places(places, asked)
        training = ModelStep(
            written, inputs, targets, loss,
            device=device, places=places.places, forward=asked.forward, optimizer=asked.optimizer,
        )  # fmt: skip
        training.first()
        measured = measure_step(training, target, asked.plan, idle_w, report, timing)
        training.check()
        rows = _rows(training, measured, places)
    with checked("record"):
        return GpuTrace(
            **_said(asked, target),
            samples=(samples := _samples(places, targets)),
            batch=samples,
            timesteps=places.timesteps,
            step=measured.step(asked.plan),
            rows=rows,
            energy=measured.energy,
            conditions=measured.conditions,
            peak_memory_bytes=measured.peak_memory_bytes,
            software=versions() | versions_of(written) | target.software,
            notes=tuple(_notes(training, measured, places, asked, target, compiled=written is not model)),
        )


def check_arguments(model: Any, inputs: Any, loss: Any) -> None:
    """Raises GpuTraceError for what is no model with weights, no batch, or no loss."""
    if not isinstance(model, nn.Module):
        raise GpuTraceError(at("record", "model", "a torch.nn.Module", type(model).__name__))
    if is_loader(inputs):
        wanted = "one batch: a tensor, or a tuple of arguments"
        raise GpuTraceError(at("record", "inputs", wanted, type(inputs).__name__))
    if not callable(loss):
        raise GpuTraceError(at("record", "loss", "a function of output and targets", type(loss).__name__))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        wanted = "layers with weights that are trained (nn.Conv2d, nn.Linear)"
        raise GpuTraceError(at("record", "model", wanted, f"none in {type(model).__name__}"))


def _said(asked: Asked, target: Target) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "version": VERSION, "origin": "measured", "network": asked.network, "dataset": asked.dataset,
        "implementation": asked.implementation, "device": target.device, "command": asked.command,
    }  # fmt: skip


def _check_words(asked: Asked, target: Target) -> None:
    """Refuses a name that no trace can hold now, and not after minutes of measuring."""
    with checked("record"):
        GpuTrace(**_said(asked, target), samples=1, step=Step(seconds=1.0))


def _check_places(places: Places, asked: Asked) -> None:
    if not any(place.role.name in WEIGHTS or place.role.reason for place in places.places):
        wanted = "layers with weights (nn.Conv2d, nn.Linear)"
        raise GpuTraceError(at("record", "model", wanted, f"none in {asked.network}"))
    with checked("record"):
        for name in places.layers:
            Row(layer=name, phase="forward", seconds=0.0)


@contextlib.contextmanager
def _as_found(model: nn.Module, loss: Any) -> Iterator[None]:
    """A block after which the model, a loss that is a module, and random numbers are as before."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(random_as_found())
        stack.enter_context(uncompiled())
        stack.enter_context(as_found(model))
        if isinstance(loss, nn.Module):
            stack.enter_context(as_found(loss))
        yield


@contextlib.contextmanager
def _in_memory(inputs: Any) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        wanted = f"memory for a step on {shape_of(inputs)}"
        raise GpuTraceError(at("record", "inputs", wanted, "less; try a smaller batch")) from None


def _rows(training: ModelStep, measured: Measured, places: Places) -> tuple[Row, ...]:
    """Rows with times, operations and bytes."""
    flops, size = training.work()
    return tuple(
        row.model_copy(update={"flops": flops.get((row.layer, row.phase)), "bytes": size.get((row.layer, row.phase))})
        for row in rows_of(measured.parts, list(places.layers))
    )


def _samples(places: Places, targets: Any) -> int:
    """Samples of the batch: as the neurons' calls say, else as the targets do."""
    if places.samples is not None:
        return places.samples
    if isinstance(targets, torch.Tensor) and targets.dim() and len(targets):
        return len(targets)
    wanted = "a tensor with an entry for each sample, for the model does not show how many there are"
    raise GpuTraceError(at("record", "targets", wanted, shape_of(targets)))


def _notes(
    training: ModelStep, measured: Measured, places: Places, asked: Asked, target: Target, compiled: bool
) -> Iterator[str]:
    """What a reader must know of how a model was timed."""
    clock = "CUDA events" if isinstance(target.clock, CudaClock) else "the processor's clock"
    yield f"timed with {clock}; one step at a time, the device idle in between; medians of the steps"
    yield "rows: medians over the marked steps, whose gradients come from calls of their own"
    yield "a batch norm or neuron stands in the row of its layer; a module's calls are added up over timesteps"
    yield "between layers: what runs outside of every module that has a part in a trace"
    held = "; the windows of the energy hold that too" if measured.energy else ""
    yield f"neurons are reset before each step, outside its time{held}"
    yield f"the update runs on copies of the weights: {type(training.update).__name__}"
    if compiled:
        yield "torch.compile left out: the model runs as it is written"
    for first in places.refused[:1]:
        more = len(places.refused) - 1
        others = f" and {more} more" if more else ""
        yield f"no trace holds this model, rows have its modules' paths: {first[:300]}{others}"
    shown = {layer for place in places.places for layer in place.layers}
    if lone := [layer for layer in places.layers if layer not in shown]:
        yield f"no module stands for {_named(lone)}: functions and arithmetic, whose time is between layers"
    if training.unsplit:
        yield f"weight update not apart from the backward pass: {_named(list(training.unsplit))}"
    yield from asked.notes
    yield from measured.notes


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
