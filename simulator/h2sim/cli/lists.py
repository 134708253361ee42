"""Options that take several numbers with commas between them."""

from __future__ import annotations

from typing import Any

import click

from h2sim.cli.types import ParamType

MOST_NUMBERS = 64


class Several(ParamType[tuple[Any, ...]]):
    """Numbers with commas between them, each as `one` takes it; name: as help shows them."""

    def __init__(self, name: str, one: ParamType[Any]) -> None:
        self.name, self._one = name, one

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        parts = str(value).split(",")
        if len(parts) > MOST_NUMBERS:
            self.fail(f"expected at most {MOST_NUMBERS} numbers; got {len(parts)}", param, ctx)
        return tuple(self._one.convert(part.strip(), param, ctx) for part in parts)
