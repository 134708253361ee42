"""Implementations of the unit by name."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Literal, get_args

import torch

from h2sim.fused.values import Implementation

Name = Literal["auto", "plain", "numba", "triton"]
NAMES: tuple[Name, ...] = get_args(Name)
HALVES = (torch.float16, torch.bfloat16)


def chosen(name: str, x: torch.Tensor) -> Implementation:
    """The implementation for x. auto: triton on CUDA where it is installed, numba on the CPU, else plain torch.

    Raises ValueError for an unknown name, and for an implementation that cannot take x.
    """
    if name not in NAMES:
        raise ValueError(f"implementation: expected one of {', '.join(NAMES)}; got {name!r}")
    narrow = x.dtype in (torch.float32, *HALVES)
    if name == "auto":
        cuda = x.is_cuda and has_triton()
        name = "triton" if cuda and narrow else "numba" if x.device.type == "cpu" and narrow else "plain"
    if name != "plain" and not narrow:
        raise ValueError(f"implementation {name}: expected x in float32, float16 or bfloat16; got {x.dtype}")
    if name == "numba" and x.device.type != "cpu":
        raise ValueError(f"implementation numba: expected x on the CPU; got {x.device}")
    return implementation(name)


def has_triton() -> bool:
    """Whether the package triton is installed."""
    return importlib.util.find_spec("triton") is not None


@cache
def implementation(name: str) -> Implementation:
    """The implementation of a name but auto; what it needs is imported now."""
    if name == "numba":
        from h2sim.fused.compiled import Compiled

        return Compiled()
    if name == "triton":
        from h2sim.fused.tiles import Tiles

        return Tiles()
    from h2sim.fused.plain import Plain

    return Plain()
