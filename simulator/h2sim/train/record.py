"""What a layer that trains keeps of one step for version 2 of the format."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch

from h2sim.export.record import LayerRecord, half, pack_bits


def stored_gradient(grad: torch.Tensor, dtype: str) -> npt.NDArray[Any]:
    """A gradient as a trace holds it: float32, or the format that it was rounded to."""
    values = grad.detach().cpu().numpy()
    return values.astype("float32") if dtype == "float32" else half(values)


def keep_kept(record: LayerRecord | None, kept: torch.Tensor) -> None:
    """Keeps the mask of a gate, bool (T or 1, N, ...)."""
    if record is not None:
        record.kept = pack_bits(kept.cpu().numpy())


def keep_route(record: LayerRecord | None, route: torch.Tensor) -> None:
    """Keeps where a maximum routes, integers (T, N, C, H, W)."""
    if record is not None:
        record.route = route.to(torch.uint8).cpu().numpy()


def keep_normalised(record: LayerRecord | None, x: torch.Tensor) -> None:
    """Keeps the values before a norm, if the record keeps values."""
    if record is not None and record.values:
        record.current = half(x.detach().cpu().numpy())


def keep_gradient_of_normalised(record: LayerRecord | None, grad: torch.Tensor, dtype: str, masked: bool) -> None:
    """Keeps dL/dx of what is normalised: its mask where the layer has one, its values if the record keeps values."""
    if record is None:
        return
    if masked:
        record.grad = pack_bits(grad.detach().cpu().numpy() != 0)
    if record.values:
        record.grad_current = stored_gradient(grad, dtype)
