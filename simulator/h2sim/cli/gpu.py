"""`h2sim gpu`: what a training step takes on a GPU, recorded here, imported from a profile, or published."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from h2sim.cli.devices import MOST, command_line, device_options, given, tell
from h2sim.cli.names import GPU_TRACE, NETWORK
from h2sim.cli.outputs import STDOUT, check_outputs
from h2sim.cli.support import NO, Commands, IntsType, emit, extra, find_network, say
from h2sim.cli.support import show as show_document
from h2sim.cli.types import ParamType, Positive
from h2sim.errors import GpuTraceError
from h2sim.gpu.names import IMPLEMENTATIONS
from h2sim.io import library

if TYPE_CHECKING:
    from h2sim.gpu.step import Workload
    from h2sim.gpu.targets import Target
    from h2sim.gpu.trace import GpuTrace
    from h2sim.trace import Network


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


class ImplementationsType(ParamType[tuple[str, ...]]):
    """Names of implementations, one or several with commas between."""

    name = "implementations"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",")]
        wrong = next((name for name in names if name not in IMPLEMENTATIONS), None)
        if wrong is not None:
            self.fail(f"expected some of {', '.join(IMPLEMENTATIONS)}; got {wrong[:40]!r}", param, ctx)
        return tuple(dict.fromkeys(names))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What can stand behind the last comma."""
        typed, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{typed}{comma}{name}") for name in IMPLEMENTATIONS if name.startswith(last)]


_LISTED = ", ".join(f"{name} ({what})" for name, what in IMPLEMENTATIONS.items())


@gpu.command("record")
@click.argument("network", type=NETWORK)
@click.option("-o", "--output", metavar="FILE", required=True, help=".json or .csv ('-': JSON to stdout)")
@click.option("--batch", type=click.IntRange(1, 1 << 20), default=64, show_default=True)
@click.option("--timesteps", type=click.IntRange(1, 65536), help="[default: the network's]")
@click.option("--implementation", "implementations", type=ImplementationsType(), default="vanilla", show_default=True,
              metavar="NAMES", help=f"One, or several with commas between: {_LISTED}.")  # fmt: skip
@click.option("--warm-up", type=click.IntRange(0, MOST), default=10, show_default=True, help="Steps before any counts.")
@click.option(
    "--repeats", type=click.IntRange(1, MOST), default=50, show_default=True, help="Steps to take the median of."
)
@click.option("--energy-seconds", type=Positive(), default=10.0, show_default=True,
              help="How long to measure energy.")  # fmt: skip
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="With --device cpu.")
@click.option("--input-shape", type=IntsType("C,H,W"), help="Of the network input; needed with a notation.")
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True)
@device_options
def record_(network: str, output: str, **options: Any) -> None:
    """Run a real training step of NETWORK in PyTorch on the GPU at hand and write its GPU trace.

    The step: forward over all timesteps, loss, backward, Adam, on synthetic samples. It is timed with marks (per
    layer and phase) and without; a GPU's energy comes from NVML (extra h2sim[gpu]). Loss and gradients of the first
    step are compared with those of layerwise. Several implementations go into a file each: mine-vanilla.json, ...

    \b
    Examples:
      h2sim gpu record cifar10 --batch 64 -o mine.json
      h2sim gpu record cifar10 --implementation vanilla,compiled,graph,chapter4,spikingjelly-triton -o mine.json
      h2sim gpu record mnist --implementation layerwise --repeats 100 --area 815 --node 12 -o mine.csv
      h2sim gpu record mnist-small --device cpu --batch 8 --repeats 5 -o cpu.json
    """
    from h2sim.train.session import prepare_process

    outputs = _outputs(output, options["implementations"])
    check_outputs(*outputs.values(), reads=(network,))
    described = find_network(network, options["input_shape"])
    prepare_process()
    with extra("gpu"):
        import torch

        from h2sim.gpu.baselines import check_can_run
        from h2sim.gpu.recording import record
        from h2sim.gpu.targets import TARGETS
        from h2sim.gpu.timed import Plan
    plan = Plan(options["warm_up"], options["repeats"], options["energy_seconds"])
    before = torch.get_num_threads()
    if options["device"] == "cpu":
        torch.set_num_threads(options["threads"])
    try:
        target = _named(TARGETS[options["device"]](), options)
        workloads = {name: _workload(described, name, options) for name in outputs}
        check_can_run(workloads.values(), target.name)
        for name, workload in workloads.items():
            _write(record(workload, target, plan, command_line(), tell), outputs[name])
    finally:
        torch.set_num_threads(before)


def _outputs(output: str, names: tuple[str, ...]) -> dict[str, str]:
    """The file of each implementation: of several `mine-NAME.json`. Raises a usage error for several to stdout."""
    if len(names) == 1:
        return {names[0]: output}
    if output == STDOUT:
        raise click.UsageError("-o -: expected one implementation, for standard output holds one trace; got several")
    path = Path(output)
    return {name: str(path.with_name(f"{path.stem}-{name}{path.suffix}")) for name in names}


def _workload(described: Network, implementation: str, options: Mapping[str, Any]) -> Workload:
    from h2sim.gpu.step import Workload
    from h2sim.train.lif import Neuron

    neuron = Neuron.from_meta({**Neuron().to_meta(), **(described.neuron or {})})
    return Workload(
        name=described.name,
        layers=described.layers,
        neuron=neuron,
        timesteps=options["timesteps"] or described.timesteps,
        batch=options["batch"],
        implementation=implementation,
        seed=options["seed"],
    )


def _named(target: Target, options: Mapping[str, Any]) -> Target:
    """The target with what the user says of the device."""
    from dataclasses import replace

    from h2sim.gpu.trace import device_of

    return replace(target, device=device_of({**target.device.model_dump(), **given(options)}, "gpu record"))


def _write(trace: GpuTrace, output: str) -> None:
    from h2sim.gpu import write_gpu_trace
    from h2sim.gpu.files import to_json

    if output == STDOUT:
        emit(output, to_json(trace))
    else:
        write_gpu_trace(Path(output), trace)
    said = f"{output}: {trace.origin}, {trace.network}, {trace.step.seconds * 1e3:.4f} ms a step of {trace.samples}"
    say(said, err=output == STDOUT)


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
    _write(trace, output)


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
