"""The options of every command that draws: in which formats, and how wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import click

from h2sim.cli.types import Finite, ParamType
from h2sim.document.style import FORMATS

LEAST_MM, MOST_MM = 60, 400
BEHIND = ("plots", "output")  # the arguments that name a place for pictures; without one a command draws none


class FormatsType(ParamType[tuple[str, ...]]):
    """Formats, one or several with commas between."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip().lower() for name in value.split(",")]
        if not set(names) <= set(FORMATS):
            self.fail(f"expected some of {', '.join(FORMATS)}, with commas between; got {value[:40]!r}", param, ctx)
        return tuple(dict.fromkeys(names))


def _check_drawn(given: Mapping[str, Any]) -> None:
    """Raises a usage error for an option of pictures where the command draws none."""
    behind = next((name for name in BEHIND if name in given), None)
    context = click.get_current_context()
    if behind is None or given[behind] or context.command.name == "plot":  # which draws anyhow
        return
    flags = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    for name in ("plot_format", "plot_width"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{flags[name]} needs {flags[behind]}")


def plot_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --plot-format and --plot-width, which the command gets as one argument `pictures`."""

    @wraps(command)
    def with_plots(*args: Any, plot_format: tuple[str, ...], plot_width: float | None, **more: Any) -> Any:
        from h2sim.document.pictures import Plots

        _check_drawn(more)
        return command(*args, pictures=Plots(plot_format, plot_width), **more)

    made: Callable[..., Any] = with_plots
    for option in (
        click.option(
            "--plot-width", type=Finite(LEAST_MM, MOST_MM), metavar="MM",
            help="Width of pictures [default: 183 in PNG, else 89, a paper's column].",
        ),
        click.option(
            "--plot-format", type=FormatsType(), metavar="FORMATS", default="png", show_default=True,
            help="Of pictures: some of png,svg,pdf; the last two without a title.",
        ),
    ):  # fmt: skip
        made = option(made)
    return made
