"""What is minimised: how the network's output is read, which loss, how it is reduced, scaled and held.

These decide the gradient masks (a rightly learnt sample under a rate-MSE loss has no gradient at all; unscaled FP16
gradients underflow), so every trace records them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

LOSSES = {"ce": "cross-entropy", "mse": "mean squared error against one-hot"}
READOUTS = {"current": "mean current", "rate": "spiking rate"}
REDUCTIONS = ("mean", "sum")


@dataclass(frozen=True)
class Objective:
    """loss: ce or mse (its mean over classes); readout: the mean over time of the last layer's current, or its rate.

    reduction: over the samples of a batch; loss_scale multiplies the loss before the backward pass, and the weight
    gradients are divided by it before the update; gradient_dtype is that of lif.rounded.
    """

    loss: str = "ce"
    readout: str = "current"
    reduction: str = "mean"
    loss_scale: float = 1.0
    gradient_dtype: str = "float32"

    @property
    def last_layer_spikes(self) -> bool:
        """Whether the network's last layer fires."""
        return self.readout == "rate"

    def value(self, output: torch.Tensor, labels: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        """The loss of an output (T, N, classes) for labels (N,), unscaled.

        `batch` is the number of samples that the mean is over, if these N are a part of a batch.
        """
        scores = output.mean(0)
        batch = len(labels) if batch is None else batch
        whole = self.reduction == "mean" and batch == len(labels)
        if self.loss == "ce":
            loss = functional.cross_entropy(scores, labels, reduction="mean" if whole else "sum")
        else:
            wanted = functional.one_hot(labels, scores.shape[1]).to(scores.dtype)
            each = (scores - wanted).square().mean(1)
            loss = each.mean() if whole else each.sum()
        return loss if whole or self.reduction == "sum" else loss / batch

    def to_source(self, batch: int) -> dict[str, Any]:
        """What a trace's `source` says of it; `batch` samples make one weight update."""
        return {
            "loss": LOSSES[self.loss],
            "readout": READOUTS[self.readout],
            "loss_reduction": f"{self.reduction} over {batch}",
            "loss_scale": self.loss_scale,
            "gradient_dtype": self.gradient_dtype,
        }
