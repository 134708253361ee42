"""What a trained layer keeps of one step beside what every recorded layer does: members of version 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from h2sim.arrays import Array, Bytes
from h2sim.export.record import LayerRecord, StepRecord, half, pack_bits
from h2sim.trace.members import OF_NORM

MEMBERS_OF_2 = ("kept", *OF_NORM, "route")


@dataclass
class TrainedLayer(LayerRecord):
    """One layer of a recorded step.

    kept: a gate's mask, packed, of every timestep or of one for all. current and grad_current: x (T, N, ...) of what
    is normalised, before the norm, and dL/dx. norm_weight, norm_bias: (C,), what the norm multiplies by and adds.
    route: uint8 (T, N, C, H, W), which element of its window a maximum of analog values gives on, in raster order.
    grad is the mask of dL/dx where there is a norm, and grad_membrane still dm.
    """

    kept: Bytes | None = None
    current: Array | None = None
    grad_current: Array | None = None
    norm_weight: Array | None = None
    norm_bias: Array | None = None
    route: Bytes | None = None


@dataclass
class TrainedStep(StepRecord):
    """A recorded step; input_counts: uint8 or uint16 (T, N, C, H, W), an input of counts."""

    input_counts: Array | None = None

    def members(self) -> Iterator[tuple[str, Array]]:
        """The trace's members, one at a time; what only version 2 knows comes last."""
        yield from super().members()
        if self.input_counts is not None:
            yield "input.counts", self.input_counts
        for layer, record in self.layers.items():
            for member in MEMBERS_OF_2:
                array = getattr(record, member, None)
                if array is not None:
                    yield f"{layer}.{member}", array


def stored_gradient(grad: torch.Tensor, dtype: str) -> npt.NDArray[Any]:
    """A gradient as a trace holds it: float32, or the format that it was rounded to."""
    values = grad.detach().cpu().numpy()
    return values.astype("float32") if dtype == "float32" else half(values)


def keep_kept(record: LayerRecord | None, kept: torch.Tensor) -> None:
    """Keeps the mask of a gate, bool (T or 1, N, ...)."""
    if isinstance(record, TrainedLayer):
        record.kept = pack_bits(kept.cpu().numpy())


def keep_route(record: LayerRecord | None, route: torch.Tensor) -> None:
    """Keeps where a maximum routes, integers (T, N, C, H, W)."""
    if isinstance(record, TrainedLayer):
        record.route = route.to(torch.uint8).cpu().numpy()


def keep_normalised(record: LayerRecord | None, x: torch.Tensor) -> None:
    """Keeps the values before a norm, if the record keeps values."""
    if isinstance(record, TrainedLayer) and record.values:
        record.current = half(x.detach().cpu().numpy())


def keep_gradient_of_normalised(record: LayerRecord | None, grad: torch.Tensor, dtype: str, masked: bool) -> None:
    """Keeps dL/dx of what is normalised: its mask where the layer has one, its values if the record keeps values."""
    if not isinstance(record, TrainedLayer):
        return
    if masked:
        record.grad = pack_bits(grad.detach().cpu().numpy() != 0)
    if record.values:
        record.grad_current = stored_gradient(grad, dtype)
