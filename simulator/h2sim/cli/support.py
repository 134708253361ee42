"""What all commands share: errors as one line and exit status 2, output targets, progress, tables."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

from h2sim.cli.ending import ending_on_signals
from h2sim.cli.types import ParamType, is_count
from h2sim.errors import H2SimError, NetworkError, at

if TYPE_CHECKING:
    from h2sim.document import Document
    from h2sim.io.progress import Progress
    from h2sim.trace import Network

Decorated = TypeVar("Decorated", bound=Callable[..., Any])  # a command that options are added to

WRONG_USE, NO = 2, 1
MOST_NAMED = 6  # of what one warning is about
UNCUT = 10_000  # characters, more than any sentence has
DEFAULT_COLUMNS = 80  # of a terminal that does not say


class Modules(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is asked for: from the module of that name in a package."""

    def __init__(self, package: str, names: Iterable[str]) -> None:
        self._package = package
        self._found: dict[str, click.Command | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> click.Command:
        command = self._found[name]
        if command is None:
            command = getattr(import_module(f"{self._package}.{name}"), name)
            self._found[name] = command
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Commands(click.Group):
    """A group whose commands never end in a traceback, and whose help says each command's whole first sentence."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's; but a name that standard output's encoding does not have is printed with escapes in it, and what
        goes to a stream that is closed goes nowhere."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        with ending_on_signals():
            return super().main(*args, **kwargs)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Click's own cuts a sentence at the width of the terminal; this one goes on in the next line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(UNCUT)) for name, command in commands if command]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _check_environment()
            return super().invoke(ctx)
        except H2SimError as error:
            fail(*error.lines)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(WRONG_USE)
        except OSError as error:
            fail(f"{error.filename or 'system'}: {error.strerror or error}")
        except MemoryError:
            fail("out of memory: expected the largest layer to fit; got less memory than it needs")


def _check_environment() -> None:
    """Ends the command where a variable is set that a package behind it could not be imported with."""
    for name, least in (("NUMBA_NUM_THREADS", 1), ("SOURCE_DATE_EPOCH", 0)):
        value = os.environ.get(name)
        if value is not None and not (value.isascii() and value.isdecimal() and least <= int(value[:20])):
            fail(at("environment", name, f"a whole number of at least {least}", repr(value[:60])))
    if "MPLBACKEND" in os.environ:
        os.environ["MPLBACKEND"] = "agg"  # pictures go to files


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports that an extra of the package brings: a missing one is one line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).split(".")[0]
        if missing == "h2sim":
            raise
        fail(f"{missing}: expected the package, it comes with h2sim[{name}] (pip install 'h2sim[{name}]'); got none")


def find_network(name: str, input_shape: tuple[int, int, int] | None = None, classes: int | None = None) -> Network:
    """A network by name, file (.yaml, or a NIR graph in .nir) or notation, for another input or other classes."""
    from h2sim.trace import load_network

    if name.endswith(".nir"):
        from h2sim.export import load_nir

        if input_shape or classes:
            raise NetworkError(f"{name}: expected no other input shape or classes than the graph's own")
        return load_nir(name)
    return load_network(name, input_shape, classes)


class IntsType(ParamType[tuple[int, ...]]):
    """Positive integers, one per name: IntsType("C,H,W") reads 3,32,32."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if len(parts) != len(self.name.split(",")) or not all(is_count(p) and int(p) > 0 for p in parts):
            self.fail(f"expected positive integers {self.name}; got {value[:40]!r}", param, ctx)
        return tuple(int(p) for p in parts)


def fail(*lines: str) -> NoReturn:
    """Every line on standard error, exit status 2."""
    for line in lines:
        complain(line)
    sys.exit(WRONG_USE)


def warn(message: str) -> None:
    """A line on standard error: the answer stands, but it would mislead whoever does not know this."""
    complain(f"warning: {message}")


def warn_of(cautions: Mapping[str, Iterable[str]]) -> None:
    """Warns with each sentence once. cautions: sentences by what they are about, such as a trace's name.

    A sentence that is not about all of them is preceded by the names of those that it is about.
    """
    about: dict[str, list[str]] = {}
    for name, sentences in cautions.items():
        for sentence in dict.fromkeys(sentences):
            about.setdefault(sentence, []).append(name)
    for sentence, names in about.items():
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        warn(sentence if len(names) == len(cautions) else f"{', '.join(names[:MOST_NAMED])}{more}: {sentence}")


def complain(message: str) -> None:
    """One line on standard error, whatever names are in it."""
    from h2sim.io.names import in_terminal

    click.echo(f"h2sim: {in_terminal(message)}", err=True)


def check_target(target: str | None) -> None:
    """Raises OutputError now if a file could not be written later; '-' is standard output."""
    if target and target != "-":
        from h2sim.io.files import check_writable

        check_writable(Path(target))


def emit(target: str, content: str | bytes) -> None:
    """Writes to a file (aside, then renamed) or to standard output ('-'); text is UTF-8 in any locale."""
    written = content.encode("utf-8") if isinstance(content, str) else content
    if target == "-":
        click.echo(written, nl=False)
    else:
        from h2sim.io.files import replacing

        with replacing(Path(target)) as aside:
            aside.write_bytes(written)


def show(document: Document, *, err: bool = False) -> None:
    """Prints a document: fitted to the terminal that reads it, at full width and without styles in a pipe."""
    from h2sim.document import to_text

    stream = sys.stderr if err else sys.stdout
    width = terminal_width(stream)
    styled = to_text(document, width, lambda text: click.style(text, bold=True) if width else text)
    click.echo(styled, nl=False, err=err)


def say(*lines: str, err: bool = False) -> None:
    """Prints a line, or a few, wrapped between words where a terminal reads it."""
    from h2sim.document import Document

    for line in lines:
        show(Document(line), err=err)


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal behind a stream, or what COLUMNS says it has; None where it is no terminal."""
    if not stream.isatty():
        return None
    asked = os.environ.get("COLUMNS", "")
    if is_count(asked) and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    except (OSError, ValueError):
        return DEFAULT_COLUMNS


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A progress bar over layers on standard error, only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda layer, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from h2sim.io.names import in_terminal

    named = TextColumn("{task.description}", style="progress.description", markup=False)
    columns = (named, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def report(layer: str, done: int, total: int) -> None:
            bar.update(task, description=f"{what} {in_terminal(layer)}", completed=done, total=total)

        yield report
