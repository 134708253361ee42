"""Records one training step of any torch model as a trace: `h2sim.export.trace`.

Reading order: protocol (what a neuron is), neurons and the libraries' adapters, roles (what a module may be), hooks
(the recording), graph and walk (who reads whom), accounts and products (work that no layer would show), structure
(modules to layers), layout and step (time), dynamics (the neuron's check), weights, notes, fill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointError

from h2sim.arrays import Array
from h2sim.errors import ExportError, at
from h2sim.export.accounts import Accounts, check_own_work
from h2sim.export.fill import Filled, fill
from h2sim.export.graph import Leaves
from h2sim.export.hooks import Recorded, Recorder
from h2sim.export.layout import Extent, check_gradients, check_values, extent_of
from h2sim.export.neurons import reset_states
from h2sim.export.notes import warn
from h2sim.export.products import Products
from h2sim.export.record import StepRecord, step_meta
from h2sim.export.state import as_found
from h2sim.export.step import Step
from h2sim.export.walk import Walker
from h2sim.trace import parse_meta, write_trace

Inputs = torch.Tensor | tuple[Any, ...]
_LIBRARIES = ("spikingjelly", "snntorch", "norse")


@dataclass(frozen=True)
class Export:
    """One recorded step: the trace as `meta` and `record`, and `notes` on what was folded, assumed or left out."""

    meta: dict[str, Any]
    record: StepRecord
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        size = f"T={self.meta['timesteps']}, batch {self.meta['batch']}, {len(self.meta['layers'])} layers"
        return f"Export({self.meta['network']} on {self.meta['dataset']}, {size}, {len(self.notes)} notes)"

    @property
    def members(self) -> dict[str, Array]:
        """The trace's arrays by member name, `meta` aside."""
        return dict(self.record.members())

    def write(self, path: str | Path) -> None:
        """Writes the trace to `path`. Raises OutputError if the file cannot be written."""
        write_trace(path, self.meta, self.record.members())


def trace(
    model: nn.Module,
    inputs: Inputs,
    targets: Any,
    loss: Callable[[Any, Any], torch.Tensor],
    path: str | Path | None = None,
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    timesteps: int | None = None,
    batch: int | None = None,
    network: str | None = None,
    dataset: str = "not named",
    window_threshold: float = 0.0,
    values: bool = True,
    source: Mapping[str, Any] | None = None,
) -> Export:
    """Runs one training step (forward, `loss(output, targets)`, backward) of a model and makes a trace of it.

    inputs: a tensor, or a tuple of arguments of model(...). forward(model, inputs): runs all timesteps, for a model
    that takes one at a time; without it model(inputs) is called. path: where to write the trace; None: nowhere.
    timesteps: how many are expected; without it the neurons' calls say how many there are. batch: how many of the
    samples the trace keeps, the first ones; gradients stay those of the whole batch's loss. window_threshold: a neuron
    is in the window where |ds/dm| of its surrogate is above it; many surrogates are never exactly 0. values: whether to
    keep membranes, gradients and weights, which `h2sim verify` needs. source: what else the trace should say of itself
    (epoch, accuracy, ...).

    Neuron states are reset before the step. The model keeps its mode; after the step its parameters' gradients, its
    running statistics and its neuron states are what they were before. Raises ExportError, which names the module that
    a trace cannot hold.
    """
    if not 0 <= window_threshold < float("inf"):
        raise ExportError(at("export", "window_threshold", "a number of at least 0", window_threshold))
    _check_devices(model, inputs)
    with as_found(model):
        reset_states(model)
        recorder = Recorder(model)
        products = Products(model, recorder.running)
        with recorder.recording(), products:
            output = (forward or _forward)(model, inputs)
        leaves = Leaves(model, loss, inputs, recorder.leaves)
        products.check_named(leaves)
        watched = _watched(loss, products)
        step, loss_value = _finished(leaves, recorder.modules, watched, output, targets, timesteps, batch)
        products.check_named(leaves)
        products.check_unnamed()
        filled = fill(replace(step, notes=products.notes), window_threshold, values)
    meta = _meta(model, step, filled, loss, loss_value, network, dataset, dict(source or {}))
    parse_meta(meta, "export")
    export = Export(meta, filled.record, filled.notes)
    for message in filled.warnings:
        warn(message)
    if path is not None:
        export.write(path)
    return export


def _watched(loss: Callable[[Any, Any], Any], products: Products) -> Callable[[Any, Any], Any]:
    """The loss, whose products with weights that the model holds are seen."""

    def watched(output: Any, targets: Any) -> Any:
        products.in_loss = True
        with products:
            return loss(output, targets)

    return watched


def _forward(model: nn.Module, inputs: Inputs) -> Any:
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _finished(
    leaves: Leaves,
    modules: dict[str, Recorded],
    loss: Callable[[Any, Any], torch.Tensor],
    output: Any,
    targets: Any,
    timesteps: int | None,
    batch: int | None,
) -> tuple[Step, float]:
    """The structure, loss and gradients of a forward pass that has been recorded; the loss's value beside them."""
    neurons = [found for found in modules.values() if found.role.neuron]
    if not neurons:
        hint = "known are SpikingJelly's, snnTorch's and Norse's, and modules with a method h2sim_neuron"
        raise ExportError(at("model", "neurons", f"at least one that is called ({hint})", "none"))
    extent = extent_of(neurons, timesteps)
    if batch is not None and not 1 <= batch <= extent.samples:
        raise ExportError(at("export", "batch", f"1 to {extent.samples}, the samples of the inputs", batch))
    _check_targets(targets, extent)
    check_values(modules.values())
    walker = Walker(leaves, modules.values())
    reads = {path: walker.inputs_of(found) for path, found in modules.items()}
    value = _loss_value(loss(output, targets))
    accounts = Accounts(list(modules.values()), leaves)
    accounts.check_uses(value)
    check_own_work(list(modules.values()))
    _backward(value)
    accounts.check_gradients(leaves.model)
    check_gradients(list(modules.values()))
    step = Step(
        modules=modules,
        reads=_through_identities(modules, reads),
        extent=extent,
        batch=batch or extent.samples,
        penalised=frozenset(accounts.penalised),
    )
    return step, float(value.detach())


def _backward(value: torch.Tensor) -> None:
    try:
        torch.autograd.backward(value)
    except CheckpointError:
        got = "torch.utils.checkpoint, which runs them again in the backward pass"
        raise ExportError(at("model", "layers", "to run once: call them without a checkpoint", got)) from None


def _loss_value(value: Any) -> torch.Tensor:
    """A loss that can be learnt from. Raises ExportError for anything else."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ExportError(at("loss", "value", "a tensor of one number", got))
    if not value.requires_grad:
        raise ExportError(at("loss", "gradient", "a loss that depends on the model's weights", "one without gradient"))
    if not bool(torch.isfinite(value).all()):
        raise ExportError(at("loss", "value", "a finite number", float(value.detach())))
    return value


def _through_identities(modules: dict[str, Recorded], reads: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What each module reads, with modules left out that pass on what they get (dropout that is off)."""

    def real(path: str) -> tuple[str, ...]:
        if path not in modules or modules[path].role.name != "identity":
            return (path,)
        return tuple(inner for term in reads[path] for inner in real(term))

    kept = {path: terms for path, terms in reads.items() if modules[path].role.name != "identity"}
    return {path: tuple(inner for term in terms for inner in real(term)) for path, terms in kept.items()}


def _check_devices(model: nn.Module, inputs: Inputs) -> None:
    named = [*model.named_buffers(), *model.named_parameters()]
    for name, tensor in named:
        if nn.parameter.is_lazy(tensor):
            raise ExportError(at(name, "shape", "one that is known: run the model once before", "a lazy module's"))
    found = {tensor.device: name for name, tensor in named}
    tensors = [tensor for tensor in (inputs if isinstance(inputs, tuple) else (inputs,)) if torch.is_tensor(tensor)]
    if len(found) > 1:
        places = " and ".join(f"{name!r} on {device}" for device, name in found.items())
        raise ExportError(at("model", "device", "one for all parameters and buffers", places))
    for device in found:
        for tensor in tensors:
            if tensor.device != device:
                raise ExportError(at("inputs", "device", f"{device} as the model's", tensor.device))


def _check_targets(targets: Any, extent: Extent) -> None:
    if not torch.is_tensor(targets) or not targets.dim() or extent.samples in tuple(targets.shape[:2]):
        return
    got = f"shape {tuple(targets.shape)}"
    if targets.shape[0] == extent.timesteps:
        got += f": does the model lay out (N, T, ...)? The neurons must read (T, N, ...), here T={extent.timesteps}"
    raise ExportError(at("targets", "samples", f"{extent.samples} as the inputs", got))


def _meta(
    model: nn.Module,
    step: Step,
    filled: Filled,
    loss: Callable[[Any, Any], torch.Tensor],
    loss_value: float,
    network: str | None,
    dataset: str,
    source: dict[str, Any],
) -> dict[str, Any]:
    said = {
        "kind": "training",
        "framework": ", ".join(_frameworks(step)),
        "recipe": "bptt",
        "loss": getattr(loss, "__name__", type(loss).__name__),
        "loss_value": loss_value,
        "loss_scale": 1.0,
        "gradient_dtype": filled.dtype,
        "batch_norm": filled.batch_norm,
        "samples_of_loss": step.extent.samples,
        "surrogates": filled.surrogates,
        "notes": list(filled.notes),
    }
    return step_meta(
        network=network or type(model).__name__,
        dataset=dataset,
        timesteps=step.extent.timesteps,
        batch=step.batch,
        neuron=filled.neuron,
        source={**said, **source, **({"batch_norm": True} if filled.batch_norm else {})},
        layers=filled.layers,
    )


def _frameworks(step: Step) -> list[str]:
    """`torch 2.13` and the libraries whose modules took part, with their versions."""
    from importlib import metadata

    roots = {cls.__module__.partition(".")[0] for found in step.modules.values() for cls in type(found.module).__mro__}
    named = [f"torch {'.'.join(torch.__version__.split('+')[0].split('.')[:2])}"]
    for library in _LIBRARIES:
        if library in roots:
            try:
                named.append(f"{library} {metadata.version(library)}")
            except metadata.PackageNotFoundError:
                named.append(library)
    return named
