"""Random networks as people might write them: of a seed, each operation as a module, a function or arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from h2sim import export
from tests.helpers.models import Lif

STEPS, SAMPLES, CLASSES = 3, 2, 3
Tensor = torch.Tensor
Step = tuple[str, Any]
OPERATIONS = (
    "norm", "group norm", "instance norm", "neuron", "neuron", "neuron", "maximum", "average", "sum", "adaptive",
    "dropout", "dropout by function", "convolution", "convolution", "add", "concatenate", "and", "iand", "keep",
    "factor", "relu", "global average", "enlarge",
)  # fmt: skip


class Whole(Lif):
    """The neuron over all timesteps in one call, on an axis that it does not name."""

    axis = 0

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([Lif.forward(self, now) for now in x.movedim(self.axis, 0)]).movedim(0, self.axis)

    def h2sim_neuron(self) -> export.NeuronSpec:
        return export.NeuronSpec(decay=self.decay, threshold=self.threshold, fire=self.fire, multi_step=True)


class RandomNet(nn.Module):
    """conv - a few operations - a read-out, over inputs (T, N, 2, 8, 8), or (N, T, ...) where `axis` is 1.

    program: the operations with what each needs. Some seeds give products of currents or sums of a map with itself,
    which no trace holds.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        torch.manual_seed(seed)
        self.whole = self.draw.random() < 0.5
        self.axis = self.draw.choice((0, 0, 1)) if self.whole else 0
        self.parts, self.program = nn.ModuleList(), list[Step]()
        self.channels, self.size, self.held = 2, 8, (0, 0)
        self._convolution(4, 3)
        for _ in range(self.draw.randint(2, 6)):
            self._operation(self.draw.choice(OPERATIONS))
        if all(name != "neuron" for name, _ in self.program):
            self._module("neuron", self._neuron())
        self.mean_first = self.draw.random() < 0.25
        self.fc = nn.Linear(self.channels * self.size**2, CLASSES)
        self.last = self._neuron() if self.draw.random() < 0.3 and not self.mean_first else nn.Identity()
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.weight.mul_(3)
                if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(0, 0.2)

    def inputs(self) -> Tensor:
        """Spikes, an image that stands still, or event counts."""
        shape = (STEPS, SAMPLES, 2, 8, 8)
        kind = self.draw.choice(("spikes", "image", "counts"))
        x = torch.poisson(torch.full(shape, 0.6))
        if kind != "counts":
            x = (
                (torch.rand(shape) < 0.4).float()
                if kind == "spikes"
                else torch.rand(1, *shape[1:]).repeat(STEPS, 1, 1, 1, 1)
            )
        return x.transpose(0, 1).contiguous() if self.axis == 1 else x

    def _neuron(self) -> Lif:
        made = (Whole if self.whole else Lif)(self.draw.choice((0.25, 0.5)), self.draw.choice((0.05, 0.1, 0.2)))
        if isinstance(made, Whole):
            made.axis = self.axis
        return made

    def _module(self, name: str, module: nn.Module) -> None:
        self.parts.append(module)
        self.program.append((name, len(self.parts) - 1))

    def _convolution(self, out: int, kernel: int) -> None:
        groups = self.draw.choice((1, 1, 2)) if self.channels % 2 == 0 and self.program else 1
        conv = nn.Conv2d(self.channels, out, kernel, padding=kernel // 2, groups=groups, bias=self.draw.random() < 0.5)
        self._module("module", conv)
        self.channels = out

    def _pool(self, average: bool) -> None:
        kernel = self.draw.choice((2, 2, 3)) if self.size >= 3 else 2
        stride, padding = self.draw.choice((1, 2)), self.draw.choice((0, 0, 1)) if kernel == 3 else 0
        up = self.draw.random() < 0.3
        module: nn.Module = nn.MaxPool2d(kernel, stride, padding, ceil_mode=up)
        if average:
            module = nn.AvgPool2d(kernel, stride, padding, ceil_mode=up, count_include_pad=self.draw.random() < 0.5)
        self.size = int(module(torch.zeros(1, 1, self.size, self.size)).shape[-1])
        if self.draw.random() < 0.5:
            self._module("module", module)
        elif average:
            self.program.append(("average", (kernel, stride, padding, up)))
        else:
            self.program.append(("maximum", (kernel, stride, padding, 1, up)))

    def _operation(self, name: str) -> None:
        if name == "neuron":
            self._module("neuron", self._neuron())
        elif name == "convolution":
            self._convolution(self.draw.choice((2, 4)), self.draw.choice((1, 3)))
        elif name in ("norm", "group norm", "instance norm"):
            self._norm(name)
        elif name in ("maximum", "average", "sum", "adaptive", "enlarge", "global average"):
            self._resized(name)
        elif name == "dropout":
            self._module("module", nn.Dropout(self.draw.choice((0.2, 0.5))))
        else:
            self._plain(name)

    def _norm(self, name: str) -> None:
        if name == "group norm":
            self._module("module", nn.GroupNorm(self.draw.choice((1, self.channels)), self.channels))
        elif name == "norm":
            self._module("module", nn.BatchNorm2d(self.channels))
        elif self.size > 1:
            self._module("module", nn.InstanceNorm2d(self.channels))

    def _resized(self, name: str) -> None:
        """What changes how many positions there are."""
        if name in ("maximum", "average") and self.size >= 2:
            self._pool(name == "average")
        elif name == "sum" and self.size >= 2:
            self.program.append((name, 2))
            self.size //= 2
        elif name == "adaptive":
            self.size = self.draw.randint(1, self.size)
            self._module("module", self.draw.choice((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d))(self.size))
        elif name == "enlarge" and self.size <= 6:
            self._module("module", nn.Upsample(scale_factor=2))
            self.size *= 2
        elif name == "global average":
            self.program.append((name, None))
            self.size = 1

    def _plain(self, name: str) -> None:
        """What needs no module, of the values and of those that were kept."""
        numbers = {"dropout by function": (0.25, 0.5), "factor": (0.5, 2.0, 0.3)}
        if name in numbers:
            self.program.append((name, self.draw.choice(numbers[name])))
        elif name in ("keep", "relu"):
            self.held = (self.channels, self.size) if name == "keep" else self.held
            self.program.append((name, None))
        elif name in ("add", "and", "iand", "concatenate"):
            if self.held[1] != self.size or (name != "concatenate" and self.held[0] != self.channels):
                return
            self.program.append((name, None))
            self.channels += self.held[0] if name == "concatenate" else 0

    def _flat(self, of: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not self.whole:
            return of(x)
        y = of(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])

    def body(self, x: Tensor) -> Tensor:
        """Runs the program, on all timesteps or on one."""
        kept = x
        plain: dict[str, Callable[[Tensor, Any], Tensor]] = {
            "sum": lambda y, size: self._flat(lambda z: functional.avg_pool2d(z, size, divisor_override=1), y),
            "maximum": lambda y, how: self._flat(lambda z: functional.max_pool2d(z, *how), y),
            "average": lambda y, how: self._flat(lambda z: functional.avg_pool2d(z, *how), y),
            "dropout by function": functional.dropout,
            "factor": lambda y, by: y * by,
            "relu": lambda y, _: functional.relu(y),
            "global average": lambda y, _: y.mean((-2, -1), keepdim=True),
            "add": lambda y, _: y + kept,
            "and": lambda y, _: y * kept,
            "iand": lambda y, _: y * (1 - kept),
            "concatenate": lambda y, _: torch.cat([y, kept], -3),
        }
        for name, of in self.program:
            if name == "module":
                x = self._flat(self.parts[of], x)
            elif name == "neuron":
                x = self.parts[of](x)
            elif name == "keep":
                kept = x
            else:
                x = plain[name](x, of)
        return x

    def forward(self, x: Tensor) -> Tensor:
        time = self.axis if self.whole else 0
        y = self.body(x).flatten(2) if self.whole else torch.stack([self.body(now).flatten(1) for now in x])
        if self.mean_first:
            out: Tensor = self.fc(y.mean(time))
            return out
        steps = self.last(self.fc(y)) if self.whole else torch.stack([self.last(self.fc(now)) for now in y])
        return steps.mean(time)
