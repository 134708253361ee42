"""What reads a unit's spikes: a convolution, a matrix product, an average, or nothing; forward and backward."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch.nn import functional

OfWeights = tuple[torch.Tensor | None, torch.Tensor | None]  # dL/dw, dL/db


@dataclass(frozen=True)
class Reader:
    """Passes spikes on as they are; the base of the others. Maps are (T, N, ...); weight, bias: None if it has none."""

    kind: ClassVar[str] = "none"

    def __call__(self, s: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        """x of the next layer."""
        return s

    def of_weights(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None, biased: bool) -> OfWeights:
        """The gradients of weight and bias from grad = dL/d(what it returns)."""
        return None, None

    def of_spikes(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """The gradient of s."""
        return grad

    def encoded(self) -> str:
        """The reader as text, which an operator of torch can take."""
        return json.dumps([self.kind, asdict(self)])


@dataclass(frozen=True)
class Conv2d(Reader):
    """A convolution of (T, N, C, H, W)."""

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    kind: ClassVar[str] = "conv2d"

    def __call__(self, s: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        assert weight is not None
        bias = None if bias is None else bias.to(s.dtype)
        how = self.stride, self.padding, self.dilation, self.groups
        return torch.unflatten(functional.conv2d(s.flatten(0, 1), weight.to(s.dtype), bias, *how), 0, s.shape[:2])

    def of_weights(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None, biased: bool) -> OfWeights:
        _, of_weight, of_bias = self._backward(grad, s, weight, [False, True, biased])
        return of_weight, of_bias

    def of_spikes(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        of_s, *_ = self._backward(grad, s, weight, [True, False, False])
        assert of_s is not None
        return torch.unflatten(of_s, 0, s.shape[:2])

    def _backward(
        self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None, wanted: list[bool]
    ) -> list[torch.Tensor | None]:
        assert weight is not None
        found: list[torch.Tensor | None] = torch.ops.aten.convolution_backward(
            grad.flatten(0, 1), s.flatten(0, 1), weight.to(s.dtype), [weight.shape[0]] if wanted[2] else None,
            self.stride, self.padding, self.dilation, False, (0, 0), self.groups, wanted,
        )  # fmt: skip
        return found


@dataclass(frozen=True)
class Linear(Reader):
    """A matrix product of (T, N, ...), which it flattens."""

    kind: ClassVar[str] = "linear"

    def __call__(self, s: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        assert weight is not None
        return functional.linear(s.flatten(2), weight.to(s.dtype), None if bias is None else bias.to(s.dtype))

    def of_weights(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None, biased: bool) -> OfWeights:
        flat = grad.flatten(0, 1)
        return flat.t() @ s.reshape(len(flat), -1), flat.sum(0) if biased else None

    def of_spikes(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        assert weight is not None
        return (grad.flatten(0, 1) @ weight.to(s.dtype)).reshape(s.shape)


@dataclass(frozen=True)
class AvgPool2d(Reader):
    """The average over windows of (T, N, C, H, W); zeros around the map count."""

    kernel: tuple[int, ...] = (2, 2)
    stride: tuple[int, ...] = (2, 2)
    padding: tuple[int, ...] = (0, 0)
    kind: ClassVar[str] = "avgpool2d"

    def __call__(self, s: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        how = self.kernel, self.stride, self.padding
        return torch.unflatten(functional.avg_pool2d(s.flatten(0, 1), *how), 0, s.shape[:2])

    def of_spikes(self, grad: torch.Tensor, s: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        of_s = torch.ops.aten.avg_pool2d_backward(
            grad.flatten(0, 1), s.flatten(0, 1), self.kernel, self.stride, self.padding, False, True, None
        )
        return torch.unflatten(of_s, 0, s.shape[:2])


_KINDS: dict[str, type[Reader]] = {kind.kind: kind for kind in (Reader, Conv2d, Linear, AvgPool2d)}


@lru_cache(maxsize=1024)
def decoded(text: str) -> Reader:
    """The reader of what Reader.encoded gave."""
    kind, how = json.loads(text)
    return _KINDS[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in how.items()})
