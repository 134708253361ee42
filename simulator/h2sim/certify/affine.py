"""What a layer does before its neurons, as an affine map: of intervals, and backwards of the rows of a bound."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from h2sim.errors import NetworkError, at
from h2sim.trace import Layer as Described
from h2sim.train.network import Layer, SpikingNetwork, over_time, product

Interval = tuple[torch.Tensor, torch.Tensor]  # lower and upper, (T or 1, N, ...)
KNOWN = "conv, encode, fc, average pool, sum, batch norm, dropout"


def check_layer(layer: Described) -> None:
    """Raises NetworkError for a layer that has no bounds here."""
    refused = {
        "pool": layer.kind == "pool" and layer.mode == "max",
        "add": layer.kind == "add" and layer.op != "sum",
    }.get(layer.kind, layer.kind not in ("conv", "encode", "fc", "norm", "gate"))
    if refused:
        what = f"{layer.mode or layer.op or ''} {layer.kind}".strip()
        raise NetworkError(at(layer.name, "kind", f"one that has bounds ({KNOWN})", what))
    if any("N" not in norm.over for norm in layer.norm):
        raise NetworkError(at(layer.name, "norm", "batch norm, whose statistics stand still", "layer norm"))
    if layer.mean_over_time:
        raise NetworkError(at(layer.name, "mean_over_time", "a layer that reads every timestep", "a mean over time"))


class Affine:
    """The affine map of a layer of a network in evaluation mode, its norm included: y = sum of A x + b."""

    def __init__(self, network: SpikingNetwork, layer: Layer, timesteps: int) -> None:
        self._network, self._layer, self.timesteps = network, layer, timesteps
        self.described = network.described[layer["name"]]
        self._norm = network.norm(layer["name"])
        check_layer(self.described)

    def __call__(self, reads: Sequence[torch.Tensor]) -> torch.Tensor:
        """y (T, N, ...) of what the layer reads, each (T or 1, N, ...)."""
        return self._normalised(over_time(self._network.current(self._layer, list(reads)), self.timesteps))

    def interval(self, reads: Sequence[Interval]) -> Interval:
        """Bounds of y (eq. 6.8): A l + b, and of what may rise above l the part of positive and of negative weights.

        For spikes this is A s_l + b plus A+ and A- at the elements of which it is not known whether they spike; for
        analog values it is their centre and deviation.
        """
        lows = [low for low, _ in reads]
        gaps = [high - low for low, high in reads]
        low = self._network.current(self._layer, lows)
        rise, fall = self._parts(gaps)
        low, high = low if fall is None else low + fall, low + rise
        bounds = over_time(low, self.timesteps), over_time(high, self.timesteps)
        if self._norm is None:
            return bounds
        ends = [self._normalised(each) for each in bounds]  # each channel's scale may turn them round
        return torch.minimum(*ends), torch.maximum(*ends)

    def _parts(self, gaps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A+ and A- (None: 0) of what lies between the bounds."""
        if not self.described.has_weights:
            return self._network.current(self._layer, list(gaps)), None
        weight = self._network.weights[self._layer["name"]]
        return (
            product(self.described, gaps[0], weight.clamp(min=0), None),
            product(self.described, gaps[0], weight.clamp(max=0), None),
        )

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        return x if self._norm is None else self._norm(x)

    def backwards(
        self, rows: torch.Tensor, shapes: Sequence[tuple[int, ...]]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(rows over what the layer reads, their constants (R, N)) of rows (T, R, N, ...) over y.

        shapes: of what is read, (T or 1, N, ...). Rows over an input of one timestep are summed over time.
        """
        r, n = rows.shape[1:3]
        flat = rows.flatten(1, 2)
        with torch.enable_grad():
            zeros = [rows.new_zeros((shape[0], r * n, *shape[2:])).requires_grad_() for shape in shapes]
            y = self(zeros)
        flat = flat.reshape(y.shape)
        found = torch.autograd.grad(y, zeros, flat, create_graph=torch.is_grad_enabled())
        constants = (flat * y).flatten(2).sum((0, 2)).view(r, n)
        return [torch.unflatten(each, 1, (r, n)) for each in found], constants
