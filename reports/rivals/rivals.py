"""H2Learn beside every rival on the shipped traces: writes rivals.md, rivals.html and rivals.csv here.

    python reports/rivals/rivals.py

A minute. The numbers of the twins are those of twins.json, which `python -m tests.rivals.twins` makes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from page import CSV_COLUMNS, csv_rows, page_of
from runs import Study, study

from h2sim.document import Document, Line
from h2sim.document.markdown import to_markdown
from h2sim.document.page import page_document
from h2sim.document.shell import page_html
from h2sim.io.files import replacing

HERE = Path(__file__).parent
HEAD = """# H2Learn and its rivals

Made by `python reports/rivals/rivals.py`; the same with pictures is [rivals.html](rivals.html), every step is a row of
[rivals.csv](rivals.csv). Times and energies are of a sample, energies without off-chip memory; above 1x is in favour
of h2learn.

"""


def files(found: Study) -> dict[str, str]:
    """The report's files by name."""
    page = page_of(found)
    told = [f"{HEAD}{page.verdict}\n"]
    for section in page.sections:
        line, *parts = page_document(page, [section.key]).parts or [None]
        if isinstance(line, Line):
            told.append(f"## {section.title}\n\n{to_markdown(Document(line.text, tuple(parts)), '###')}")
    rows = pd.DataFrame(csv_rows(found), columns=CSV_COLUMNS)
    return {
        "rivals.md": "\n".join(told),
        "rivals.html": page_html(page),
        "rivals.csv": rows.to_csv(index=False, lineterminator="\n"),
    }


def main() -> None:
    """Runs every machine and writes the files."""
    for name, text in files(study(lambda said: print(said, file=sys.stderr))).items():
        with replacing(HERE / name) as aside:
            aside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
