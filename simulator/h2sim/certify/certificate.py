"""What is certain of a network's outputs for every input between two bounds: S-IBP, S-CROWN, the larger of the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from h2sim.certify import crown, ibp
from h2sim.certify.affine import Interval, check_network
from h2sim.certify.ibp import LayerBounds
from h2sim.errors import TrainingError, at
from h2sim.train.network import SpikingNetwork

CERTIFIED_TIMESTEPS = 3  # T' of the source's training, for a static input of which nothing says it


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of margins, (N, classes - 1): the label's output minus each other's, the label's column left out.

    Outputs are means over the T' certified timesteps: spike rates, or mean currents where the last layer does not
    spike. layers: the S-IBP bounds of each. A margin above 0 certifies its class: no input between the bounds has that
    other class instead of the label. Both bounds are sound; S-CROWN is not in general the tighter one, so the
    certificate is the larger of the two.
    """

    layers: Mapping[str, LayerBounds]
    ibp: torch.Tensor
    crown: torch.Tensor

    @property
    def certificate(self) -> torch.Tensor:
        """The larger of both bounds."""
        return torch.maximum(self.ibp, self.crown)


def bounds(
    network: SpikingNetwork,
    lower: torch.Tensor,
    upper: torch.Tensor,
    labels: torch.Tensor,
    *,
    timesteps: int | None = None,
) -> Bounds:
    """S-IBP and S-CROWN bounds (section 6.2) of a network, for all inputs between `lower` and `upper`.

    lower, upper: spikes (T', N, C, H, W) or (T', N, F) at every timestep, or an analog input (N, C, H, W) or (N, F)
    that is shown at all of them. timesteps: T' of an analog input (default 3, the source's). labels: (N,). They are
    cast to the numbers of the network's weights, float32 or float64, and so are the bounds: float32 rounds, so that a
    proof wants float64. Neurons fire by their `fires_at`. Batch norm is in its inference form, whatever mode the
    network is in. Gradients flow to the network's parameters.

    Raises TrainingError, which names layer and field, for kinds and neurons that have no bounds here (see
    affine.check_network), and for inputs that do not fit.
    """
    check_network(network)
    inputs, steps = checked_box(network, lower, upper, timesteps)
    rows = margin_rows(network, labels, inputs[0])
    layers = ibp.spread(network, inputs, steps)
    by_ibp = ibp.margins(layers[network.layers[-1]["name"]], rows)
    return Bounds(layers, by_ibp, crown.margins(network, layers, inputs, rows))


def margin_rows(network: SpikingNetwork, labels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """C (N, classes - 1, classes): the rows e_y - e_j for j other than y, in order. like: an input (T' or 1, N, ...)."""
    if labels.dim() != 1 or len(labels) != like.shape[1] or labels.dtype.is_floating_point:
        got = f"{labels.dtype} of shape {list(labels.shape)}"
        raise TrainingError(at("certify", "labels", f"integers of shape {[like.shape[1]]}", got))
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < network.classes:
        got = f"{int(labels.min())} to {int(labels.max())}"
        raise TrainingError(at("certify", "labels", f"classes from 0 to {network.classes - 1}", got))
    one = torch.eye(network.classes, dtype=like.dtype)
    others = torch.arange(network.classes).expand(len(labels), -1)
    others = others[others != labels[:, None]].view(len(labels), network.classes - 1)
    return one[labels.long()].unsqueeze(1) - one[others]


def checked_box(
    network: SpikingNetwork, lower: torch.Tensor, upper: torch.Tensor, timesteps: int | None
) -> tuple[Interval, int]:
    """The bounds as (T' or 1, N, ...) in the network's numbers, and T'. Raises TrainingError if they do not fit."""
    if lower.shape != upper.shape:
        raise TrainingError(at("certify", "upper", f"the shape of lower, {list(lower.shape)}", list(upper.shape)))
    over_time = lower.dim() in (3, 5)
    size = lower.shape[2:] if over_time else lower.shape[1:]
    flat = len(network.input_shape) == 1
    if lower.dim() not in (2, 3, 4, 5) or (size.numel() if flat else tuple(size)) != (
        network.input_shape[0] if flat else network.input_shape
    ):
        shape = ", ".join(map(str, network.input_shape))
        raise TrainingError(at("certify", "lower", f"shape (T', N, {shape}) or (N, {shape})", list(lower.shape)))
    steps = timesteps or (lower.shape[0] if over_time else CERTIFIED_TIMESTEPS)
    if steps < 1 or (over_time and lower.shape[0] not in (1, steps)):
        got = f"{list(lower.shape)} and timesteps {timesteps}"
        raise TrainingError(at("certify", "timesteps", "those of lower, or 1 of a static input", got))
    like = next(network.parameters())
    first, second = ((side if over_time else side.unsqueeze(0)).to(like.dtype) for side in (lower, upper))
    if not bool((first <= second).all()) or not bool(torch.isfinite(second - first).all()):
        raise TrainingError(at("certify", "lower", "finite numbers that are nowhere above upper", "others"))
    return (first, second), steps
