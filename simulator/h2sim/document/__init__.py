"""Reports as values and one writer for each medium: text for terminals and pipes, CSV, Markdown.

    document = Document(
        "conv1 takes most of the step: 13,200 of 38,016 cycles.",
        (table("Layers", ["layer"], ["cycles", "fill"], [("conv1", "13,200", "32")], drop=["fill"]),),
    )
    print(to_text(document, width=80), end="")

A command builds a Document and gives it to `cli.support.show`, which knows whether a terminal reads it.
"""

from h2sim.document.markdown import table_markdown, to_markdown
from h2sim.document.numbers import amount, counted, percent, significant, size, times
from h2sim.document.sheet import frame_csv, to_csv
from h2sim.document.terminal import table_lines, to_text
from h2sim.document.values import Cell, Column, Document, Figure, Line, Note, Number, Part, Table, table

__all__ = [
    "Cell",
    "Column",
    "Document",
    "Figure",
    "Line",
    "Note",
    "Number",
    "Part",
    "Table",
    "amount",
    "counted",
    "frame_csv",
    "percent",
    "significant",
    "size",
    "table",
    "table_lines",
    "table_markdown",
    "times",
    "to_csv",
    "to_markdown",
    "to_text",
]
