"""The networks of chapter 4 of the source, each [batch norm ->] LIF -> operation in one of several ways.

Table 4.1 is lost. Medium is the network whose maps have the 71.13 MB that section 4.1.2 prints; large, alexnet and
resnet34 are those of the authors' code; small is medium with one convolution a stage [A].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from h2sim.fused import FusedUnit
from h2sim.neuron import Neuron, fire
from h2sim.train.lif import lif

NEURON = Neuron()
# conv: operations alone, without neurons and norms; vanilla: layer by layer, each timestep by autograd, as the authors'
# plain version; torchscript: the same, a timestep as one scripted function; trainer: what h2sim train --backend plain
# keeps, with torch's batch norm; checkpoint: torch.utils.checkpoint around each unit; fused: h2sim.fused
WAYS = ("conv", "vanilla", "torchscript", "trainer", "checkpoint", "fused", "fused-sliced")


def framed(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A module of frames over all timesteps."""
    return torch.unflatten(module(x.flatten(0, 1)), 0, x.shape[:2])


def vanilla(y: torch.Tensor) -> torch.Tensor:
    """Spikes of currents (T, N, ...), each timestep by autograd."""
    m, *rest = y.unbind()
    m = m.clone()  # a view would keep all of y
    spikes = [fire(m, NEURON)]
    for current in rest:
        m = NEURON.decay * (m * (1 - spikes[-1])) + current  # in this order m is kept once
        spikes.append(fire(m, NEURON))
    return torch.stack(spikes)


def scripted(y: torch.Tensor) -> torch.Tensor:
    """The same without gradients, a timestep as one function of TorchScript."""
    m = s = torch.zeros_like(y[0])
    spikes = []
    for current in y.unbind():
        m, s = _script()(m, s, current, NEURON.decay, NEURON.threshold)
        spikes.append(s)
    return torch.stack(spikes)


_scripts: list[Callable[..., tuple[torch.Tensor, torch.Tensor]]] = []


def _script() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The scripted timestep; TorchScript is slow to come, and says that it is old."""
    if not _scripts:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            _scripts.append(torch.jit.script(_timestep))
    return _scripts[0]


def _timestep(
    m: torch.Tensor, s: torch.Tensor, x: torch.Tensor, decay: float, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    m = decay * (m * (1 - s)) + x
    return m, (m >= threshold).to(m.dtype)


FIRED = {"vanilla": vanilla, "torchscript": scripted}


class Layer(nn.Module):
    """[BN ->] LIF -> reader, in one of the ways. merged: batch statistics of all processes together."""

    def __init__(self, channels: int, reader: nn.Module | None, norm: bool, way: str, merged: bool = False) -> None:
        super().__init__()
        self.norm, self.reader, self.way = nn.BatchNorm2d(channels) if norm else None, reader, way
        self.unit = FusedUnit(NEURON, reader, self.norm, sliced=way == "fused-sliced", merged=merged)

    def parts(self, x: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            x = framed(self.norm, x if x.dim() == 5 else x[..., None, None]).reshape(x.shape)
        s = x if self.way == "conv" else FIRED.get(self.way, partial(lif, neuron=NEURON))(x)
        if self.reader is None:
            return s
        return self.reader(s.flatten(2)) if isinstance(self.reader, nn.Linear) else framed(self.reader, s)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way.startswith("fused"):
            return self.unit(x)
        return checkpoint(self.parts, x, use_reentrant=False) if self.way == "checkpoint" else self.parts(x)


class Plain(nn.Module):
    """[BN ->] LIF -> next product after the first convolution; mean over T before the last product.

    convs: (channels, stride) of convolutions 3x3 with padding 1. places: of the last one's map. widths: of the products
    after them, the classes last.
    """

    def __init__(
        self, convs: list[tuple[int, int]], places: int, widths: list[int], norm: bool, way: str, merged: bool
    ) -> None:
        super().__init__()
        channels = [each for each, _ in convs]
        pairs = zip([3, *channels[:-1]], convs, strict=True)
        kernels = [nn.Conv2d(before, after, 3, stride, 1, bias=not norm) for before, (after, stride) in pairs]
        *hidden, classes = widths
        sizes = zip([channels[-1] * places, *hidden[:-1]], hidden, strict=True)
        readers = [*kernels[1:], *(nn.Linear(*size) for size in sizes), None]
        read = zip([*channels, *hidden], readers, strict=True)
        self.first, self.last = kernels[0], nn.Linear(hidden[-1], classes)
        self.layers = nn.Sequential(*(Layer(each, reader, norm, way, merged) for each, reader in read))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(framed(self.first, frames)).mean(0))


class Block(nn.Module):
    """LIF-conv, BN-LIF-conv, BN, beside the identity or LIF-conv 1x1 with BN; their sum is a current."""

    def __init__(self, before: int, after: int, stride: int, norm: bool, way: str, merged: bool) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, bias=not norm)
        self.down = Layer(before, conv(before, after, 3, stride, 1), False, way)
        self.same = Layer(after, conv(after, after, 3, 1, 1), norm, way, merged)
        self.norm = nn.BatchNorm2d(after) if norm else None
        self.beside = Layer(before, conv(before, after, 1, stride), False, way) if stride > 1 else None
        self.beside_norm = nn.BatchNorm2d(after) if norm and stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made, kept = self.same(self.down(x)), x if self.beside is None else self.beside(x)
        if self.norm is not None:
            made = framed(self.norm, made)
        if self.beside_norm is not None:
            kept = framed(self.beside_norm, kept)
        return made + kept


class Residual(nn.Module):
    """7x7 convolution with stride 2, four stages of blocks whose first has stride 2, LIF, mean over T and places."""

    def __init__(self, norm: bool, way: str, merged: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 7, 2, 3, bias=not norm)
        self.norm = nn.BatchNorm2d(64) if norm else None
        blocks, before = [], 64
        for after, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for index in range(depth):
                blocks.append(Block(before, after, 1 if index else 2, norm, way, merged))
                before = after
        self.blocks, self.fire, self.last = nn.Sequential(*blocks), Layer(512, None, False, way), nn.Linear(512, 1000)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = framed(self.first, frames)
        x = self.blocks(x if self.norm is None else framed(self.norm, x))
        return self.last(self.fire(x).mean((0, 3, 4)))


def _stages(each: int) -> list[tuple[int, int]]:
    """Three stages of so many convolutions, the last of each with stride 2."""
    return [(channels, 2 if index == each - 1 else 1) for channels in (128, 256, 512) for index in range(each)]


ALEXNET = [(64, 2), (128, 2), (256, 2), (256, 2), (384, 1), (256, 1), (256, 2)]
CIFAR10 = [1024, 512, 10]
Build = Callable[[bool, str, bool], nn.Module]  # of norm, way and merged
NETWORKS: dict[str, tuple[int, int, Build]] = {  # side of an image, classes
    "small": (32, 10, partial(Plain, _stages(1), 16, CIFAR10)),
    "medium": (32, 10, partial(Plain, _stages(2), 16, CIFAR10)),
    "large": (32, 10, partial(Plain, _stages(3), 16, CIFAR10)),
    "alexnet": (224, 1000, partial(Plain, ALEXNET, 49, [4096, 4096, 1000])),
    "resnet34": (224, 1000, Residual),
}
