"""What is minimised: how the network's output is read, which loss is taken of it, how it is reduced and scaled.

These choices decide the gradient masks, so every trace records them. Two examples: a correctly learnt sample has no
gradient at all under a mean squared error on spike rates; float16 gradients underflow without a loss scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

LOSSES = {"ce": "cross-entropy", "mse": "mean squared error against one-hot"}
READOUTS = {"current": "mean current", "sum": "summed current", "rate": "spiking rate"}
REDUCTIONS = ("mean", "sum")


@dataclass(frozen=True)
class Objective:
    """The loss and how it is computed.

    loss: ce (cross-entropy) or mse (squared error, mean over classes). readout: mean over time of the last layer's
    current, its sum over time (sum), or the mean of its spikes (rate). reduction: mean or sum over the samples of a
    batch. loss_scale: factor on the loss before the backward pass; weight gradients are divided by it before the
    update. gradient_dtype: number format of membrane gradients (see lif.rounded).
    """

    loss: str = "ce"
    readout: str = "current"
    reduction: str = "mean"
    loss_scale: float = 1.0
    gradient_dtype: str = "float32"

    @property
    def last_layer_spikes(self) -> bool:
        """Whether the network's last layer has to spike."""
        return self.readout == "rate"

    def value(self, output: torch.Tensor, labels: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        """The loss of an output (T, N, classes) for labels (N,), not scaled.

        batch: where these N samples are a part of a batch, the batch's size. A mean is then the sum over N / batch.
        """
        scores = output.sum(0) if self.readout == "sum" else output.mean(0)
        batch = len(labels) if batch is None else batch
        labels = labels.to(output.device)
        whole = self.reduction == "mean" and batch == len(labels)
        if self.loss == "ce":
            loss = functional.cross_entropy(scores, labels, reduction="mean" if whole else "sum")
        else:
            wanted = functional.one_hot(labels, scores.shape[1]).to(scores.dtype)
            each = (scores - wanted).square().mean(1)
            loss = each.mean() if whole else each.sum()
        return loss if whole or self.reduction == "sum" else loss / batch

    def to_source(self, batch: int) -> dict[str, Any]:
        """The objective in the words of a trace's `source`. batch: samples of one weight update."""
        return {
            "loss": LOSSES[self.loss],
            "readout": READOUTS[self.readout],
            "loss_reduction": f"{self.reduction} over {batch}",
            "loss_scale": self.loss_scale,
            "gradient_dtype": self.gradient_dtype,
        }
