"""`h2sim report`: a stored result, shown again."""

from __future__ import annotations

from pathlib import Path

import click

from h2sim.cli.names import FILE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import emit, show, warn

SHOWN = ("bound", "layers", "energy", "area")
BESIDE = ""  # --html without a name


@click.command()
@click.argument("result", type=FILE, metavar="RESULT")
@click.option(
    "--html", "html_file", metavar="FILE", is_flag=False, flag_value=BESIDE,
    help="Write one self-contained page [without FILE: RESULT with the ending .html].",
)  # fmt: skip
def report(result: str, html_file: str | None) -> None:
    """Show a stored RESULT (of h2sim run --json) again, as a summary or as a page.

    A page of a stored result has all but what the file does not hold: the intervals of the timeline and the masks.

    \b
    Examples:
      h2sim run h2learn mnist-digits --json ours.json
      h2sim report ours.json
      h2sim report ours.json --html page.html
    """
    from h2sim.compare.stored import load_result
    from h2sim.document.page import page_document
    from h2sim.document.shell import page_html
    from h2sim.pages.result import result_page

    target = str(Path(result).with_suffix(".html")) if html_file == BESIDE else html_file
    check_outputs(target, reads=[result])
    page = result_page(load_result(result), where=result)
    show(page_document(page, SHOWN), err=target == "-")
    for warning in page.warnings:
        warn(warning)
    if target:
        emit(target, page_html(page))
