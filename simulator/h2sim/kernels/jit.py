"""numba's decorator and parallel loop, typed: a compiled function keeps the type of the plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange


def njit(*, parallel: bool = False, inline: Literal["never", "always"] = "never") -> Callable[[F], F]:
    """Compiles a function on its first call and keeps the machine code for later runs.

    parallel: `prange` loops run on all cores; inline='always': the function is pasted into its callers.
    """
    untyped: Any = numba
    decorate: Callable[[F], F] = untyped.njit(parallel=parallel, inline=inline, cache=True)
    return decorate
