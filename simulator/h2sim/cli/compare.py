"""`h2sim compare`: results beside GPU traces and rival machines."""

from __future__ import annotations

import json

import click

from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import console, emit
from h2sim.errors import ComparisonError, at
from h2sim.io import library


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option("--gpu", "gpus", metavar="TRACE", multiple=True, help="A GPU trace, by name or file; repeatable.")
@click.option("--spinalflow", is_flag=True, help="SpinalFlow on the result's workload (forward pass).")
@click.option("--loihi", is_flag=True, help="Loihi on the result's workload (forward pass).")
@click.option("--baseline", "names", metavar="NAME", multiple=True, help="Any of h2sim baseline list; repeatable.")
@click.option("--workload", metavar="TRACE", help="The trace of the first result; found if it is a shipped one.")
@click.option("--energy-table", metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of SpinalFlow.")
@click.option("--json", "json_file", metavar="FILE", help="Write the comparison ('-': stdout).")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the table of ratios ('-': stdout).")
@click.option("--plots", metavar="DIR", help="Draw step.png and layers.png into a folder.")
def compare(results, gpus, spinalflow, loihi, names, workload, energy_table, json_file, csv_file, plots) -> None:
    """Compare the first RESULT (of h2sim run --json) with other results, GPU traces and rival machines.

    Speedup, energy saving and area saving per sample: the whole step where both cover the same phases, and every phase
    and layer that both have. Above 1 is in favour of the first RESULT.

    \b
    Examples:
      h2sim run h2learn mnist-digits --json ours.json
      h2sim compare ours.json --spinalflow --loihi
      h2sim compare cifar10.json --gpu v100-cifar10 --plots plots
      h2sim compare dual.json dense.json --csv ratios.csv
      h2sim compare ours.json --loihi --workload my.npz --json -
    """
    from h2sim.compare.ratios import compare as ratios
    from h2sim.compare.ratios import load_result, measurement_of
    from h2sim.report.compare import print_comparison, ratio_table, to_document

    read = (*results, *gpus, energy_table, *([workload] if workload else []))
    check_outputs(json_file, csv_file, folder=plots, reads=read)
    rivals = [name for name, asked in (("spinalflow", spinalflow), ("loihi", loihi)) if asked] + list(names)
    if not (gpus or rivals or len(results) > 1):
        raise click.UsageError("expected another RESULT, --gpu, --spinalflow, --loihi or --baseline to compare with")
    document = load_result(results[0])
    ours = measurement_of(document, results[0])
    others = [measurement_of(load_result(path), path) for path in results[1:]]
    others += [_gpu(name) for name in gpus]
    others += _rivals(document, results[0], workload, energy_table, rivals)
    found = [ratios(ours, other) for other in others]
    print_comparison(console(err="-" in (json_file, csv_file)), found)
    if json_file:
        emit(json_file, json.dumps(to_document(found), indent=1) + "\n")
    if csv_file:
        emit(csv_file, ratio_table(found).to_csv(index=False, lineterminator="\n"))
    if plots:
        from h2sim.report.compare_plots import draw

        draw(found, plots)


def _gpu(name: str):
    from h2sim.gpu.files import load_gpu_trace

    return load_gpu_trace(name).to_measurement()


def _workload(document, where: str, given: str | None):
    """The trace that the result was made of: the given one, or the shipped one with its hash."""
    from h2sim.trace import load_trace

    wanted = document["workload"]["sha256"]
    for name in [given] if given else library.names("trace"):
        trace = load_trace(name)
        if trace.sha256 == wanted:
            return trace
    field, expected = ("--workload", f"the trace of {where}, sha256 {wanted[:12]}...")
    got = "another trace" if given else "none; it is not a shipped trace, name it by --workload"
    raise ComparisonError(at(given or where, field, expected, got))


def _rivals(document, where: str, workload: str | None, energy_table: str, names: list[str]):
    """Machines run on the result's own trace; published rows are taken as they stand."""
    from h2sim.compare.published import published_row, published_rows
    from h2sim.energy import load_energy_table
    from h2sim.rivals.registry import run_baseline

    published = {row.name for row in published_rows()}
    found = []
    for name in names:
        if name in published:
            found.append(published_row(name).measurement())
        else:
            trace = _workload(document, where, workload)
            found.append(run_baseline(name, trace, load_energy_table(energy_table)).measurement())
    return found
