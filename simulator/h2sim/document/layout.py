"""How a table is fitted into a width: wrap names and prose, drop named columns, then fold each row into a block."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h2sim.document.values import Column, Table
from h2sim.io.names import in_terminal

GAP = "  "
LEAST_PROSE = 20  # columns of prose narrower than this are harder to read than a block


@dataclass(frozen=True)
class Fitted:
    """A table's lines: the first `n_head` are column names; `dropped` names the columns that had no room."""

    lines: tuple[str, ...]
    n_head: int
    dropped: tuple[str, ...]


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Lines of at most `width` broken between words; a longer word stands whole. None: one line."""
    if width is None or len(text) <= width:
        return [text]
    return textwrap.wrap(
        text, max(width, len(indent) + 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def fit(table: Table, width: int | None) -> Fitted:
    """The table in at most `width` columns (None: as wide as it is), with no word or number cut."""
    rows = [[in_terminal(text) for text in row] for row in table.texts()]
    kept = list(range(len(table.columns)))
    dropped: list[str] = []
    while True:
        widths = _widths([table.columns[i] for i in kept], [[row[i] for i in kept] for row in rows], width)
        if widths is not None:
            columns = [table.columns[i] for i in kept]
            head, body = _grid(columns, [[row[i] for i in kept] for row in rows], widths)
            return Fitted(tuple(head + body), len(head), tuple(dropped))
        droppable = [i for i in kept if table.columns[i].drop]
        if not droppable:
            break
        gone = min(droppable, key=lambda i: table.columns[i].drop)
        kept.remove(gone)
        dropped.append(table.columns[gone].full_name)
    return Fitted(tuple(_blocks(table.columns, rows, width or 0)), 0, ())


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """Width of each column so that all fit: as they are, with wrapped names, with wrapped prose; None if none does."""
    cells = [max((len(row[i]) for row in rows), default=0) for i in range(len(columns))]
    whole = [max(n, len(column.name)) for n, column in zip(cells, columns, strict=True)]
    room = None if width is None else width - len(GAP) * (len(columns) - 1)
    if room is None or sum(whole) <= room:
        return whole
    narrow = [max(n, _longest_word(column.name)) for n, column in zip(cells, columns, strict=True)]
    if sum(narrow) <= room:
        return narrow
    return _with_prose(columns, rows, narrow, room)


def _with_prose(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], narrow: list[int], room: int
) -> list[int] | None:
    """Gives what the other columns leave to the columns of prose, by their need; None if that is too little."""
    prose = [i for i, column in enumerate(columns) if column.prose]
    left = room - sum(n for i, n in enumerate(narrow) if i not in prose)
    if not prose:
        return None
    widths, share = list(narrow), left // len(prose)
    for rank, i in enumerate(sorted(prose, key=lambda i: narrow[i])):
        share = left // (len(prose) - rank)
        words = max(_longest_word(text) for text in (columns[i].name, *(row[i] for row in rows)))
        if share < max(words, min(LEAST_PROSE, narrow[i])):
            return None
        widths[i] = min(narrow[i], share)
        left -= widths[i]
    return widths


def _longest_word(text: str) -> int:
    return max((len(word) for word in text.split()), default=0)


def _grid(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int]
) -> tuple[list[str], list[str]]:
    """Lines of names, and lines of rows; a wrapped cell takes several lines."""
    head = list(_line(columns, [wrap(c.name, w) for c, w in zip(columns, widths, strict=True)], widths, bottom=True))
    body = [
        line
        for row in rows
        for line in _line(columns, [wrap(text, w) for text, w in zip(row, widths, strict=True)], widths)
    ]
    return head, body


def _line(
    columns: Sequence[Column], cells: Sequence[list[str]], widths: Sequence[int], *, bottom: bool = False
) -> Iterator[str]:
    """The lines of one row: cells of several lines start at the top, or end at the bottom."""
    height = max((len(cell) for cell in cells), default=0)
    padded = [[""] * (height - len(c)) + c if bottom else c + [""] * (height - len(c)) for c in cells]
    for number in range(height):
        texts = [
            cell[number].rjust(w) if column.right else cell[number].ljust(w)
            for column, cell, w in zip(columns, padded, widths, strict=True)
        ]
        yield GAP.join(texts).rstrip()


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """A block of `name: value` pairs for each row; what goes on in a further line is indented."""
    for row in rows:
        line = ""
        for column, text in zip(columns, row, strict=True):
            pair = f"{column.full_name}: {text}" if column.full_name else text
            joined = f"{line}{GAP}{pair}" if line.strip() else f"{line}{pair}"
            if len(joined) <= width or not line.strip():
                line = joined
            else:
                yield from wrap(line, width, "    ")
                line = f"  {pair}"
        yield from wrap(line, width, "    ")
