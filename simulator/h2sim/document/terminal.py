"""Documents as text for a terminal of some width, or at full width for a pipe. Nothing is ever cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from h2sim.document.layout import fit, wrap
from h2sim.document.values import Document, Figure, Line, Note, Part, Table

CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)} | {9: " "}
Bold = Callable[[str], str]


def to_text(document: Document, width: int | None = None, bold: Bold = str) -> str:
    """The whole document; `width` in columns, None for a pipe: full width, a line for each sentence and row.

    `bold` marks column names and titles, and is given one line at a time.
    """
    lines = wrap(document.verdict.translate(CONTROL), width)
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
    for line in text.split("\n"):
        yield from wrap(line.translate(CONTROL), width, "  ")


def table_lines(table: Table, width: int | None = None, bold: Bold = str) -> Iterator[str]:
    """Title, column names, rows, which columns had no room, and the sentences below."""
    if table.title:
        yield from (bold(line) for line in _prose(table.title, width))
    fitted = fit(table, width)
    for number, line in enumerate(fitted.lines):
        text = line.translate(CONTROL)
        yield bold(text) if number < fitted.n_head else text
    if fitted.dropped:
        yield from _prose(_left_out(fitted.dropped, width, table.elsewhere), width)
    for line in table.foot:
        yield from _prose(line, width)


def _left_out(dropped: tuple[str, ...], width: int | None, elsewhere: str) -> str:
    places = ["a wider terminal", "a pipe (| cat)", *([elsewhere] if elsewhere else [])]
    shown = f"{', '.join(places[:-1])} and {places[-1]} have them"
    return f"(left out at {width} columns: {', '.join(dropped)}; {shown})"
