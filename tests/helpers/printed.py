"""What the tests of printing share: the documents that a command prints, and what a narrow terminal did wrong."""

from __future__ import annotations

import pkgutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

import h2sim.cli
from h2sim.cli import main, support
from h2sim.document import Document, Line, Table, table_lines, to_text
from h2sim.document.layout import fit

WIDTHS = (60, 80, 100, 200)


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names of all commands that are no groups."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name, each in command.commands.items():
        yield from commands(each, (*path, name))


def printed(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Result, list[Document]]:
    """Runs a command as in a pipe; its result, and the documents that it showed on standard output."""
    documents: list[Document] = []
    shown = support.show

    def noting(document: Document, *, err: bool = False) -> None:
        if not err:
            documents.append(document)
        shown(document, err=err)

    for module in (module for module in _cli_modules() if getattr(module, "show", None) is shown):
        monkeypatch.setattr(module, "show", noting)
    for module in (module for module in _cli_modules() if getattr(module, "show_document", None) is shown):
        monkeypatch.setattr(module, "show_document", noting)
    return CliRunner().invoke(main, [str(argument) for argument in arguments]), documents


def _cli_modules() -> list[ModuleType]:
    """All modules of the commands, also those that no command has asked for yet."""
    return [import_module(f"h2sim.cli.{found.name}") for found in pkgutil.walk_packages(h2sim.cli.__path__)]


def faults(document: Document, width: int, text: str | None = None) -> list[str]:
    """What is wrong with a document printed at a width (as `text`, or by the writer): cut, lost or too wide."""
    text = to_text(document, width) if text is None else text
    found = [f"an ellipsis: {line}" for line in text.splitlines() if "\u2026" in line]
    found += [f"{len(line)} wide: {line}" for line in text.splitlines() if _too_wide(line, width)]
    got, wanted = Counter(text.split()), _wanted(document, width)
    found += [f"{n} times {word!r}, expected {wanted[word]}" for word, n in got.items() if n > wanted[word]]
    found += [f"{got[word]} times {word!r}, expected {n}" for word, n in wanted.items() if got[word] < n]
    return found


def _too_wide(line: str, width: int) -> bool:
    """A single word may be longer than the line, for it is never cut."""
    return len(line) > width and len(line.split()) > 1


def _wanted(document: Document, width: int) -> Counter[str]:
    """The words of the document at full width, without those of the columns that are said to be left out."""
    wanted: Counter[str] = Counter(to_text(Document(document.verdict)).split())
    for part in document.parts:
        if not isinstance(part, Table):
            wanted += Counter(to_text(Document("", (part,))).split())
            continue
        fitted = fit(part, width)
        kept = [i for i, column in enumerate(part.columns) if column.full_name not in fitted.dropped]
        assert len(kept) == len(part.columns) - len(fitted.dropped)
        assert all(part.columns[i].drop for i in range(len(part.columns)) if i not in kept)
        wanted += _whole(part, kept) if fitted.n_head else _folded(part)
        if fitted.dropped:
            wanted += Counter(_note(part, width, fitted.dropped).split())
    return wanted


def _note(part: Table, width: int, dropped: Sequence[str]) -> str:
    """The one sentence that names all columns that had no room."""
    words = " ".join(" ".join(table_lines(part, width)).split())
    start, end = "(left out at", "have them)"
    assert words.count(start) == 1
    note = words[words.index(start) : words.index(end) + len(end)]
    assert all(" ".join(name.split()) in note for name in dropped)
    return note


def _whole(part: Table, kept: Sequence[int]) -> Counter[str]:
    columns = tuple(part.columns[i] for i in kept)
    rows = tuple(tuple(row[i] for i in kept) for row in part.rows)
    return Counter(" ".join(table_lines(replace(part, columns=columns, rows=rows))).split())


def _folded(part: Table) -> Counter[str]:
    """Title, foot, and a `name: value` of each cell."""
    words = [part.title, *part.foot]
    words += [f"{c.full_name}: {text}" for row in part.texts() for c, text in zip(part.columns, row, strict=True)]
    return Counter(" ".join(words).split())


def names_of(documents: Sequence[Document]) -> set[str]:
    """What a reader may ask for: the column names, and the first cells of tables of what and value."""
    found = set()
    for part in (part for document in documents for part in document.parts if isinstance(part, Table)):
        found |= {column.key or column.name for column in part.columns}
        if part.columns[0].name == "what":
            found |= {row[0] for row in part.texts()}
    return found


def line_document(text: str) -> Document:
    """One line as a document, for controls."""
    return Document("A verdict.", (Line(text),))
