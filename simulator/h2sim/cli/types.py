"""click's ParamType with a type argument, for every click that h2sim takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click import ParamType
else:

    class ParamType(click.ParamType):
        """`ParamType[int]` is the plain class: older versions of click know no type argument."""

        def __class_getitem__(cls, item: Any) -> type:
            return cls


__all__ = ["ParamType"]
