"""Small models of each library that the exporter knows, as people write them, with a batch: name -> Own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.helpers.models import Lif, Loop, library, mean_loss, spikes

T, N = 4, 3
TARGETS = torch.tensor([1, 0, 2])


@dataclass(frozen=True)
class Own:
    """A model, its batch, its loss, and what runs all timesteps where the model itself does not."""

    model: nn.Module
    inputs: Any
    targets: Any = TARGETS
    loss: Any = mean_loss
    forward: Any = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.model, self.inputs, self.targets, self.loss


def spikingjelly(step_mode: str = "m", inplace: bool = False) -> Own:
    """Convolution, batch norm, LIF, maximum, linear; over all timesteps at once, or in a loop."""
    library("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(0)
    model = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), neuron.LIFNode(v_threshold=0.3),
        layer.MaxPool2d(2), layer.Flatten(), layer.Linear(36, 3), neuron.LIFNode(v_threshold=0.05),
    )  # fmt: skip
    functional.set_step_mode(model, step_mode)

    def loop(model: nn.Module, x: Any) -> Any:
        return torch.stack([model(now) for now in x])

    return Own(model, spikes(2, 6, 6), forward=loop if step_mode == "s" else None)


def snntorch() -> Own:
    """A tutorial's loop with the membranes handed on."""
    snn = library("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(12, 8), snn.Leaky(beta=0.9, threshold=0.2)
            self.fc2, self.lif2 = nn.Linear(8, 3), snn.Leaky(beta=0.9, threshold=0.2)

        def forward(self, x: Any) -> Any:
            first, second, sent = self.lif1.init_leaky(), self.lif2.init_leaky(), []
            for step in x:
                spike, first = self.lif1(self.fc1(step), first)
                spike, second = self.lif2(self.fc2(spike), second)
                sent.append(spike)
            return torch.stack(sent)

    torch.manual_seed(0)
    return Own(Net(), spikes(12))


def norse() -> Own:
    """A stateful sequence, run by a function."""
    library("norse")
    from norse.torch import LIFBoxCell, LIFBoxParameters, SequentialState

    torch.manual_seed(0)
    p = LIFBoxParameters(v_th=torch.tensor(0.05))
    model = SequentialState(
        nn.Conv2d(2, 4, 3, padding=1), LIFBoxCell(p=p), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )

    def forward(model: nn.Module, x: Any) -> Any:
        state, sent = None, []
        for step in x:
            out, state = model(step, state)
            sent.append(out)
        return torch.stack(sent)

    return Own(model, spikes(2, 6, 6), forward=forward)


def sinabs() -> Own:
    """Timesteps side by side in the batch."""
    sl, activation = library("sinabs.layers"), library("sinabs.activation")
    torch.manual_seed(0)
    lif = {"batch_size": N, "spike_fn": activation.SingleSpike, "spike_threshold": torch.tensor(0.3), "min_v_mem": None}
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), sl.IAFSqueeze(**lif), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 3, bias=False),
    )  # fmt: skip

    def forward(model: nn.Module, x: Any) -> Any:
        return model(x.flatten(0, 1)).unflatten(0, (N, T)).mean(1)

    return Own(model, spikes(2, 6, 6).transpose(0, 1).contiguous(), forward=forward)


class Residual(nn.Module):
    """A block whose sum is written in place, behind a rectifier in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), Lif()
        self.conv2, self.lif2 = nn.Conv2d(4, 4, 3, padding=1, groups=2), Lif()
        self.fc = nn.Linear(144, 3)

    def forward(self, x: Any) -> Any:
        a = self.lif1(self.conv1(x))
        b = self.conv2(a)
        b += a
        return self.fc(self.lif2(b).flatten(1))


def by_hand() -> Own:
    """Neurons of one's own, called once for each timestep, and a sum in place."""
    torch.manual_seed(0)
    return Own(Loop(Residual()), spikes(2, 6, 6))


OWN: dict[str, Callable[[], Own]] = {
    "spikingjelly, all timesteps": spikingjelly,
    "spikingjelly, one timestep": lambda: spikingjelly("s"),
    "snntorch": snntorch,
    "norse": norse,
    "sinabs": sinabs,
    "by hand": by_hand,
}
