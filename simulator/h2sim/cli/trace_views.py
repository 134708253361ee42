"""`h2sim trace plot`, `diff` and `compare`: look at traces, and put them side by side."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2sim.cli.names import ARCH, TABLE, TRACE
from h2sim.cli.outputs import check_name, check_outputs
from h2sim.cli.plots import plot_options
from h2sim.cli.support import NO, emit, progress, show, warn, warn_of
from h2sim.errors import TraceError
from h2sim.io.names import in_shell
from h2sim.io.progress import Progress

if TYPE_CHECKING:
    from h2sim.arch import Arch
    from h2sim.document.pictures import Plots
    from h2sim.energy import EnergyTable
    from h2sim.report.trace_compare import Compared
    from h2sim.trace import Trace

TWINS = {"independent": ("independent",), "structured": ("structured",), "both": ("independent", "structured")}
ARGUMENTS = "h2sim.arguments"


@click.command()
@click.argument("trace", type=TRACE)
@click.option("-o", "--output", metavar="DIR", default="trace-plots", show_default=True, help="Folder of the pictures.")
@click.option("--layer", "layers", metavar="NAME", multiple=True, help="Also draw this layer's masks; repeatable.")
@click.option("--sample", type=click.IntRange(0), help="Of the layers' pictures [default: the mean].")
@click.option("--timestep", type=click.IntRange(0), help="Of the layers' pictures [default: all of them].")
@plot_options
def plot(
    trace: str, output: str, layers: tuple[str, ...], sample: int | None, timestep: int | None, pictures: Plots
) -> None:
    """Draw TRACE: rates (spike rate, sparsities per layer), timesteps, samples, a picture per --layer.

    A layer's picture shows where on its map the spikes, the window and the gradients are, and the spike rate by
    channel and timestep, so that dead channels stand out; in samples whole samples without gradient do.

    \b
    Examples:
      h2sim trace plot mnist-digits
      h2sim trace plot mnist-digits -o pictures --layer conv2 --layer fc1
      h2sim trace plot my.npz --layer conv1 --sample 0 --timestep 3
    """
    from h2sim.document import Document, Line, counted
    from h2sim.report.folder import check_folder
    from h2sim.report.trace_plots import draw_trace
    from h2sim.trace import load_trace

    check_name(output)
    check_folder(output)
    opened = load_trace(trace)
    with progress("drawing") as report:
        paths = draw_trace(
            opened, output, layers=layers, sample=sample, timestep=timestep, plots=pictures, progress=report
        )
    title = f"{counted(len(paths), 'picture')} of {opened.path.name} drawn:"
    show(Document(title, tuple(Line(str(path)) for path in paths)))


@click.command()
@click.argument("a", type=TRACE)
@click.argument("b", type=TRACE)
@click.option("--json", "json_file", metavar="FILE", help="Write what differs as JSON ('-': stdout).")
def diff(a: str, b: str, json_file: str | None) -> None:
    """Compare two traces: metadata field by field, masks bit by bit, values by their largest difference.

    Exit status 0: the same metadata, masks and values; 1: something differs; 2: one cannot be read. Where shapes
    differ, the rates of the layers that both have are compared.

    \b
    Examples:
      h2sim trace diff mnist-digits my.npz
      h2sim trace diff before.npz after.npz --json -
    """
    from h2sim.report.trace_diff import diff_traces
    from h2sim.report.trace_diff_tables import diff_document
    from h2sim.trace import load_trace

    check_outputs(json_file, reads=(a, b))
    left, right = load_trace(a), load_trace(b)
    with progress("comparing") as report:
        found = diff_traces(left, right, report)
    show(diff_document(found), err=json_file == "-")
    if json_file:
        emit(json_file, json.dumps(found.to_dict(), indent=1) + "\n")
    if not found.same:
        sys.exit(NO)


class _Verbatim(click.Command):
    """A command that remembers its arguments as they were typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=_Verbatim)
@click.argument("traces", type=TRACE, nargs=-1, required=True)
@click.option("--arch", type=ARCH, metavar="NAME|FILE", default="h2learn", show_default=True, help="The machine.")
@click.option(
    "--energy-table", type=TABLE, metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of events."
)
@click.option("--twins", type=click.Choice(list(TWINS)), help="Beside each trace, synthetic masks of the same means.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the twins.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write one line per number ('-': stdout).")
@click.option("--markdown", metavar="FILE", help="Write the tables for a report ('-': stdout).")
@click.pass_context
def compare(
    ctx: click.Context,
    traces: tuple[str, ...],
    arch: str,
    energy_table: str,
    twins: str | None,
    seed: int,
    csv_file: str | None,
    markdown: str | None,
) -> None:
    """Run traces on one machine and print them side by side; ratios are to the first. A folder: its traces' means.

    --twins adds to each trace synthetic masks with the mean of each of its masks: independent bits, or with the silent
    samples, dead channels and clusters measured in it. Their ratios say how far synthetic masks would have been off.

    \b
    Examples:
      h2sim trace compare mnist-digits --twins both
      h2sim trace compare epoch-1.npz epoch-4.npz --csv rows.csv
      h2sim trace compare ce/traces mse/traces
      h2sim trace compare mnist-digits my.npz --arch mine.yaml --markdown report.md
    """
    import h2sim
    from h2sim.cautions import machine_cautions, table_cautions
    from h2sim.report.trace_compare import compare_csv
    from h2sim.report.trace_compare_tables import compare_document, compare_markdown

    check_outputs(csv_file, markdown, reads=traces)
    machine, table = h2sim.load_arch(arch), h2sim.load_energy_table(energy_table)
    labels, groups = _labels(traces), [_opened(name) for name in traces]
    with progress("simulating") as report:
        rows = list(_rows(labels, groups, TWINS.get(twins or "", ()), seed, machine, table, report))
    show(compare_document(rows), err="-" in (csv_file, markdown))
    for caution in (*machine_cautions(machine), *table_cautions(table)):
        warn(caution)
    warn_of(_cautions(labels, groups, machine))
    if csv_file:
        emit(csv_file, compare_csv(rows))
    if markdown:
        emit(markdown, compare_markdown(rows, " ".join(["h2sim trace compare", *map(in_shell, ctx.meta[ARGUMENTS])])))


def _opened(name: str) -> list[Trace]:
    """A trace, or the traces in a folder."""
    from h2sim.trace import load_trace

    if not Path(name).is_dir():
        return [load_trace(name)]
    files = sorted(Path(name).glob("*.npz"))
    if not files:
        raise TraceError(f"{name}: expected a folder of traces (.npz); got none in it")
    return [load_trace(str(file)) for file in files]


def _cautions(labels: Sequence[str], groups: Sequence[list[Trace]], arch: Arch) -> dict[str, tuple[str, ...]]:
    """What to know of each trace, by its label; of those in a folder, by the folder's and the file's name."""
    from h2sim.cautions import trace_cautions

    mode = arch.engines.backward.mode
    return {
        label if len(group) == 1 else f"{label}/{trace.path.stem}": trace_cautions(trace, mode)
        for label, group in zip(labels, groups, strict=True)
        for trace in group
    }


def _rows(
    labels: Sequence[str], groups: Sequence[list[Trace]], twins: Sequence[str], seed: int,
    arch: Arch, table: EnergyTable, report: Progress,
) -> Iterator[Compared]:  # fmt: skip
    """Each trace (each folder's mean), and behind it its twins; one simulation at a time."""
    import h2sim
    from h2sim.report.trace_compare import compared

    def cost(label: str, trace: Trace, twin_of: int | None = None) -> Compared:
        return compared(label, trace, h2sim.simulate(arch, trace, table, progress=report), twin_of)

    n_rows = 0
    for label, group in zip(labels, groups, strict=True):
        yield _one(label, [cost(trace.path.stem, trace) for trace in group])
        for kind in twins:
            found = []
            for trace in group:
                with _twin(trace, kind, seed) as twin:
                    found.append(cost(trace.path.stem, twin, n_rows))
            yield _one(f"{label}, {kind} twin", found)
        n_rows += 1 + len(twins)


def _one(label: str, rows: list[Compared]) -> Compared:
    """The only row under its label, its integers as they are; or the mean of several."""
    from h2sim.report.trace_compare import mean_of

    return replace(rows[0], label=label) if len(rows) == 1 else mean_of(f"{label}, mean of {len(rows)}", rows)


@contextmanager
def _twin(trace: Trace, kind: str, seed: int) -> Iterator[Trace]:
    """A synthetic trace with the means of a trace's masks; its file is gone behind the block."""
    from h2sim.trace import like, load_trace, write_trace

    with tempfile.TemporaryDirectory(prefix="h2sim-twin-") as folder:
        path = Path(folder) / f"{kind}.npz"
        write_trace(path, *like(trace, seed, "measured" if kind == "structured" else None), compress=False)
        yield load_trace(str(path))


def _labels(names: Sequence[str]) -> list[str]:
    """File names without their ending; what was typed where another file has the same name, and for folders."""
    stems = {name: name.rstrip("/") if Path(name).is_dir() else Path(name).stem for name in names}
    return [name if list(stems.values()).count(stems[name]) > 1 else stems[name] for name in names]
