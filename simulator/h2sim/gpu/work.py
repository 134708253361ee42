"""What the rows of a step must do at least: operations of its products, and bytes of the maps that it reads and writes.

| row | bytes: each once for each call |
|---|---|
| forward | what the module reads, what it sends, its parameters |
| backward | gradients of what it sent and of what it read; weights, or what it read if it has none [A] |
| weight_update | gradients of what it sent and of its parameters, and what it read |

Operations are those of torch.utils.flop_counter: products and convolutions, two for each multiply-accumulate.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from h2sim.export.places import Place
from h2sim.export.roles import Role
from h2sim.gpu.clock import Label


class FlopClock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A clock whose time is the number of operations: as a block, it counts what runs in it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self._total += int(counted(*args, **(kwargs or {}), out_val=out))
        return out

    def mark(self) -> int:
        return self._total

    def wait(self) -> None:
        return None

    def seconds(self, earlier: int, later: int) -> float:
        return float(later - earlier)


class Traffic:
    """Bytes by row, as calls of modules are told to it."""

    def __init__(self) -> None:
        self.bytes: Counter[Label] = Counter()

    def __call__(self, place: Place, layer: str, read: list[torch.Tensor], sent: list[torch.Tensor]) -> None:
        if place.role == Role(None):  # a whole of others that are told themselves
            return
        weights = place.role.name in ("conv", "linear")
        parameters = list(place.module.parameters())
        held, reads, sends = _size(parameters), _size(read), _size(sent)
        self.bytes[layer, "forward"] += reads + sends + held
        back = [tensor for tensor in sent if tensor.requires_grad]
        if back:
            below = [tensor for tensor in read if tensor.requires_grad]
            if below:
                self.bytes[layer, "backward"] += _size(back) + _size(below) + (held if weights else reads)
            if weights and any(parameter.requires_grad for parameter in parameters):
                self.bytes[layer, "weight_update"] += _size(back) + reads + held


def _size(tensors: list[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
