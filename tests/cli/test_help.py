"""Help texts: every command's whole first sentence at every width."""

from __future__ import annotations

import click
import pytest

from h2sim.arch import schema
from h2sim.cli import main
from h2sim.cli.run import MODES

WIDTHS = (60, 80, 100)


def commands(command: click.Command = main, path: tuple[str, ...] = ("h2sim",)):
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, (*path, name))


def help_of(path: tuple[str, ...], command: click.Command, width: int) -> str:
    context = click.Context(command, info_name=" ".join(path), terminal_width=width, max_content_width=width)
    return command.get_help(context)


def letters(text: str) -> str:
    """All of a text but where its lines break."""
    return "".join(text.split())


ALL = list(commands())
GROUPS = [(path, command) for path, command in ALL if isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_no_help_text_is_cut_at_any_width(path, command):
    whole = letters(help_of(path, command, 10_000))
    for width in WIDTHS:
        assert letters(help_of(path, command, width)) == whole, f"at {width} columns"


@pytest.mark.parametrize(("path", "command"), GROUPS, ids=[" ".join(path) for path, _ in GROUPS])
def test_a_group_says_the_first_sentence_of_each_command(path, command):
    shown = letters(help_of(path, command, 60))
    for name, each in command.commands.items():
        sentence = " ".join((each.help or "").split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
        assert letters(sentence) in shown, name


def test_clicks_own_listing_would_have_been_cut():
    plain = click.Group("plain", commands=main.commands)
    shown, whole = (letters(help_of(("plain",), plain, width)) for width in (60, 10_000))
    assert shown != whole


def test_the_modes_that_the_command_line_spells_out_are_the_schemas():
    assert MODES == schema.MODES
