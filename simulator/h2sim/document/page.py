"""A page as values: a verdict, a few figures, and sections of tables, pictures and notes that speak of the same things.

What speaks of the same thing carries the same key (a layer's row, a machine of a sweep): choosing one marks all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from h2sim.document.markup import Markup
from h2sim.document.values import Bar, Document, Figure, Line, Note, Part, Table


@dataclass(frozen=True)
class Tile:
    """A figure to see first: its name, its value, and a few words on it."""

    name: str
    value: str
    words: str = ""


@dataclass(frozen=True)
class Picture:
    """An SVG, or any other markup of our own. `narrow`: the same for a narrow screen, if it needs another shape."""

    markup: Markup
    narrow: Markup | None = None


@dataclass(frozen=True)
class Legend:
    """What colours mean: (meaning, words) each."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Pairs:
    """Names and what they are; a value that is `code` is set in type of one width."""

    items: tuple[tuple[str, str], ...]
    code: bool = False


@dataclass(frozen=True)
class Listing:
    """Text to be copied, line by line as it is. `name`: the file that it would be."""

    text: str
    name: str = ""


@dataclass(frozen=True)
class Folded:
    """Parts behind a summary that opens them; `key`: what they are about."""

    summary: str
    parts: tuple[PagePart, ...]
    key: str = ""


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side, each group under its name; (key, name, pictures with captions)."""

    groups: tuple[tuple[str, str, tuple[tuple[Markup, str], ...]], ...]


@dataclass(frozen=True)
class Prose:
    """A paragraph in Markdown (emphasis, code, links, lists), of our own text."""

    text: str


PagePart = Table | Line | Note | Figure | Picture | Legend | Pairs | Listing | Folded | Gallery | Prose


@dataclass(frozen=True)
class Section:
    """Parts under a heading; `key` names it in addresses, `name` in the bar of sections."""

    key: str
    name: str
    title: str
    parts: tuple[PagePart, ...]


@dataclass(frozen=True)
class Page:
    """One self-contained page.

    title: of the window and the first heading; badge: a word of warning beside it. kind: of what it shows, which says
    which scripts it has. data: what the scripts read, plain data. aside: what the panel of the chosen thing says while
    none is chosen; a page without it has no panel. warnings: what a command that shows it also warns of.
    """

    title: str
    subtitle: str
    verdict: str
    sections: tuple[Section, ...]
    tiles: tuple[Tile, ...] = ()
    badge: str = ""
    scripts: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    aside: str = ""
    warnings: tuple[str, ...] = ()


def page_document(page: Page, keys: Collection[str]) -> Document:
    """What a terminal shows of a page: its tables and sentences in the sections of these keys."""
    parts: list[Part] = []
    for section in page.sections:
        if section.key in keys:
            shown = [part for part in section.parts if isinstance(part, Table | Line | Note)]
            parts += [_plain(part, section.title) if isinstance(part, Table) else part for part in shown]
    return Document(f"{page.title}: {page.verdict}", tuple(parts))


def _plain(table: Table, title: str) -> Table:
    """A table without the columns that are pictures."""
    kept = [i for i in range(len(table.columns)) if not any(isinstance(row[i], Bar) for row in table.rows)]
    columns = tuple(table.columns[i] for i in kept)
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return replace(table, title=table.title or title, columns=columns, rows=rows)
