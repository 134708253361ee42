"""The implementations that `gpu record` takes, by name, in a line each; gpu/baselines.py holds what runs."""

from __future__ import annotations

from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from h2sim.cli.types import ParamType

IMPLEMENTATIONS: Final[dict[str, str]] = {
    "vanilla": "timesteps outside, as the source's baseline",
    "layerwise": "layer by layer; the reference",
    "compiled": "torch.compile of layerwise",
    "graph": "CUDA graph of vanilla",
    "checkpoint": "layerwise, membranes and spikes computed again",
    "chapter4": "units of h2sim.fused",
    "spikingjelly": "its torch formulas",
    "spikingjelly-triton": "its Triton kernels",
    "spikingjelly-cuda": "its native kernels",
}
LISTED = ", ".join(f"{name} ({what})" for name, what in IMPLEMENTATIONS.items())


class ImplementationsType(ParamType[tuple[str, ...]]):
    """Names of implementations, one or several with commas between."""

    name = "implementations"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",")]
        wrong = next((name for name in names if name not in IMPLEMENTATIONS), None)
        if wrong is not None:
            self.fail(f"expected some of {', '.join(IMPLEMENTATIONS)}; got {wrong[:40]!r}", param, ctx)
        return tuple(dict.fromkeys(names))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What can stand behind the last comma."""
        typed, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{typed}{comma}{name}") for name in IMPLEMENTATIONS if name.startswith(last)]
