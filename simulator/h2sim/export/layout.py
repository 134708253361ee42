"""Makes one tensor (T, N, ...) of the tensors of a module's calls, however the model lays time out.

A module may be called once per timestep with (N, ...), once with (T, N, ...), once with (T*N, ...), or, on an input
that stands still, once with (N, ...) for all timesteps, which gives (1, N, ...).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from h2sim.errors import ExportError, at
from h2sim.export.hooks import Edge, Recorded


@dataclass(frozen=True)
class Extent:
    """Timesteps and samples of the step."""

    timesteps: int
    samples: int


def extent_of(neurons: list[Recorded], timesteps: int | None) -> Extent:
    """Timesteps and samples as the neurons saw them. Raises ExportError if they disagree, or with `timesteps`."""
    found = {neuron.path: _neuron_extent(neuron) for neuron in neurons}
    first_path, first = next(iter(found.items()))
    for path, extent in found.items():
        if extent != first:
            wanted = f"{first.timesteps} timesteps of {first.samples} samples as {first_path!r}"
            got = f"{extent.timesteps} of {extent.samples}: each layer needs a neuron module of its own"
            raise ExportError(at(path, "calls", wanted, got))
    if timesteps is not None and timesteps != first.timesteps:
        raise ExportError(at("model", "timesteps", str(timesteps), f"{first.timesteps}, as {first_path!r} ran"))
    return first


def _neuron_extent(neuron: Recorded) -> Extent:
    shapes = [tuple(edge.value.shape) for edge in neuron.reads]
    multi = neuron.role.neuron is not None and neuron.role.neuron.multi_step
    kind = type(neuron.module).__name__
    if multi and len(shapes) != 1:
        raise ExportError(at(neuron.path, kind, "one call for all timesteps", f"{len(shapes)} calls"))
    if len(set(shapes)) > 1:
        wanted = "one shape in all calls: a module that several layers share is not supported"
        raise ExportError(at(neuron.path, kind, wanted, f"{shapes[0]} and {next(s for s in shapes if s != shapes[0])}"))
    least = 3 if multi else 2
    if len(shapes[0]) < least:
        raise ExportError(at(neuron.path, kind, "(T, N, ...)" if multi else "(N, ...)", shapes[0]))
    return Extent(shapes[0][0], shapes[0][1]) if multi else Extent(len(shapes), shapes[0][0])


def stacked(tensors: list[torch.Tensor], extent: Extent, rank: int | None, where: tuple[str, str]) -> torch.Tensor:
    """The tensors of a module's calls as (T, N, ...), or (1, N, ...) where one call served all timesteps.

    rank: dimensions of one sample (3 for a convolution, 1 for a product), None for any. Raises ExportError for another
    number of calls or another shape; where: the module's path and class, for that error.
    """
    t, n, shape = extent.timesteps, extent.samples, tuple(tensors[0].shape)
    if all(tuple(tensor.shape) == shape for tensor in tensors):
        if len(tensors) == t and shape[0] == n and rank in (None, len(shape) - 1):
            return torch.stack(tensors)
        if len(tensors) == 1:
            if shape[:2] == (t, n) and rank in (None, len(shape) - 2):
                return tensors[0]
            if rank in (None, len(shape) - 1):
                if shape[0] == t * n:
                    return tensors[0].reshape(t, n, *shape[1:])
                if shape[0] == n:
                    return tensors[0].unsqueeze(0)
    size = "" if rank is None else f" of {rank}-dimensional samples"
    wanted = f"{t} calls with {n} samples, or one with {t} x {n}{size}"
    got = f"{len(tensors)} of shape {shape}: a module that several layers share is not supported"
    raise ExportError(at(where[0], where[1], wanted, got))


def values(edges: list[Edge], extent: Extent, rank: int | None, kind: str) -> torch.Tensor:
    """The edges' values as (T or 1, N, ...) on the CPU."""
    return stacked([edge.value.cpu() for edge in edges], extent, rank, (edges[0].path, kind))


def gradients(edges: list[Edge], extent: Extent, rank: int | None, kind: str) -> torch.Tensor:
    """dL/d(value) in the layout of `values`; 0 where the loss does not depend on the edge."""
    known = [torch.zeros_like(edge.value) if edge.grad is None else edge.grad for edge in edges]
    tensors = [grad.to(edge.value.dtype).cpu() for grad, edge in zip(known, edges, strict=True)]
    return stacked(tensors, extent, rank, (edges[0].path, kind))


def check_values(modules: Iterable[Recorded]) -> None:
    """Raises ExportError for the first module, in the order of calls, that read or sent a NaN or Inf."""
    for found in modules:
        for edge in (*found.reads, *found.sends):
            _check_finite(edge, edge.value, "value")


def check_gradients(modules: list[Recorded]) -> None:
    """Raises ExportError for the last module, in the order of calls, whose gradient has a NaN or Inf."""
    for found in reversed(modules):
        for edge in (*found.sends, *found.reads):
            if edge.grad is not None:
                _check_finite(edge, edge.grad, "gradient")


def _check_finite(edge: Edge, tensor: torch.Tensor, what: str) -> None:
    if not tensor.numel() or all(math.isfinite(float(end)) for end in torch.aminmax(tensor)):
        return
    side = "output" if edge.output else "input"
    first = tensor[~torch.isfinite(tensor)][0]
    raise ExportError(at(edge.path, f"{side} {what}", "finite numbers", float(first)))
