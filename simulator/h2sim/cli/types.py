"""click's ParamType with a type argument, for every click that h2sim takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click import ParamType
else:

    class ParamType(click.ParamType):
        """`ParamType[int]` is the plain class: older versions of click know no type argument."""

        def __class_getitem__(cls, item: Any) -> type:
            return cls


MOST_DIGITS = 18  # of an integer in a list; Python reads no text of thousands


class Finite(click.FloatRange):
    """A finite number of a range: to click's own, nan lies in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number; got {value}", param, ctx)
        return number


class Positive(Finite):
    """A finite number above 0, and at most `most`."""

    def __init__(self, most: float | None = None) -> None:
        super().__init__(min=0, min_open=True, max=most)


def is_count(text: str) -> bool:
    """Whether a part of a list is an integer of 0 or more, with no more digits than any list needs."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


__all__ = ["Finite", "ParamType", "Positive", "is_count"]
