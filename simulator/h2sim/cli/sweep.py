"""`h2sim sweep`: which machine would be better, and where it stops paying."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from h2sim.cli.names import NamesType
from h2sim.cli.outputs import check_name, check_outputs
from h2sim.cli.plots import plot_options
from h2sim.cli.support import Commands, emit, extra, say, show
from h2sim.errors import OutputError, at

if TYPE_CHECKING:
    from h2sim.document.pictures import Plots
    from h2sim.sweeps.coordinate import Watch
    from h2sim.sweeps.plan import Plan
    from h2sim.sweeps.store import Store

SPEC = NamesType("sweep")
RUN = "SPEC"  # the command behind `h2sim sweep SPEC`
folder_argument = click.argument("folder", metavar="DIR")


class Sweep(Commands):
    """A group of commands whose first word that is none of them is a spec."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return RUN, self.commands[RUN], args
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options may stand before the spec: `h2sim sweep -o DIR SPEC`."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, then specs: shipped ones and files."""
        found = [item for item in super().shell_complete(ctx, incomplete) if item.value != RUN]
        return [*found, *SPEC.shell_complete(ctx, click.Option(["--spec"]), incomplete)]


class _Spec(click.Argument):
    """The spec, which stands in the command's own place in its usage."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        return []


@click.group(cls=Sweep, subcommand_metavar="SPEC | COMMAND [ARGS]...")
def sweep() -> None:
    """Simulate every machine of a design space, exactly, and say which is best.

    SPEC is the name or file of a sweep: machine, traces, energy tables, parameters with their values, constraints and
    objectives (workloads/sweeps/README.md). Its points are kept in DIR; the same command goes on where it was ended.
    `h2sim sweep SPEC --help` lists its options.

    \b
    Examples:
      h2sim sweep figure-3.13-forward -o figure
      h2sim sweep space.yaml -o space engines.backward.rows=8,16 'tile=[8, 8],[4, 8]'
      h2sim sweep status space
      h2sim sweep table space --pareto --sort energy_j
      h2sim sweep show space 4f3a > better.yaml
      h2sim sweep plot space -o pictures --plot-format png,pdf
      h2sim sweep report space
      h2sim sweep export space -o points.parquet
    """


@sweep.command(RUN)
@click.argument("spec", cls=_Spec, type=SPEC, metavar="SPEC")
@click.argument("overrides", nargs=-1, metavar="[FIELD=VALUE,...]...")
@click.option("-o", "--output", metavar="DIR", required=True, help="The sweep's folder; a sweep in it goes on.")
@click.option(
    "--workers", type=click.IntRange(0, 1024), metavar="N", help="Processes [default: one per core]; 0: this one."
)
@click.option("--dask", metavar="ADDRESS", help="Run points on a cluster: tcp://HOST:PORT of its scheduler.")
@click.option("--retry-failed", is_flag=True, help="Run points again that failed or were killed.")
@click.option("--check", is_flag=True, help="Check the spec, say how many points it has, and run none.")
def run(
    spec: str,
    overrides: tuple[str, ...],
    output: str,
    workers: int | None,
    dask: str | None,
    retry_failed: bool,
    check: bool,
) -> None:
    """Run all points of SPEC that DIR does not hold yet, then say which machine is best.

    FIELD=VALUE,... puts other values in place of the spec's: of a parameter, or of budget, seed, method and the like.

    \b
    Examples:
      h2sim sweep space.yaml -o space
      h2sim sweep space.yaml -o space engines.backward.rows=8,16,32 budget=500
      h2sim sweep space.yaml -o space --dask tcp://node1:8786
    """
    from h2sim.io import library
    from h2sim.report.sweep import sweep_document
    from h2sim.sweeps.plan import make_plan
    from h2sim.sweeps.run import check_packages, employ, run_plan
    from h2sim.sweeps.spec import load_spec

    check_name(output)
    if dask and workers is not None:
        raise click.UsageError("--workers is for this machine; a cluster has its own")
    written = load_spec(library.find("sweep", spec), overrides)
    if check:
        with TemporaryDirectory() as aside:  # synthetic traces are drawn to be checked
            _say_size(make_plan(written, Path(aside)))
        return
    check_packages(written.spec)
    employed = employ(workers, dask)
    folder = _made(Path(output))
    plan = make_plan(written, folder)
    with _live(plan, folder) as watch, run_plan(plan, folder, employed, watch, retry=retry_failed) as store:
        show(sweep_document(plan, store))


@sweep.command()
@folder_argument
def status(folder: str) -> None:
    """Say how far a sweep is, from another terminal or after it ended.

    \b
    Example:
      h2sim sweep status space
    """
    from h2sim.report.sweep import status_document

    with _read(folder) as (plan, store):
        document = status_document(plan, store)
    show(document)


@sweep.command()
@folder_argument
@click.option("--pareto", is_flag=True, help="Only machines that no other beats in every objective.")
@click.option("--sort", metavar="COLUMN", help="Best first, by a result or a parameter.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only so many rows.")
@click.option("--column", "columns", metavar="COLUMN", multiple=True, help="Also this column; repeatable.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the rows ('-': stdout).")
def table(
    folder: str, pareto: bool, sort: str | None, top: int | None, columns: tuple[str, ...], csv_file: str | None
) -> None:
    """List machines: what they are, what they take, and how that compares with the machine of the spec.

    \b
    Examples:
      h2sim sweep table space --pareto --sort energy_j
      h2sim sweep table space --sort seconds --top 20 --column backward_utilization
    """
    from h2sim.document.sheet import to_csv
    from h2sim.report.sweep_table import table_document

    check_outputs(csv_file)
    with _read(folder) as (plan, store):
        document = table_document(plan, store, pareto=pareto, sort=sort, top=top, columns=columns)
    show(document, err=csv_file == "-")
    if csv_file:
        emit(csv_file, to_csv(document.tables[0]))


@sweep.command("show")
@folder_argument
@click.argument("point", metavar="ID")
@click.option("--table", "of_table", is_flag=True, help="The point's energy table, instead.")
def show_(folder: str, point: str, of_table: bool) -> None:
    """Print the arch file of a point, which `h2sim run` takes. ID: its id, or the beginning of it.

    \b
    Example:
      h2sim sweep show space 4f3a > better.yaml
    """
    from h2sim.report.sweep_point import point_table_yaml, point_yaml

    with _read(folder) as (plan, store):
        text = (point_table_yaml if of_table else point_yaml)(plan, store, point)
    click.echo(text, nl=False)


@sweep.command()
@folder_argument
@click.option("-o", "--output", metavar="FOLDER", help="Where to draw them [default: DIR/plots].")
@click.option("--slice", "slices", metavar="FIELD[,FIELD]", multiple=True, help="One or two axes to look along.")
@plot_options
def plot(folder: str, output: str | None, slices: tuple[str, ...], pictures: Plots) -> None:
    """Draw Pareto fronts, slices, parallel coordinates, and what each parameter matters.

    \b
    Examples:
      h2sim sweep plot space
      h2sim sweep plot space -o figures --plot-format pdf --slice tile,engines.backward.rows
    """
    from h2sim.io.names import in_terminal
    from h2sim.report.sweep_plots import draw_sweep

    place = Path(output or str(Path(folder) / "plots"))
    check_name(str(place))
    with _read(folder, "drawing") as (plan, store):
        _made(place)
        named = tuple(tuple(part.strip() for part in each.split(",")) for each in slices)
        for path in draw_sweep(plan, store, place, pictures, slices=named):
            click.echo(in_terminal(str(path)), err=True)


@sweep.command()
@folder_argument
@click.option(
    "-o", "--output", "--html", metavar="FILE", help="Where to write it ('-': stdout) [default: DIR/report.html]."
)
def report(folder: str, output: str | None) -> None:
    """Write one self-contained page: every machine to filter and choose from, and the front as arch files to run.

    \b
    Examples:
      h2sim sweep report space
      h2sim sweep report space -o page.html
    """
    from h2sim.document.shell import page_html
    from h2sim.io.names import in_terminal
    from h2sim.pages.sweep import sweep_page
    from h2sim.report.sweep import sweep_document

    target = output or str(Path(folder) / "report.html")
    check_outputs(output)
    with _read(folder, "drawing") as (plan, store):
        check_outputs(target)
        text = page_html(sweep_page(plan, store, sweep_document(plan, store)))
    emit(target, text)
    if target != "-":
        click.echo(in_terminal(target), err=True)


@sweep.command()
@folder_argument
@click.option("-o", "--output", metavar="FILE", required=True, help="A .parquet or .csv file ('-': CSV to stdout).")
def export(folder: str, output: str) -> None:
    """Write all points, a row per machine and energy table, columns named by the spec's dotted paths.

    \b
    Examples:
      h2sim sweep export space -o points.csv
      h2sim sweep export space -o points.parquet
    """
    from h2sim.document import frame_csv
    from h2sim.io.files import replacing
    from h2sim.sweeps.frame import frame_of

    kind = "csv" if output == "-" else Path(output).suffix.removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise OutputError(at(output, "name", "a file that ends in .csv or .parquet", repr(Path(output).name)))
    check_outputs(output)
    with _read(folder) as (plan, store):
        frame = frame_of(plan, store)
    if kind == "csv":
        emit(output, frame_csv(frame))
        return
    with extra("sweep"):
        import pyarrow  # noqa: F401
    with replacing(Path(output)) as aside:
        frame.to_parquet(aside, index=False)


@contextmanager
def _read(folder: str, doing: str = "reading points") -> Iterator[tuple[Plan, Store]]:
    """A sweep's plan and store, with a line that says what is being done where standard error is a terminal."""
    from rich.console import Console

    from h2sim.sweeps.run import load_sweep

    plan, store = load_sweep(Path(folder))
    with store, Console(stderr=True).status(doing) if sys.stderr.isatty() else nullcontext():
        yield plan, store


def _made(folder: Path) -> Path:
    """Makes a folder and its parents. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in the way" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise OutputError(f"{folder}: cannot be written: {reason}, expected a folder") from None
    return folder


def _say_size(plan: Plan) -> None:
    spec, size = plan.spec, plan.space.size
    each = len(plan.traces) * len(spec.energy_tables)
    of = f"{size:,} choices before constraints" if size is not None else "numbers of a range"
    if spec.method == "list":
        of = f"{len(spec.points)} points"
    most = f", up to {spec.budget:,} of them" if spec.budget else ""
    say(f"{plan.written.where}: ok: {of}{most}, method {spec.method}; {each} result{'s' * (each > 1)} a machine")


@contextmanager
def _live(plan: Plan, folder: Path) -> Iterator[Watch]:
    """A line on standard error that says how far the sweep is, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda tally, found: None
        return
    from rich.console import Console

    from h2sim.report.sweep_live import LiveLine

    with Console(stderr=True).status("sweeping") as line:
        live = LiveLine(plan, folder)

        def watch(tally: Any, found: Any) -> None:
            line.update(live.told(tally, found))

        yield watch
