"""What a command prints or a report holds, as values: writers turn them into text, CSV, Markdown and later HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A cell that people read as `text` and programs as `value`, for sorting and for CSV. None is 'not known'."""

    text: str
    value: float | int | None


@dataclass(frozen=True)
class Bar:
    """A cell drawn as parts laid end to end, where pictures can be; elsewhere it is its `text`.

    parts: (meaning, amount) each; whole: the amount that fills the cell; value: what the column is sorted by. label:
    stands beside the bar, where no other column says it.
    """

    text: str
    value: float | int | None
    parts: tuple[tuple[str, float], ...]
    whole: float
    label: str = ""


Cell = str | Number | Bar


@dataclass(frozen=True)
class Column:
    """One column of a table.

    right: numbers stand at the right. drop: where a terminal is too narrow, the column with the lowest number goes
    first; 0 stays always. prose: cells may wrap between words. alone: its name where no neighbour explains it (a
    folded table). key: what `h2sim explain` knows it by, if that is not its name.
    """

    name: str
    right: bool = False
    drop: int = 0
    prose: bool = False
    alone: str = ""
    key: str = ""

    @property
    def full_name(self) -> str:
        """The name that says it all, for a block of `name: value` pairs."""
        return self.alone or self.name


@dataclass(frozen=True)
class Table:
    """Rows of cells below named columns.

    foot: sentences that belong right below it. elsewhere: where all columns are found if the terminal is too narrow
    for them, such as '--csv FILE'. keys: what each row speaks of, where a page links it to other things that do.
    Raises ValueError if a row has another number of cells than there are columns, or if keys are not one a row.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[str, ...] = ()
    elsewhere: str = ""
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keys and len(self.keys) != len(self.rows):
            raise ValueError(f"{self.title}: expected a key for each of {len(self.rows)} rows; got {len(self.keys)}")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: expected {len(self.columns)} cells in a row; got {len(row)}: {row}")

    def texts(self) -> list[list[str]]:
        """All cells as people read them, row by row."""
        return [[text_of(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Line:
    """A sentence, or a few, that stand alone."""

    text: str


@dataclass(frozen=True)
class Note:
    """What to know of the numbers: printed as 'note: ...'; `kind` says what it is (note, warning)."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Figure:
    """A picture in a file, relative to the report; `alt` says in words what it shows."""

    path: str
    alt: str


Part = Table | Line | Note | Figure


@dataclass(frozen=True)
class Document:
    """One report: the verdict in a sentence, then what it rests on."""

    verdict: str
    parts: tuple[Part, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables, in order."""
        return tuple(part for part in self.parts if isinstance(part, Table))


def text_of(cell: Cell) -> str:
    """A cell as people read it."""
    return cell if isinstance(cell, str) else cell.text


def table(
    title: str,
    left: Sequence[str | Column],
    right: Sequence[str | Column],
    rows: Iterable[Sequence[Cell]],
    *,
    drop: Sequence[str] = (),
    foot: Sequence[str] = (),
    elsewhere: str = "",
) -> Table:
    """A table of named `left` columns (words), then `right` ones (numbers); `drop` names those that may go, in order.

    Raises ValueError if `drop` names no column, or if a row does not fit the columns.
    """
    columns = [_column(name, False, drop) for name in left] + [_column(name, True, drop) for name in right]
    unknown = set(drop) - {column.name for column in columns}
    if unknown:
        raise ValueError(f"{title}: expected droppable columns to exist; got {', '.join(sorted(unknown))}")
    return Table(title, tuple(columns), tuple(tuple(row) for row in rows), tuple(foot), elsewhere)


def _column(name: str | Column, right: bool, drop: Sequence[str]) -> Column:
    if isinstance(name, Column):
        return name
    return Column(name, right=right, drop=drop.index(name) + 1 if name in drop else 0)
