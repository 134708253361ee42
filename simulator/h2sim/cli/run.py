"""`h2sim run`: one training step of a trace on a machine."""

from __future__ import annotations

import difflib
import json

import click

from h2sim.arch import MODES
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import console, emit, progress
from h2sim.errors import TraceError


@click.command()
@click.argument("arch")
@click.argument("trace")
@click.option("--energy-table", metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of events.")
@click.option("--mode", type=click.Choice(MODES), help="Backward Engine mode, instead of the arch file's.")
@click.option("--ideal-memory", is_flag=True, help="Transfers take no time: shows what stalls cost.")
@click.option("--layer", "layers", metavar="NAME", multiple=True, help="Print and write only this layer; repeatable.")
@click.option("--json", "json_file", metavar="FILE", help="Write the result, schema h2sim-result 1 ('-': stdout).")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the table of layers ('-': stdout).")
@click.option("--plots", metavar="DIR", help="Draw cycles.png, energy.png and area.png into a folder.")
@click.option("--timeline", metavar="FILE", help="Write the pipeline in Chrome trace event format, for Perfetto.")
@click.option("--chips", type=int, metavar="K", help="Also share a batch group among 1 to K machines in a ring.")
@click.option("--least-efficiency", type=float, metavar="SHARE", help="What still pays [default: 0.5].")
def run(
    arch, trace, energy_table, mode, ideal_memory, layers, json_file, csv_file, plots, timeline, chips, least_efficiency
) -> None:
    """Run one step of TRACE on ARCH and print cycles, stalls, energy and area.

    ARCH and TRACE are names of shipped files (see `h2sim arch list`, `h2sim trace list`) or paths. --layer narrows the
    rows that are printed and written; the totals stay the whole step's. --chips adds scaling tables (with --plots,
    scaling.png): data parallel, weight gradients added up by a ring all-reduce over the arch file's interconnect.

    \b
    Examples:
      h2sim run h2learn mnist-digits
      h2sim run h2learn mnist-digits --mode dense --ideal-memory
      h2sim run mine.yaml my.npz --json out.json --csv layers.csv
      h2sim run h2learn mnist-digits --plots plots --timeline pipeline.json
      h2sim run h2learn mnist-digits --chips 16 --plots plots
      h2sim run h2learn mnist-digits --json - | python -m json.tool | less
    """
    import h2sim
    from h2sim.report.text import summary
    from h2sim.simulate import LEAST_EFFICIENCY

    if least_efficiency is not None and chips is None:
        raise click.UsageError("--least-efficiency needs --chips")
    check_outputs(json_file, csv_file, timeline, folder=plots, reads=(arch, trace, energy_table))
    machine, workload = h2sim.load_arch(arch), h2sim.load_trace(trace)
    table = h2sim.load_energy_table(energy_table)
    _check_layers(workload, layers)
    with progress("simulating") as report:
        result = h2sim.simulate(
            machine, workload, table, mode=mode, ideal_memory=ideal_memory, progress=report, chips=chips,
            least_efficiency=LEAST_EFFICIENCY if least_efficiency is None else least_efficiency,
        )  # fmt: skip
    out = console(err="-" in (json_file, csv_file, timeline))
    summary(out, result, layers, workload.meta.source)
    if result.chips:
        from h2sim.report.chips import chips_tables

        chips_tables(out, result)
    _write(result, layers, json_file, csv_file, plots, timeline)


def _check_layers(workload, layers: tuple[str, ...]) -> None:
    known = [layer.name for layer in workload.meta.layers]
    for name in layers:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TraceError(f"{workload.path}: --layer: expected one of {', '.join(known)}; got {name!r}{hint}")


def _write(result, layers, json_file, csv_file, plots, timeline) -> None:
    if json_file:
        document = result.to_dict()
        if layers:
            document["layers"] = [row for row in document["layers"] if row["layer"] in layers]
        emit(json_file, json.dumps(document, indent=1) + "\n")
    if csv_file:
        rows = result.layer_table()
        emit(csv_file, (rows[rows["layer"].isin(layers)] if layers else rows).to_csv(index=False, lineterminator="\n"))
    if timeline:
        from h2sim.report.timeline import timeline_events

        emit(timeline, json.dumps(timeline_events(result), indent=1) + "\n")
    if plots:
        from h2sim.report.plots import draw

        draw(result, plots)
        if result.chips:
            from h2sim.report.chips import draw_scaling

            draw_scaling(result, plots)
