"""`h2sim gpu`: what a training step takes on a GPU, recorded here, imported from a profile, or published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from h2sim.cli.devices import MOST, command_line, device_options, given, write_recorded
from h2sim.cli.gpu_record import record_
from h2sim.cli.names import GPU_TRACE, NETWORK
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import NO, Commands, IntsType, find_network, say
from h2sim.cli.support import show as show_document
from h2sim.errors import GpuTraceError
from h2sim.io import library


@click.group(cls=Commands)
def gpu() -> None:
    """GPU traces: time, energy and memory of a training step per layer and phase, to compare with H2Learn.

    \b
    Examples:
      h2sim gpu list
      h2sim gpu record cifar10 --batch 64 -o mine.json
      h2sim gpu import profile.json.gz --network cifar10 --batch 64 -o mine.json
      h2sim gpu show v100-cifar10
    """


gpu.add_command(record_)


@gpu.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--network", type=NETWORK, required=True, help="Whose step the profile is of; names its layers.")
@click.option("--batch", type=click.IntRange(1, MOST), required=True, help="Samples of one step.")
@click.option("-o", "--output", metavar="FILE", required=True, help=".json or .csv ('-': JSON to stdout)")
@click.option("--format", "form", type=click.Choice(["chrome", "nsys"]), help="[default: by the file's first bytes]")
@click.option("--map", "rules", metavar="RULES.yaml", type=click.Path(path_type=Path),
              help="Rules kernel -> layer and phase, asked first.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, MOST), help="In the profile [default: its ProfilerStep# ranges, or 1].")
@click.option("--gpu", "gpu_number", type=click.IntRange(0, 4096), help="Whose kernels count, if there are several.")
@click.option("--timesteps", type=click.IntRange(1, 65536), help="[default: the network's]")
@click.option("--dataset", default="not said", show_default=True)
@click.option("--implementation", default="imported", show_default=True)
@click.option("--input-shape", type=IntsType("C,H,W"), help="Of the network input; needed with a notation.")
@device_options
def import_(file: Path, network: str, output: str, **options: Any) -> None:
    """Read a profile made elsewhere and write its GPU trace: kernels mapped to layers and phases.

    FILE is a Chrome trace of torch.profiler (.json, .json.gz) or an SQLite export of Nsight Systems. Name ranges in
    the profiled program like layers (record_function or NVTX: conv1, h2sim:conv1:backward, h2sim:loss), or write rules.
    What cannot be mapped is kept as `unmapped` and named.

    \b
    Examples:
      h2sim gpu import profile.json.gz --network cifar10 --batch 64 -o mine.json
      h2sim gpu import profile.sqlite --network cifar10 --batch 64 --steps 20 --map rules.yaml -o mine.csv
    """
    from h2sim.gpu.importing import Made, import_profile
    from h2sim.gpu.rules import load_rules

    check_outputs(output, reads=(file, network, *([options["rules"]] if options["rules"] else [])))
    described = find_network(network, options["input_shape"])
    inputs = {layer["name"]: tuple(layer["inputs"]) for layer in described.layers}
    rules = load_rules(options["rules"], inputs) if options["rules"] else ()
    made = Made(
        network=described.name,
        inputs=inputs,
        batch=options["batch"],
        timesteps=options["timesteps"] or described.timesteps,
        dataset=options["dataset"],
        implementation=options["implementation"],
        steps=options["steps"],
        given=given(options),
    )
    trace = import_profile(file, made, rules, options["form"], command_line(), options["gpu_number"])
    for note in trace.notes:
        say(f"note: {note}", err=True)
    write_recorded(trace, output)


@gpu.command("list")
def list_() -> None:
    """The shipped GPU traces.

    \b
    Examples:
      h2sim gpu list
    """
    from h2sim.gpu import load_gpu_trace
    from h2sim.report.gpu import gpu_traces_document

    show_document(gpu_traces_document({name: load_gpu_trace(name) for name in library.names("GPU trace")}))


@gpu.command()
@click.argument("trace", type=GPU_TRACE)
def show(trace: str) -> None:
    """One GPU TRACE, shipped or a file: times per layer and phase, energy, versions, sources.

    \b
    Examples:
      h2sim gpu show v100-cifar10
      h2sim gpu show mine.csv
    """
    from h2sim.gpu import load_gpu_trace
    from h2sim.report.gpu import gpu_trace_document

    show_document(gpu_trace_document(load_gpu_trace(trace)))


@gpu.command()
@click.argument("trace", type=GPU_TRACE)
@click.option(
    "--network", type=NETWORK, help="Whose layers the rows must name [default: the one that the trace names]."
)
@click.option("--input-shape", type=IntsType("C,H,W"), help="Of the network input; needed with a notation.")
def check(trace: str, network: str | None, input_shape: tuple[int, int, int] | None) -> None:
    """Whether a GPU TRACE is well formed and its rows name the network's layers; exit status 1 where they do not.

    \b
    Examples:
      h2sim gpu check mine.csv
      h2sim gpu check mine.json --network my-network.yaml
    """
    from h2sim.document import Document, Line
    from h2sim.gpu import load_gpu_trace

    found = load_gpu_trace(trace)
    described = find_network(network or found.network, input_shape)
    names = [layer["name"] for layer in described.layers]
    try:
        found.check_layers(names)
    except GpuTraceError as error:
        say(*error.lines)
        sys.exit(NO)
    timed = {row.layer for row in found.rows if row.phase != "other"}
    missing = [name for name in names if name not in timed] if found.rows else []
    verdict = f"{trace}: well formed; {len(found.rows)} rows, {len(timed)} of {len(names)} layers of {described.name}"
    lines = (Line(f"without a row: {', '.join(missing)}"),) if missing else ()
    show_document(Document(verdict, lines))
