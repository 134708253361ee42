"""`h2sim run`: one training or inference step of a trace on a machine, H2Learn or a rival."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.machines import find_changed, find_machine, setting_option
from h2sim.cli.names import ARCH, TABLE, TRACE
from h2sim.cli.outputs import check_outputs, command_line
from h2sim.cli.plots import plot_options
from h2sim.cli.several import refuse, run_several
from h2sim.cli.support import emit, progress, show, warn
from h2sim.errors import ArchError, TraceError, at

if TYPE_CHECKING:
    import pandas as pd

    from h2sim.arch import Arch, Mode
    from h2sim.document.pictures import Plots
    from h2sim.energy import EnergyTable
    from h2sim.report.timeline import Unit
    from h2sim.result import Result
    from h2sim.rivals.machine import RivalMachine
    from h2sim.rivals.result import RivalResult
    from h2sim.trace import Trace

MODES: tuple[Mode, ...] = ("dense", "input_only", "output_only", "dual")  # the schema's, which would load pydantic

UNITS = ("ns", "cycles")  # of the timeline
ONE_TRACE = ("--chips", "--plots", "--what-if")  # options that several traces have no use for


@click.command()
@click.argument("arch", type=ARCH)
@click.argument("traces", type=TRACE, metavar="TRACE...", nargs=-1, required=True)
@setting_option
@click.option(
    "--energy-table", type=TABLE, metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of events."
)
@click.option("--mode", type=click.Choice(MODES), help="Backward Engine mode, instead of the arch file's.")
@click.option("--ideal-memory", is_flag=True, help="Transfers take no time: shows what stalls cost.")
@click.option("--layer", "layers", metavar="NAME", multiple=True, help="Print and write only this layer; repeatable.")
@click.option("--json", "json_file", metavar="FILE", help="Write the result, schema h2sim-result 1 ('-': stdout).")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the table of layers ('-': stdout).")
@click.option("--html", "html_file", metavar="FILE", help="Write one self-contained page to look at ('-': stdout).")
@click.option("--plots", metavar="DIR", help="Draw cycles, energy and area into a folder.")
@click.option("--timeline", metavar="FILE", help="Write the pipeline for Perfetto: .pftrace, else Chrome's JSON.")
@click.option("--timeline-unit", type=click.Choice(UNITS), default="ns", show_default=True, help="1 ns of the file.")
@click.option("--what-if", "changes", metavar="FIELD=VALUE", multiple=True, help="Also the step with this changed.")
@click.option("--chips", type=int, metavar="K", help="Also share a batch group among 1 to K machines in a ring.")
@click.option("--least-efficiency", type=float, metavar="SHARE", help="What still pays [default: 0.5].")
@plot_options
@click.pass_context
def run(
    ctx: click.Context,
    arch: str,
    traces: tuple[str, ...],
    settings: tuple[str, ...],
    energy_table: str,
    mode: str | None,
    ideal_memory: bool,
    layers: tuple[str, ...],
    json_file: str | None,
    csv_file: str | None,
    html_file: str | None,
    plots: str | None,
    timeline: str | None,
    timeline_unit: Unit,
    changes: tuple[str, ...],
    chips: int | None,
    least_efficiency: float | None,
    pictures: Plots,
) -> None:
    """Run one step of TRACE on ARCH and print cycles, stalls, energy and area.

    Several TRACEs are sub-batches of one network: each is run, and a table gives every one's cycles, time and energy,
    their means, and the interval of each mean (Student t, 95 %, both sides).

    ARCH and TRACE are names of shipped files (see `h2sim arch list`, `h2sim trace list`) or paths. ARCH may be a rival
    machine (spinalflow, loihi); it takes neither --mode nor --chips, --plots and --timeline. --layer narrows the
    rows that are printed and written; the totals stay the whole step's. --chips adds scaling tables (with --plots,
    scaling): data parallel, weight gradients added up by a ring all-reduce over the arch file's interconnect.

    The first sentence says what bounds the step: the critical path, walked back from its last cycle. --what-if
    (repeatable, each alone) says what a change of the machine would do to it. --timeline writes every interval,
    as a Perfetto trace where the name ends in .pftrace; --timeline-unit cycles makes 1 ns of the file one cycle.

    \b
    Examples:
      h2sim run h2learn mnist-digits
      h2sim run h2learn mnist-digits --mode dense --ideal-memory
      h2sim run h2learn mnist-digits --set engines.backward.rows=32 --set tile=[4,8]
      h2sim run mine.yaml my.npz --json out.json --csv layers.csv
      h2sim run h2learn mnist-digits --html page.html
      h2sim run h2learn mnist-digits --plots plots --timeline pipeline.pftrace
      h2sim run h2learn mnist-digits --what-if engines.backward.columns=128 --what-if tile=[16,16]
      h2sim run h2learn mnist-digits --chips 16 --plots plots --plot-format svg,pdf --plot-width 89
      h2sim run h2learn run/traces/epoch-004/*.npz --csv sub-batches.csv
      h2sim run spinalflow mnist-digits --set coding=every_spike
      h2sim run h2learn mnist-digits --json - | python -m json.tool
    """
    import h2sim
    from h2sim.arch import Arch
    from h2sim.report.run import run_document
    from h2sim.report.what_if import WhatIf

    if least_efficiency is not None and chips is None:
        raise click.UsageError("--least-efficiency needs --chips")
    check_outputs(json_file, csv_file, html_file, timeline, folder=plots, reads=(arch, *traces, energy_table))
    machine, workloads = find_machine(arch, settings), [h2sim.load_trace(trace) for trace in traces]
    workload = workloads[0]
    table = h2sim.load_energy_table(energy_table)
    _check_layers(workload, layers)
    wanted = {"--mode": mode, "--chips": chips, "--plots": plots, "--timeline": timeline, "--what-if": changes or None}
    result: Result | RivalResult
    if len(workloads) > 1:
        refuse(
            {
                "--layer": layers,
                "--timeline": timeline,
                "--html": html_file,
                **{name: wanted[name] for name in ONE_TRACE},
            }
        )

        def each(one: Trace) -> Result | RivalResult:
            if isinstance(machine, Arch):
                return _simulate(machine, one, table, mode, ideal_memory, None, None)
            return _simulate_rival(machine, one, table, ideal_memory, wanted)

        run_several(traces, workloads, each, (json_file, csv_file), command_line(ctx))
        return
    if isinstance(machine, Arch):
        what_if = [(change, find_changed(machine, change)) for change in changes]  # refused before the work begins
        result = _simulate(machine, workload, table, mode, ideal_memory, chips, least_efficiency)
        found = [WhatIf(name, _simulate(m, workload, table, mode, ideal_memory, None, None)) for name, m in what_if]
        document = run_document(result, layers, workload.meta.source, found)
        show(document, err="-" in (json_file, csv_file, html_file, timeline))
        _draw(result, plots, pictures, timeline, timeline_unit)
        extra = {"what_if": [change.to_dict(result) for change in found]} if found else {}
    else:
        extra = {}
        result = _simulate_rival(machine, workload, table, ideal_memory, wanted)
        show(result.document(), err="-" in (json_file, csv_file, html_file))
    for warning in result.warnings:
        warn(warning)
    if json_file:
        emit(json_file, _json(result, layers, command_line(ctx), extra))
    if html_file:
        emit(html_file, _html(result, workload, {**result.to_dict(command_line(ctx)), **extra}))
    if csv_file:
        emit(csv_file, _csv(result.layer_table(), result, layers))


def _check_layers(workload: Trace, layers: tuple[str, ...]) -> None:
    known = [layer.name for layer in workload.meta.layers]
    for name in layers:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TraceError(f"{workload.path}: --layer: expected one of {', '.join(known)}; got {name!r}{hint}")


def _simulate(
    machine: Arch,
    workload: Trace,
    table: EnergyTable,
    mode: str | None,
    ideal_memory: bool,
    chips: int | None,
    least_efficiency: float | None,
) -> Result:
    from h2sim.facade import LEAST_EFFICIENCY, simulate

    with progress("simulating") as report:
        return simulate(
            machine,
            workload,
            table,
            mode=mode,
            ideal_memory=ideal_memory,
            progress=report,
            chips=chips,
            least_efficiency=LEAST_EFFICIENCY if least_efficiency is None else least_efficiency,
            bounds=True,
        )


def _simulate_rival(
    machine: RivalMachine, workload: Trace, table: EnergyTable, ideal_memory: bool, wanted: Mapping[str, object]
) -> RivalResult:
    from h2sim.facade import simulate

    for option, value in wanted.items():
        if value is not None:
            raise ArchError(at(machine.name, option, "none: it is for h2learn's machines", value))
    return simulate(machine, workload, table, ideal_memory=ideal_memory)


def _draw(result: Result, plots: str | None, pictures: Plots, timeline: str | None, unit: Unit) -> None:
    if timeline:
        emit(timeline, _timeline(result, timeline, unit))
    if plots:
        from h2sim.report.plots import draw

        draw(result, plots, pictures)
        if result.chips:
            from h2sim.report.chips import draw_scaling

            draw_scaling(result, plots, pictures)


def _timeline(result: Result, target: str, unit: Unit) -> str | bytes:
    """The file's content, in the format that its name asks for."""
    from h2sim.report.timeline import result_timeline

    timeline = result_timeline(result, unit)
    if target.endswith(".pftrace"):
        from h2sim.report.timeline_perfetto import perfetto_trace

        return perfetto_trace(timeline)
    from h2sim.report.timeline_chrome import chrome_events

    return json.dumps(chrome_events(timeline), indent=1) + "\n"


def _json(result: Result | RivalResult, layers: tuple[str, ...], command: str, extra: dict[str, Any]) -> str:
    document = {**result.to_dict(command), **extra}
    if layers:
        document["layers"] = [row for row in document["layers"] if row["layer"] in layers]
    return json.dumps(document, indent=1) + "\n"


def _html(result: Result | RivalResult, workload: Trace, document: dict[str, Any]) -> str:
    """The page of the whole step, with every interval where the machine keeps them, and the trace's masks."""
    from h2sim.document.shell import page_html
    from h2sim.pages.result import AtHand, result_page

    with progress("drawing the page"):
        books = getattr(result, "books", None)
        return page_html(result_page(document, AtHand(books, workload)))


def _csv(rows: pd.DataFrame, result: Result | RivalResult, layers: tuple[str, ...]) -> str:
    """The rows with the hashes of what they come from, so that a table alone says what it was made of."""
    from h2sim.document import frame_csv

    chosen = rows[rows["layer"].isin(layers)] if layers else rows
    return frame_csv(chosen.assign(**result.hashes))
