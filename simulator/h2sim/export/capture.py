"""Records one training step of any torch model as a trace: `h2sim.export.trace`.

Reading order: protocol (what a neuron is), neurons and the libraries' adapters, roles (what a module may be),
obstacles, forward and hooks (the recording), graph, layout (time), maps and walk (who reads whom), accounts and
products (work that no layer would show), step and reading (all of a forward pass), structure (the layers), dynamics
(the neuron's check), live and weights (norms), notes, fill. `check` is `trace` without a loss; batches: of a loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, overload

import torch
from torch import nn

from h2sim.arrays import Array
from h2sim.errors import ExportError, at
from h2sim.export.batches import DIGITS, Exports, is_loader, write_batches
from h2sim.export.fill import Filled, fill
from h2sim.export.forward import Forward, Inputs, Pass, as_written
from h2sim.export.layout import check_gradients
from h2sim.export.notes import say
from h2sim.export.reading import Reading
from h2sim.export.record import StepRecord, step_meta
from h2sim.export.state import as_found
from h2sim.export.step import Step
from h2sim.io.progress import Progress, silent
from h2sim.trace import parse_meta, write_trace
from h2sim.trace.members import VALUES
from h2sim.trace.network import input_entry

Loss = Callable[[Any, Any], torch.Tensor]
_LIBRARIES = ("spikingjelly", "snntorch", "norse", "sinabs")
MOST_QUIET_BYTES = 256 << 20  # of values, which a trace keeps without a word


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


@overload
def trace(
    model: nn.Module,
    inputs: Inputs,
    targets: Any,
    loss: Loss,
    path: str | Path | None = None,
    *,
    forward: Forward | None = None,
    timesteps: int | None = None,
    batch: int | None = None,
    network: str | None = None,
    dataset: str = "not named",
    window_threshold: float = 0.0,
    values: bool = True,
    source: Mapping[str, Any] | None = None,
) -> Export: ...


@overload
def trace(
    model: nn.Module,
    inputs: Iterable[Any],
    targets: None,
    loss: Loss,
    path: str | Path,
    *,
    forward: Forward | None = None,
    timesteps: int | None = None,
    batch: int | None = None,
    batches: int | None = None,
    network: str | None = None,
    dataset: str = "not named",
    window_threshold: float = 0.0,
    values: bool = True,
    source: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Exports: ...


def trace(
    model: nn.Module,
    inputs: Inputs | Iterable[Any],
    targets: Any,
    loss: Loss,
    path: str | Path | None = None,
    *,
    forward: Forward | None = None,
    timesteps: int | None = None,
    batch: int | None = None,
    batches: int | None = None,
    network: str | None = None,
    dataset: str = "not named",
    window_threshold: float = 0.0,
    values: bool = True,
    source: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Export | Exports:
    """Runs one training step (forward, `loss(output, targets)`, backward) of a model and makes a trace of it.

    inputs: a tensor, or a tuple of arguments of model(...). forward(model, inputs): runs all timesteps, for a model
    that takes one at a time; without it model(inputs) is called. path: where to write the trace; None: nowhere.
    timesteps: how many are expected; without it the neurons' calls say how many there are. batch: how many of the
    samples the trace keeps, the first ones; gradients stay those of the whole batch's loss. window_threshold: a neuron
    is in the window where |ds/dm| of its surrogate is above it; many surrogates are never exactly 0. values: whether to
    keep membranes, gradients and weights, which `h2sim verify` needs; above 256 MiB their size is told. source: what
    else the trace should say of itself (epoch, accuracy, ...).

    inputs may also be a loader, which gives (inputs, targets) batch after batch, with targets None: then path is a
    folder, into which a trace of each of the first `batches` (None: all) is written, and Exports are returned.
    progress(file, done, total) is called after each; total is 0 where the loader does not say how many it has.

    Neuron states are reset before the step. The model keeps its mode; after the step its parameters' gradients, its
    running statistics and its neuron states are what they were before. Raises ExportError, a line for each obstacle: it
    names the module that a trace cannot hold, and what would do instead.

    >>> import torch
    >>> import h2sim.export
    >>> from spikingjelly.activation_based import functional, layer, neuron
    >>> model = torch.nn.Sequential(layer.Linear(8, 6), neuron.LIFNode(), layer.Linear(6, 4))
    >>> functional.set_step_mode(model, "m")
    >>> def loss(output, labels):
    ...     return torch.nn.functional.cross_entropy(output.mean(0), labels)
    >>> h2sim.export.trace(model, torch.ones(3, 2, 8), torch.arange(2), loss, network="mine", window_threshold=0.1)
    Export(mine on not named, T=3, batch 2, 2 layers, 2 notes)
    """
    options = _Options(forward, timesteps, batch, network, dataset, window_threshold, values, dict(source or {}))
    if not is_loader(inputs):
        if batches is not None:
            raise ExportError(at("export", "batches", "a loader as inputs", type(inputs).__name__))
        export = _traced(model, inputs, targets, loss, options)
        _say_size(export.record)
        if path is not None:
            export.write(path)
        return export
    if targets is not None:
        wanted = f"None, because inputs ({type(inputs).__name__}) is a loader, which gives them"
        raise ExportError(at("export", "targets", wanted, type(targets).__name__))

    def write(inputs: Any, targets: Any, path: Path) -> Sequence[str]:
        export = _traced(model, inputs, targets, loss, options)
        if path.stem == "0" * DIGITS:
            _say_size(export.record)
        export.write(path)
        return export.notes

    return write_batches(cast(Iterable[Any], inputs), path, batches, write, progress or silent)


@dataclass(frozen=True)
class _Options:
    """What `trace` was asked for beside the step itself, as it says."""

    forward: Forward | None
    timesteps: int | None
    batch: int | None
    network: str | None
    dataset: str
    window_threshold: float
    values: bool
    source: dict[str, Any]


def _traced(model: nn.Module, inputs: Any, targets: Any, loss: Loss, asked: _Options) -> Export:
    """One step of a model as an export."""
    if not 0 <= asked.window_threshold < float("inf"):
        raise ExportError(at("export", "window_threshold", "a number of at least 0", asked.window_threshold))
    model = as_written(model)
    with as_found(model), Pass.of(model, inputs, asked.forward, loss) as passed:
        reading, loss_value = _finished(passed, loss, targets, asked.timesteps, asked.batch)
        filled = fill(reading, asked.window_threshold, asked.values)
    meta = _meta(model, reading, filled, loss, loss_value, asked)
    parse_meta(meta, "export")
    return Export(meta, filled.record, filled.notes)


def _say_size(record: StepRecord) -> None:
    """Says how large the values are that a trace keeps, if they are large."""
    of_values = sum(array.nbytes for name, array in record.members() if name.rpartition(".")[2] in VALUES)
    if of_values > MOST_QUIET_BYTES:
        size = f"{of_values / (1 << 20):,.0f} MiB"
        say(f"the trace keeps {size} of values, which h2sim verify checks; values=False keeps masks alone")


def _finished(
    passed: Pass,
    loss: Loss,
    targets: Any,
    timesteps: int | None,
    batch: int | None,
) -> tuple[Reading, float]:
    """The layers, loss and gradients of a forward pass that has been recorded; the loss's value beside them.

    Raises ExportError with a line per obstacle.
    """
    obstacles, products = passed.obstacles, passed.products
    reading = passed.reading(timesteps, batch, targets)
    accounts = passed.accounts()
    value = None
    if not obstacles:
        products.in_loss = True
        with products:
            value = loss_value(loss(passed.output, targets))
        with obstacles.noted():
            accounts.check_uses([value])
    if not obstacles:
        passed.check_products()
    obstacles.check()
    assert reading is not None
    assert value is not None
    with passed.recorder.running_no_more():
        torch.autograd.backward(value)
    accounts.check_gradients(passed.model)
    check_gradients(list(passed.recorder.modules.values()))
    masks = {tuple(mask.shape) for made in reading.step.maps.values() for mask in made.factors}
    step = replace(
        reading.step,
        penalised=frozenset(accounts.penalised),
        notes=(*reading.step.notes, *products.notes(masks)),
    )
    return replace(reading, step=step), float(value.detach())


def loss_value(value: Any) -> torch.Tensor:
    """A loss that can be learnt from. Raises ExportError for anything else."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ExportError(at("loss", "value", "a tensor of one number", got))
    if not value.requires_grad:
        raise ExportError(at("loss", "gradient", "a loss that depends on the model's weights", "one without gradient"))
    if not bool(torch.isfinite(value).all()):
        raise ExportError(at("loss", "value", "a finite number", float(value.detach())))
    return value


def _meta(
    model: nn.Module,
    reading: Reading,
    filled: Filled,
    loss: Loss,
    loss_value: float,
    asked: _Options,
) -> dict[str, Any]:
    said = {
        "kind": "training",
        "framework": ", ".join(_frameworks(reading.step)),
        "recipe": "bptt",
        "loss": getattr(loss, "__name__", type(loss).__name__),
        "loss_value": loss_value,
        "loss_scale": 1.0,
        "gradient_dtype": filled.dtype,
        "batch_norm": filled.batch_norm,
        "samples_of_loss": reading.step.extent.samples,
        "surrogates": filled.surrogates,
        "notes": list(filled.notes),
    }
    return step_meta(
        network=asked.network or type(model).__name__,
        dataset=asked.dataset,
        timesteps=reading.step.extent.timesteps,
        batch=reading.step.batch,
        neuron=filled.neuron,
        source={**said, **asked.source, **({"batch_norm": True} if filled.batch_norm else {})},
        layers=filled.layers,
        input=input_entry(filled.layers, reading.input_kind, reading.most),
        derived=any(piece.is_map for piece in reading.pieces),
    )


def _frameworks(step: Step) -> list[str]:
    """`torch 2.13` and the libraries whose modules took part, with their versions."""
    torch_version = ".".join(torch.__version__.split("+")[0].split(".")[:2])
    libraries = _versions(found.module for found in step.modules.values())
    return [f"torch {torch_version}", *(f"{name} {version}".strip() for name, version in libraries.items())]


def versions_of(model: nn.Module) -> dict[str, str]:
    """Versions of the known libraries that the classes of a model's modules are from, by name."""
    return {name: version for name, version in _versions(model.modules()).items() if version}


def _versions(modules: Iterable[nn.Module]) -> dict[str, str]:
    from importlib import metadata

    roots = {cls.__module__.partition(".")[0] for module in modules for cls in type(module).__mro__}
    found = {}
    for library in [name for name in _LIBRARIES if name in roots]:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = ""
    return found
