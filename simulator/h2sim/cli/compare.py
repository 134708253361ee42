"""`h2sim compare`: results beside GPU traces and rival machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.names import ARCH, BASELINE, FILE, GPU_TRACE, TABLE, TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.plots import plot_options
from h2sim.cli.support import emit, show, warn_of
from h2sim.errors import ComparisonError, at
from h2sim.io import library

if TYPE_CHECKING:
    from h2sim.arch import Arch
    from h2sim.compare.measurement import Measurement
    from h2sim.compare.ratios import Comparison
    from h2sim.compare.stored import StoredResult
    from h2sim.document import Part
    from h2sim.document.pictures import Plots
    from h2sim.rivals.machine import RivalMachine
    from h2sim.trace import Trace


@click.command()
@click.argument("results", type=FILE, nargs=-1, required=True, metavar="RESULT...")
@click.option(
    "--gpu", "gpus", type=GPU_TRACE, metavar="TRACE", multiple=True, help="A GPU trace, by name or file; repeatable."
)
@click.option(
    "--machine",
    "machines",
    type=ARCH,
    metavar="NAME|FILE",
    multiple=True,
    help="A rival's arch file, run on the trace.",
)
@click.option(
    "--same-memory", is_flag=True, help="Rivals have a memory of the first RESULT's bandwidth, not their own."
)
@click.option("--spinalflow", is_flag=True, help="The same as --machine spinalflow.")
@click.option("--loihi", is_flag=True, help="The same as --machine loihi.")
@click.option(
    "--baseline", "names", type=BASELINE, metavar="NAME", multiple=True, help="Any of h2sim baseline list; repeatable."
)
@click.option(
    "--workload", type=TRACE, metavar="TRACE", help="The trace of the first result; found if it is a shipped one."
)
@click.option(
    "--energy-table", type=TABLE, metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of SpinalFlow."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the comparison ('-': stdout).")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the table of ratios ('-': stdout).")
@click.option("--html", "html_file", metavar="FILE", help="Write one self-contained page to look at ('-': stdout).")
@click.option("--plots", metavar="DIR", help="Draw the steps and the layers into a folder.")
@plot_options
def compare(
    results: tuple[str, ...],
    gpus: tuple[str, ...],
    machines: tuple[str, ...],
    same_memory: bool,
    spinalflow: bool,
    loihi: bool,
    names: tuple[str, ...],
    workload: str | None,
    energy_table: str,
    json_file: str | None,
    csv_file: str | None,
    html_file: str | None,
    plots: str | None,
    pictures: Plots,
) -> None:
    """Compare the first RESULT (of h2sim run --json) with other results, GPU traces and rival machines.

    Speedup, energy saving and area saving per sample: the whole step where both cover the same phases, and every phase
    and layer that both have; rows that one of them has not are named. Clock, lanes, weight bits and bandwidth stand
    beside each machine. Above 1 is in favour of the first RESULT. Of two results of one machine's name, the
    parameters in which they differ are listed. Of several GPU traces of one device the verdict takes the fastest whose
    loss and gradients are checked and equal; why the others are passed over is said.

    \b
    Examples:
      h2sim run h2learn mnist-digits --json ours.json
      h2sim compare ours.json --machine spinalflow --machine loihi
      h2sim compare ours.json --machine sata --machine dense-array --same-memory
      h2sim compare cifar10.json --gpu v100-cifar10 --plots plots
      h2sim compare cifar10.json --gpu mine-vanilla.json --gpu mine-chapter4.json
      h2sim compare dual.json dense.json --csv ratios.csv
      h2sim compare ours.json --machine spinalflow --html page.html
      h2sim compare ours.json --loihi --workload my.npz --json -
    """
    from h2sim.compare.ratios import compare as ratios
    from h2sim.compare.ratios import measurement_of
    from h2sim.compare.stored import load_result, stored
    from h2sim.document import frame_csv
    from h2sim.io.names import distinct_ends
    from h2sim.report.compare import bound_lines, comparison_document, ratio_table, to_document

    read = (*results, *gpus, energy_table, *([workload] if workload else []))
    check_outputs(json_file, csv_file, html_file, folder=plots, reads=read)
    machines += tuple(name for name, asked in (("spinalflow", spinalflow), ("loihi", loihi)) if asked)
    if not (gpus or machines or names or len(results) > 1):
        raise click.UsageError("expected another RESULT, --gpu, --machine or --baseline to compare with")
    plain = [load_result(path) for path in results]
    documents = [stored(document, path) for document, path in zip(plain, results, strict=True)]
    ours, *others = [measurement_of(found, path) for found, path in zip(documents, results, strict=True)]
    others += _gpus(gpus)
    bandwidth = _bandwidth(ours, results[0]) if same_memory else None
    others += _rivals(documents[0], results[0], workload, energy_table, machines, names, bandwidth)
    found = [ratios(ours, other) for other in others]
    alike = _alike(results, documents)
    held = bound_lines(list(zip(results, documents, strict=True)))
    show(comparison_document(found, (*held, *alike)), err="-" in (json_file, csv_file, html_file))
    warn_of({path: document.warnings for path, document in zip(results, documents, strict=True)})
    if json_file:
        emit(json_file, json.dumps(to_document(found), indent=1) + "\n")
    if csv_file:
        emit(csv_file, frame_csv(ratio_table(found)))
    if html_file:
        ends = distinct_ends(results)
        short = [ends[path] for path in results]
        emit(html_file, _html(found, dict(zip(short, plain, strict=True)), _alike(short, documents)))
    if plots:
        from h2sim.report.compare_plots import draw

        draw(found, plots, pictures)


def _alike(names: Sequence[str], documents: Sequence[StoredResult]) -> list[Part]:
    """The parameters in which results of one machine's name differ from the first."""
    from h2sim.report.compare import differences

    first = documents[0]
    return [
        part
        for name, theirs in zip(names[1:], documents[1:], strict=True)
        if theirs.arch.name == first.arch.name
        for part in differences(names[0], first.arch, name, theirs.arch)
    ]


def _html(found: Sequence[Comparison], documents: Mapping[str, dict[str, Any]], differences: Sequence[Part]) -> str:
    from h2sim.document.shell import page_html
    from h2sim.pages.compare import compare_page
    from h2sim.pages.view import ResultView

    named = [(name, ResultView.of(document, name)) for name, document in documents.items()]
    return page_html(compare_page(found, named, differences))


def _gpus(names: Sequence[str]) -> list[Measurement]:
    """GPU traces; of several of one device the verdict takes the strongest."""
    from h2sim.gpu.files import load_gpu_trace
    from h2sim.gpu.strongest import measurements

    return measurements([(name, load_gpu_trace(name)) for name in names])


def _bandwidth(ours: Measurement, where: str) -> int:
    if ours.bandwidth_bytes_per_s is None:
        raise ComparisonError(at(where, "--same-memory", "a result of a machine with external memory", ours.system))
    return ours.bandwidth_bytes_per_s


def _workload(document: StoredResult, where: str, given: str | None) -> Trace:
    """The trace that the result was made of: the given one, or the shipped one with its hash."""
    from h2sim.trace import load_trace

    wanted = document.workload.sha256
    for name in [given] if given else library.names("trace"):
        trace = load_trace(name)
        if trace.sha256 == wanted:
            return trace
    field, expected = ("--workload", f"the trace of {where}, sha256 {wanted[:12]}...")
    got = "another trace" if given else "none; it is not a shipped trace, name it by --workload"
    raise ComparisonError(at(given or where, field, expected, got))


def _rivals(
    document: StoredResult,
    where: str,
    workload: str | None,
    energy_table: str,
    machines: tuple[str, ...],
    names: tuple[str, ...],
    bandwidth: int | None,
) -> list[Measurement]:
    """Machines run on the result's own trace; published rows are taken as they stand.

    bandwidth: of their memory, bytes per second; None: their own.
    """
    from h2sim.cli.machines import find_machine
    from h2sim.compare.measurement import Measurement
    from h2sim.compare.published import published_row, published_rows
    from h2sim.energy import load_energy_table
    from h2sim.rivals.machine import RivalMachine, with_bandwidth
    from h2sim.rivals.registry import load_baseline, run_rival

    published = {row.name for row in published_rows()}
    chosen: list[Measurement | Arch | RivalMachine] = [find_machine(name) for name in machines]
    chosen += [published_row(name).measurement() if name in published else load_baseline(name) for name in names]
    found: list[Measurement] = []
    for system in chosen:
        if isinstance(system, Measurement):
            found.append(system)
        elif isinstance(system, RivalMachine):
            trace = _workload(document, where, workload)
            if bandwidth is not None:
                system = with_bandwidth(system, bandwidth)
            found.append(run_rival(system, trace, load_energy_table(energy_table)).measurement())
        else:
            wanted = "a rival's arch file (of an H2Learn, name a result)"
            raise ComparisonError(at(system.name, "--machine", wanted, system.machine))
    return found
