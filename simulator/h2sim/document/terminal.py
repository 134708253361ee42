"""Documents as text for a terminal of some width, or at full width for a pipe. Nothing is ever cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from h2sim.document.layout import fit, wrap
from h2sim.document.values import Document, Figure, Line, Note, Part, Table
from h2sim.io.names import in_terminal

Bold = Callable[[str], str]


def to_text(document: Document, width: int | None = None, bold: Bold = str) -> str:
    """The whole document; `width` in columns, None for a pipe: full width, a line for each sentence and row.

    `bold` marks column names and titles, and is given one line at a time.
    """
    lines = wrap(in_terminal(document.verdict), width)
    if document.parts and isinstance(document.parts[0], Table):
        lines.append("")
    for part, following in pairwise((*document.parts, None)):
        lines += _part_lines(part, width, bold) if part else ()
        if following is not None and (isinstance(part, Table) or isinstance(following, Table)):
            lines.append("")
    return "\n".join(lines) + "\n"


def _part_lines(part: Part, width: int | None, bold: Bold) -> Iterator[str]:
    match part:
        case Table():
            yield from table_lines(part, width, bold)
        case Note():
            yield from _prose(f"{part.kind}: {part.text}", width)
        case Line():
            yield from _prose(part.text, width)
        case Figure():
            yield from _prose(f"figure: {part.path}: {part.alt}", width)


def _prose(text: str, width: int | None) -> Iterator[str]:
    yield from wrap(in_terminal(text), width, "  ")


def table_lines(table: Table, width: int | None = None, bold: Bold = str) -> Iterator[str]:
    """Title, column names, rows, which columns had no room, and the sentences below."""
    if table.title:
        yield from (bold(line) for line in _prose(table.title, width))
    fitted = fit(table, width)
    for number, line in enumerate(fitted.lines):
        yield bold(line) if number < fitted.n_head else line
    if fitted.dropped:
        yield from _prose(_left_out(fitted.dropped, width, table.elsewhere), width)
    for line in table.foot:
        yield from _prose(line, width)


def _left_out(dropped: tuple[str, ...], width: int | None, elsewhere: str) -> str:
    places = ["a wider terminal", "a pipe (| cat)", *([elsewhere] if elsewhere else [])]
    shown = f"{', '.join(places[:-1])} and {places[-1]} have them"
    return f"(left out at {width} columns: {', '.join(dropped)}; {shown})"
