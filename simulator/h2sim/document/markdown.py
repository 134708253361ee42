"""Documents as GitHub Markdown."""

from __future__ import annotations

from urllib.parse import quote

from h2sim.document.values import Document, Figure, Line, Note, Part, Table
from h2sim.io.names import in_markdown


def to_markdown(document: Document, heading: str = "##") -> str:
    """The verdict, then every part, a blank line between; tables get a heading of their title."""
    return "\n".join([f"{in_markdown(document.verdict)}\n", *(_part(part, heading) for part in document.parts)])


def _part(part: Part, heading: str) -> str:
    match part:
        case Table():
            return table_markdown(part, heading)
        case Note():
            return f"{part.kind.capitalize()}: {in_markdown(part.text)}\n"
        case Figure():
            return f"![{in_markdown(part.alt)}]({quote(part.path)})\n"
        case Line():
            return f"{in_markdown(part.text)}\n"


def table_markdown(table: Table, heading: str = "##") -> str:
    """One table: heading, names, alignment, rows, and the sentences below it. No title, no heading."""
    names = [column.name for column in table.columns]
    rules = ["---:" if column.right else "---" for column in table.columns]
    body = [names, rules, *([in_markdown(cell) for cell in row] for row in table.texts())]
    title = [f"{heading} {table.title}", ""] if table.title else []
    foot = [text for line in table.foot for text in ("", line)]
    return "\n".join([*title, *(f"| {' | '.join(line)} |" for line in body), *foot]) + "\n"
