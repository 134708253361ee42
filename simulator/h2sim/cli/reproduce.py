"""`h2sim reproduce`: the source's evaluation, regenerated."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2sim.cli.outputs import check_name
from h2sim.cli.plots import plot_options
from h2sim.cli.support import show
from h2sim.io.names import in_terminal
from h2sim.io.progress import Say

if TYPE_CHECKING:
    from h2sim.document.pictures import Plots
    from h2sim.reproduce.report import Reproduction


@click.command()
@click.argument("claims", nargs=-1, metavar="[CLAIM]...")
@click.option("-o", "--output", metavar="DIR", help="Write the report: README.md, index.html, CSV tables, figures.")
@click.option("--list", "list_", is_flag=True, help="List the claims and what they hang on; run nothing.")
@plot_options
def reproduce(claims: tuple[str, ...], output: str | None, list_: bool, pictures: Plots) -> None:
    """Regenerate the source's evaluation from simulation: ours, theirs, relative error, and what it hangs on.

    Without CLAIM all numbers of chapter 3; with names only those (no report is written). A claim that does not fit is
    swept over the assumptions marked [A] that it hangs on: 'explained by X between a and b', or 'not explained'.

    \b
    Examples:
      h2sim reproduce -o reports/h2learn
      h2sim reproduce area power
      h2sim reproduce --list
    """
    from h2sim.report.reproduce import claims_document, rows_document
    from h2sim.reproduce.claims import load_assumptions, load_claims
    from h2sim.reproduce.report import reproduce as regenerate
    from h2sim.reproduce.report import write

    if list_:
        assumptions = load_assumptions()
        show(claims_document(load_claims(assumptions), assumptions))
        return
    if claims and output:
        raise click.UsageError("-o writes the whole report; give no CLAIM with it")
    if output is not None:
        check_name(output)
        _make_folder(Path(output))
    with _steps() as say:
        found = regenerate(claims, say)
    show(rows_document(found.rows))
    if output:
        paths = write(found, Path(output), pictures)
        paths.append(_write_page(found, Path(output)))
        for path in paths:
            click.echo(in_terminal(str(path)), err=True)


def _write_page(found: Reproduction, folder: Path) -> Path:
    """index.html of the report, with its figures inside."""
    from h2sim.document.shell import page_html
    from h2sim.io.files import write_text
    from h2sim.pages.reproduce import reproduce_page
    from h2sim.reproduce.report import drawn

    target = folder / "index.html"
    write_text(target, page_html(reproduce_page(found, drawn(found))))
    return target


def _make_folder(folder: Path) -> None:
    """Makes the folder and its parents now, so that nothing runs for minutes and then cannot be written."""
    from h2sim.errors import OutputError
    from h2sim.report.folder import check_folder

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in the way" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise OutputError(f"{folder}: cannot be written: {reason}, expected a folder") from None
    check_folder(str(folder))


@contextmanager
def _steps() -> Iterator[Say]:
    """Names the step at hand on standard error, only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status("regenerating") as status:
        yield lambda what: status.update(f"regenerating {what}")
