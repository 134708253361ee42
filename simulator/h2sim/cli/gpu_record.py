"""`h2sim gpu record`: steps of a network by one implementation or several, or of the network of a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.devices import MOST, command_line, device_options, given, tell, was_given, write_recorded
from h2sim.cli.implementations import LISTED, ImplementationsType
from h2sim.cli.names import NETWORK
from h2sim.cli.outputs import STDOUT, check_outputs
from h2sim.cli.support import IntsType, extra, find_network
from h2sim.cli.types import Positive

if TYPE_CHECKING:
    from h2sim.gpu.step import Workload
    from h2sim.gpu.targets import Target
    from h2sim.gpu.timed import Plan
    from h2sim.gpu.trace import GpuTrace
    from h2sim.trace import Network

BATCH = 64  # samples of a step


TRACE_SUFFIX = ".npz"
OF_NETWORKS = {"timesteps": "--timesteps", "input_shape": "--input-shape", "implementations": "--implementation"}


@click.command("record")
@click.argument("network", type=NETWORK)
@click.option("-o", "--output", metavar="FILE", required=True, help=".json or .csv ('-': JSON to stdout)")
@click.option("--batch", type=click.IntRange(1, 1 << 20), help=f"[default: {BATCH}, or the trace's]")
@click.option("--timesteps", type=click.IntRange(1, 65536), help="[default: the network's]")
@click.option("--implementation", "implementations", type=ImplementationsType(), default="vanilla", show_default=True,
              metavar="NAMES", help=f"One, or several with commas between: {LISTED}.")  # fmt: skip
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
    """Run a real training step of NETWORK, or of a trace's, in PyTorch on the GPU at hand and write its GPU trace.

    The step: forward over all timesteps, loss, backward, Adam, on synthetic samples. It is timed with marks (per
    layer and phase) and without; a GPU's energy comes from NVML (extra h2sim[gpu]). Loss and gradients of the first
    step are compared with those of layerwise. Several implementations go into a file each: mine-vanilla.json, ...
    A trace (TRACE.npz) brings its own samples, layers of every kind and, where it has them, weights; it runs layer by
    layer. h2sim measure times a PyTorch model of your own.

    \b
    Examples:
      h2sim gpu record cifar10 --batch 64 -o mine.json
      h2sim gpu record cifar10 --implementation vanilla,compiled,graph,chapter4,spikingjelly-triton -o mine.json
      h2sim gpu record mnist --implementation layerwise --repeats 100 --area 815 --node 12 -o mine.csv
      h2sim gpu record mnist-small --device cpu --batch 8 --repeats 5 -o cpu.json
      h2sim gpu record my.npz --device cpu --repeats 5 -o cpu.json
    """
    from h2sim.train.session import prepare_process

    prepare_process()
    if network.endswith(TRACE_SUFFIX):
        check_outputs(output, reads=(network,))
        record_ = _trace_recorder(network, options)
        outputs = {"": output}
    else:
        outputs = _outputs(output, options["implementations"])
        check_outputs(*outputs.values(), reads=(network,))
        record_ = _network_recorder(find_network(network, options["input_shape"]), outputs, options)
    with extra("gpu"):
        import torch

        from h2sim.gpu.targets import TARGETS
        from h2sim.gpu.timed import Plan
    plan = Plan(options["warm_up"], options["repeats"], options["energy_seconds"])
    before = torch.get_num_threads()
    if options["device"] == "cpu":
        torch.set_num_threads(options["threads"])
    try:
        for name, trace in record_(_named(TARGETS[options["device"]](), options), plan):
            write_recorded(trace, outputs[name])
    finally:
        torch.set_num_threads(before)


Recorder = Callable[["Target", "Plan"], Iterator[tuple[str, "GpuTrace"]]]


def _network_recorder(described: Network, names: Iterable[str], options: Mapping[str, Any]) -> Recorder:
    """What records a network by each of these implementations: (implementation, its GPU trace)."""

    def record_all(target: Target, plan: Plan) -> Iterator[tuple[str, GpuTrace]]:
        from h2sim.gpu.baselines import check_can_run
        from h2sim.gpu.recording import record

        workloads = {name: _workload(described, name, options) for name in names}
        check_can_run(workloads.values(), target.name)
        for name, workload in workloads.items():
            yield name, record(workload, target, plan, command_line(), tell)

    return record_all


def _trace_recorder(name: str, options: Mapping[str, Any]) -> Recorder:
    """What records the network of a trace. Raises a usage error for options that a trace answers itself."""
    from h2sim.trace import load_trace

    asked = {key: option for key, option in OF_NETWORKS.items() if was_given(key)}
    if asked:
        said = ", ".join(asked.values())
        raise click.UsageError(f"{said}: expected a network; a trace says it itself, and runs layer by layer")
    trace = load_trace(name)

    def record_one(target: Target, plan: Plan) -> Iterator[tuple[str, GpuTrace]]:
        from h2sim.gpu.rebuilt import record_trace

        batch, seed = options["batch"], options["seed"]
        yield "", record_trace(trace, target, plan, batch=batch, seed=seed, command=command_line(), report=tell)

    return record_one


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
        batch=options["batch"] or BATCH,
        implementation=implementation,
        seed=options["seed"],
    )


def _named(target: Target, options: Mapping[str, Any]) -> Target:
    """The target with what the user says of the device."""
    from dataclasses import replace

    from h2sim.gpu.trace import device_of

    return replace(target, device=device_of({**target.device.model_dump(), **given(options)}, "gpu record"))
