"""A user's own model, recorded as a trace and timed at once: `h2sim.measure`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from h2sim.errors import GpuTraceError, at
from h2sim.export.capture import Export, Loss, trace
from h2sim.export.forward import Forward, as_written
from h2sim.gpu.files import write_gpu_trace
from h2sim.gpu.model_step import Optimizer, one_line, random_as_found, shape_of
from h2sim.gpu.own import check_arguments, record
from h2sim.gpu.targets import target_of
from h2sim.gpu.timed import Plan, Report, unreported
from h2sim.gpu.trace import GpuTrace
from h2sim.io.files import check_writable


@dataclass(frozen=True)
class MeasuredModel:
    """A model's trace and its timing, and the files that hold them."""

    export: Export
    timing: GpuTrace
    trace_path: Path
    timing_path: Path

    def __repr__(self) -> str:
        layers, ms = len(self.export.meta["layers"]), self.timing.step.seconds * 1e3
        network, device = self.export.meta["network"], self.timing.device.name
        return f"MeasuredModel({network}, {layers} layers, {ms:.3g} ms a step on {device})"


def measure(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Loss,
    path: str | Path,
    *,
    device: str | None = None,
    optimizer: Optimizer | None = None,
    forward: Forward | None = None,
    timesteps: int | None = None,
    network: str | None = None,
    dataset: str = "not named",
    window_threshold: float = 0.0,
    values: bool = True,
    plan: Plan | None = None,
    about_device: Mapping[str, Any] | None = None,
    command: str | None = None,
    report: Report = unreported,
) -> MeasuredModel:
    """Writes a trace of one training step of a model, and how long such steps take here, with the same layer names.

    path: of the trace, such as model.npz; the timing, a GPU trace, is written beside it: model-gpu.json. Arguments are
    those of `h2sim.export.trace` and of `h2sim.gpu.record`. Then

        h2sim run h2learn model.npz --json result.json
        h2sim compare result.json --gpu model-gpu.json

    sets the model on this device beside the simulated accelerator, layer by layer. The model is left as it was.
    Nothing is written unless both are done. Raises ExportError, a line for each obstacle to a trace, and GpuTraceError.
    """
    place, beside = Path(path), timing_path(path)
    for written in (place, beside):
        check_writable(written)
    check_arguments(model, inputs, loss)
    target_of(device)
    name = network or type(as_written(model)).__name__
    with random_as_found(), one_line("model", f"one that runs on {shape_of(inputs)}"):
        export = trace(
            model, inputs, targets, loss, forward=forward, timesteps=timesteps, network=name, dataset=dataset,
            window_threshold=window_threshold, values=values,
        )  # fmt: skip
    timing = record(
        model, inputs, targets, loss, device=device, optimizer=optimizer, forward=forward, network=name,
        dataset=dataset, plan=plan, about_device=about_device, command=command, report=report,
    )  # fmt: skip
    export.write(place)
    write_gpu_trace(beside, timing)
    return MeasuredModel(export, timing, place, beside)


def timing_path(path: str | Path) -> Path:
    """Where the timing of a model is written whose trace is `path`: model-gpu.json beside model.npz."""
    place = Path(path)
    if place.suffix != ".npz":
        raise GpuTraceError(at("measure", "path", "a name that ends in .npz", str(path)))
    return place.with_name(f"{place.stem}-gpu.json")
