"""A command whose further options are those of the recipe that its own line names."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import click
from click.core import ParameterSource

from h2sim.cli.support import extra
from h2sim.cli.types import ParamType
from h2sim.errors import TrainingError, at
from h2sim.train.registry import PLAIN, find_recipe

ASKED = "h2sim.recipe"  # in a context's meta: the recipe that the line names


class RecipeCommand(click.Command):
    """A command with an option --recipe: the recipe's own options stand beside the others, and in a section of help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ASKED] = _named(args)
        ctx.default_map = {**(ctx.default_map or {}), **_defaults(ctx)}
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        return [*own, *_options(ctx, {parameter.name for parameter in own})]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = _options(ctx)
        rows = [record for p in super().get_params(ctx) if (record := p.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        if own:
            with formatter.section(f"Options of {ctx.meta[ASKED]}"):
                formatter.write_dl([record for p in own if (record := p.get_help_record(ctx)) is not None])


class _Read(ParamType[Any]):
    """Text as a number where it is one; what else it may be is for the recipe's fields to say."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind if kind in (int, float) else str
        self.name = {int: "integer", float: "number"}.get(kind, "text")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._kind(value)
        except ValueError:
            return value


def given_options(ctx: click.Context) -> dict[str, Any]:
    """The recipe's own options that stand on the line, by name."""
    names = [p.name for p in _options(ctx) if p.name]
    return {name: ctx.params[name] for name in names if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}


def _named(args: Sequence[str]) -> str:
    """The value of --recipe on a line; the last one counts."""
    found = PLAIN
    for place, word in enumerate(args):
        if word == "--":
            break
        if word == "--recipe" and place + 1 < len(args):
            found = args[place + 1]
        elif word.startswith("--recipe="):
            found = word.partition("=")[2]
    return found


def _defaults(ctx: click.Context) -> Mapping[str, Any]:
    """What the command's own options are by default under the recipe that a line names."""
    name = ctx.meta.get(ASKED, PLAIN)
    if name == PLAIN:
        return {}
    with extra("train"):
        found: Mapping[str, Any] = find_recipe(name).defaults
    return found


def _options(ctx: click.Context, taken: Collection[str | None] = ()) -> list[click.Option]:
    """The options of the recipe that a line names. Raises TrainingError where the command has one of that name."""
    name = ctx.meta.get(ASKED, PLAIN)
    if name == PLAIN:
        return []
    if ASKED + ".options" not in ctx.meta:
        with extra("train"):
            kind = find_recipe(name)
        clash = next((field for field in kind.options_type.model_fields if field in taken), None)
        if clash:
            wanted = f"an option that {ctx.command_path} does not have"
            raise TrainingError(at(f"recipe {name}", "options", wanted, f"--{clash.replace('_', '-')}"))
        ctx.meta[ASKED + ".options"] = list(_made(kind.options_type))
    found: list[click.Option] = ctx.meta[ASKED + ".options"]
    return found


def _made(fields: Any) -> Iterator[click.Option]:
    """A click option for each field of a recipe's options; what it takes is checked by the fields themselves."""
    for name, field in fields.model_fields.items():
        flag, kind = f"--{name.replace('_', '-')}", _without_none(field.annotation)
        about: dict[str, Any] = {"help": field.description, "default": field.default, "show_default": True}
        if kind is bool:
            names = [f"{flag}/--no-{flag[2:]}"] if field.default else [flag]
            yield click.Option([*names, name], is_flag=True, **about)
        elif get_origin(kind) is Literal:
            yield click.Option([flag, name], type=click.Choice(get_args(kind)), **about)
        else:
            yield click.Option([flag, name], type=_Read(kind), **about)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [k for k in get_args(kind) if k is not type(None)]
        return kinds[0] if len(kinds) == 1 else kind
    return kind
