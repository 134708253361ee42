"""Command lines and blocks of Python that people are shown: in the README, the site, the data's notes, and the help."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise

import click

from h2sim.cli import main
from tests.helpers.houses import ROOT

PAGES = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "workloads/**/*.md")
    for path in ROOT.glob(pattern)
)
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
INDENTED = re.compile(r"^    (h2sim .*(?:\n        .*)*)", re.M)
WRITTEN_AFTER = {
    "-o",
    "--output",
    "--json",
    "--csv",
    "--plots",
    "--timeline",
    "--trace",
    "--record",
    "--markdown",
    "--html",
    ">",
}


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page that are in a language, without their indent."""
    found = [block for block in BLOCK.finditer(text) if block["language"] == language]
    return [re.sub(rf"^{block['indent']}", "", block["text"], flags=re.M) for block in found]


def logical(text: str) -> list[str]:
    """Lines of a shell, each whole: what a backslash goes on with joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]


def is_ours(line: str) -> bool:
    """Whether a line calls h2sim."""
    return re.match(r"h2sim\s", line) is not None


def page_lines(text: str) -> list[str]:
    """The lines of a page that call h2sim, in blocks of sh and in indented ones."""
    whole = [*blocks(text, "sh"), *INDENTED.findall(text)]
    return [line for block in whole for line in logical(block) if is_ours(line)]


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, by the words that call them."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, (*path, name))


def help_lines(command: click.Command) -> list[str]:
    """The examples of a command's help."""
    return [line for line in logical(command.help or "") if is_ours(line)]


def all_lines() -> dict[str, str]:
    """Every line that people are shown, once, and the first place where it stands."""
    found: dict[str, str] = {}
    for path in PAGES:
        for line in page_lines(path.read_text(encoding="utf-8")):
            found.setdefault(line, path.relative_to(ROOT).as_posix())
    for words, command in commands(main):
        for line in help_lines(command):
            found.setdefault(line, " ".join(("h2sim", *words, "--help")))
    return found


def python_blocks() -> dict[str, list[str]]:
    """The blocks of Python of each page that has some; a tutorial's are code cells, which the site's build runs."""
    found = {path.relative_to(ROOT).as_posix(): blocks(path.read_text(encoding="utf-8"), "python") for path in PAGES}
    return {page: texts for page, texts in found.items() if texts}


def read_words(line: str) -> list[str]:
    """The words of a line that may name what it reads: all but what it writes. A run that is resumed is read."""
    words = shlex.split(line, comments=True)
    written = {b for a, b in pairwise(words) if a in WRITTEN_AFTER and "--resume" not in words}
    return [word for word in words if word not in written]


def parsed(line: str) -> click.Context:
    """The context of a line's command, its options and arguments read by click; nothing is run. Raises UsageError."""
    words = shlex.split(line.partition("|")[0])
    context = main.make_context("h2sim", words[1:])
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context
