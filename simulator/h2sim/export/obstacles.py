"""What stands in the way of an export: each obstacle with the module's name, the reason and what would do instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from h2sim.errors import ExportError, at


@dataclass(frozen=True)
class Obstacle:
    """One reason why no trace can hold a model. module: where; why: what was expected and got; rewrite: what would do.

    rewrite is empty where nothing in the model's code would help.
    """

    module: str
    why: str
    rewrite: str = ""

    def __str__(self) -> str:
        return f"{self.module}: {self.why}" + (f" ({self.rewrite})" if self.rewrite else "")


class Refusal(ExportError):
    """An ExportError of one obstacle."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(str(obstacle))
        self.obstacle = obstacle


def refusal(module: str, field: str, wanted: str, got: object, rewrite: str = "") -> Refusal:
    """`module: field: expected ...; got ... (rewrite)`."""
    why = at(module, field, wanted, got).removeprefix(f"{module}: ")
    return Refusal(Obstacle(module, why, rewrite))


class Obstacles:
    """Collects obstacles in the order in which they were met: of a module the first one of each field."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Obstacle] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def found(self) -> tuple[Obstacle, ...]:
        """All of them."""
        return tuple(self._found.values())

    def add(self, error: ExportError) -> None:
        """Keeps what an error says."""
        lines = [error.obstacle] if isinstance(error, Refusal) else [_of_line(str(line)) for line in error.args]
        for obstacle in lines:
            self._found.setdefault((obstacle.module, obstacle.why.partition(": ")[0]), obstacle)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """An ExportError in the block is kept, and does not leave it."""
        try:
            yield
        except ExportError as error:
            self.add(error)

    def check(self) -> None:
        """Raises ExportError, a line per obstacle, if there is any."""
        if self._found:
            raise ExportError(*map(str, self._found.values()))


def _of_line(line: str) -> Obstacle:
    module, _, why = line.partition(": ")
    return Obstacle(module, why)
