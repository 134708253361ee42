"""Makes one tensor (T, N, ...) of the tensors of a module's calls, however the model lays time out.

A module may be called once per timestep with (N, ...), once with all timesteps, once with time folded into the batch,
or, on an input that stands still, once with (N, ...) for all timesteps, which gives (1, N, ...). A call with all
timesteps has one order of axes in a whole model: (T, N, ...), (N, T, ...) or (N, ..., T).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from h2sim.errors import ExportError, at
from h2sim.export.hooks import Edge, Recorded

TimeAxis = Literal[0, 1, -1]
ORDERS: dict[TimeAxis, str] = {0: "(T, N, ...)", 1: "(N, T, ...)", -1: "(N, ..., T)"}


@dataclass(frozen=True)
class Extent:
    """Timesteps and samples of the step, and which axis of a tensor that holds all timesteps is time."""

    timesteps: int
    samples: int
    time_axis: TimeAxis = 0

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor that holds all timesteps, as (T, N, ...)."""
        return x.movedim(self.time_axis, 0)

    def unfolded(self, x: torch.Tensor) -> torch.Tensor:
        """(T * N, ...), or (N * T, ...) where time comes second, as (T, N, ...)."""
        if self.time_axis == 1:
            return x.reshape(self.samples, self.timesteps, *x.shape[1:]).transpose(0, 1)
        return x.reshape(self.timesteps, self.samples, *x.shape[1:])

    def is_whole(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape holds all timesteps of all samples on axes of their own."""
        if self.time_axis == -1:
            return len(shape) > 2 and shape[0] == self.samples and shape[-1] == self.timesteps
        first = (self.timesteps, self.samples) if self.time_axis == 0 else (self.samples, self.timesteps)
        return tuple(shape[:2]) == first

    def sample(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one sample at one timestep in a tensor of this shape."""
        if self.is_whole(shape):
            return tuple(shape[1:-1] if self.time_axis == -1 else shape[2:])
        return tuple(shape[1:])

    def axes(self, shape: Sequence[int], sample: tuple[int, ...]) -> tuple[str, ...] | None:
        """What each axis of a tensor is: T, N, TN, then C, H and W, C and HW, or F; None if it holds no such samples.

        sample: the shape of one, (C, H, W) or (F,); it may also be flattened.
        """
        inside = {3: ("C", "H", "W"), 2: ("C", "HW"), 1: ("F",)}
        forms = (sample, (math.prod(sample),), (sample[0], math.prod(sample[1:])))
        whole = {0: ("T", "N"), 1: ("N", "T"), -1: ("N",)}[self.time_axis]
        behind = ("T",) if self.time_axis == -1 else ()
        leads: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        if self.is_whole(shape):
            leads.append((whole, behind))
        if shape and shape[0] == self.timesteps * self.samples:
            leads.append((("TN",), ()))
        if shape and shape[0] == self.samples:
            leads.append((("N",), ()))
        for lead, last in leads:
            rest = tuple(shape[len(lead) : len(shape) - len(last)])
            if rest in forms and len(rest) in inside:
                return (*lead, *inside[len(rest)], *last)
        return None


def extent_of(neurons: list[Recorded], timesteps: int | None, time_axis: TimeAxis) -> Extent:
    """Timesteps and samples as the neurons saw them, if the model lays time out so.

    Raises ExportError if they disagree, or with `timesteps`.
    """
    found = {neuron.path: _neuron_extent(neuron, time_axis) for neuron in neurons}
    first_path, first = next(iter(found.items()))
    for path, extent in found.items():
        if extent != first:
            wanted = f"{first.timesteps} timesteps of {first.samples} samples as {first_path!r}"
            got = f"{extent.timesteps} of {extent.samples}: each layer needs a neuron module of its own"
            raise ExportError(at(path, "calls", wanted, got))
    if timesteps is not None and timesteps != first.timesteps:
        raise ExportError(at("model", "timesteps", str(timesteps), f"{first.timesteps}, as {first_path!r} ran"))
    return first


def _neuron_extent(neuron: Recorded, time_axis: TimeAxis) -> Extent:
    shapes = [tuple(edge.value.shape) for edge in neuron.reads]
    spec = neuron.role.neuron
    assert spec is not None
    kind = type(neuron.module).__name__
    if len(set(shapes)) > 1:
        wanted = "one shape in all calls: a module that several layers share is not supported"
        raise ExportError(at(neuron.path, kind, wanted, f"{shapes[0]} and {next(s for s in shapes if s != shapes[0])}"))
    known = spec.flat_timesteps or spec.flat_samples
    if known:
        if shapes[0][0] % known:
            what = "timesteps" if spec.flat_timesteps else "samples"
            raise ExportError(at(neuron.path, kind, f"a multiple of {known} {what} in front", shapes[0]))
        other = shapes[0][0] // known
        return Extent(known, other, time_axis) if spec.flat_timesteps else Extent(other, known, time_axis)
    least = 3 if spec.multi_step else 2
    if len(shapes[0]) < least:
        raise ExportError(at(neuron.path, kind, ORDERS[time_axis] if spec.multi_step else "(N, ...)", shapes[0]))
    if not spec.multi_step:
        return Extent(len(shapes), shapes[0][0], time_axis)
    return Extent(shapes[0][time_axis], shapes[0][1 if time_axis == 0 else 0], time_axis)


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
            if extent.is_whole(shape) and rank in (None, len(shape) - 2):
                return extent.whole(tensors[0])
            if rank in (None, len(shape) - 1):
                if shape[0] == t * n:
                    return extent.unfolded(tensors[0])
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
    seen: set[tuple[int, int]] = set()  # what one sent, another reads: the same memory
    for found in modules:
        for edge in (*found.reads, *found.sends):
            place = (edge.value.data_ptr(), edge.value.numel())
            if place not in seen:
                seen.add(place)
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
