"""`h2sim measure`: a user's own model, recorded as a trace and timed on the device at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h2sim.cli.devices import MOST, command_line, device_options, given, tell
from h2sim.cli.names import FILE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import extra, say
from h2sim.cli.types import Positive
from h2sim.io.names import in_shell

if TYPE_CHECKING:
    from h2sim.gpu.measuring import MeasuredModel


@click.command()
@click.argument("step", type=FILE, metavar="MODULE:FUNCTION")
@click.option("-o", "--output", metavar="FILE.npz", required=True, help="The trace; the timing goes to FILE-gpu.json.")
@click.option("--network", metavar="NAME", help="Its name in both files [default: the model's class].")
@click.option("--dataset", metavar="NAME", help="Of the batch, in both files [default: not named].")
@click.option("--window-threshold", type=Positive(), metavar="X",
              help="A neuron is in the window where ds/dm is further from 0 than this [default: 0].")  # fmt: skip
@click.option("--warm-up", type=click.IntRange(0, MOST), default=10, show_default=True, help="Steps before any counts.")
@click.option(
    "--repeats", type=click.IntRange(1, MOST), default=50, show_default=True, help="Steps to take the median of."
)
@click.option("--energy-seconds", type=Positive(), default=10.0, show_default=True,
              help="How long to measure energy; half of it again checks it.")  # fmt: skip
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="[default: cuda if there is a GPU, else cpu]")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of the processor.")
@device_options
def measure(step: str, output: str, **options: Any) -> None:
    """Record a training step of your own PyTorch model as a trace, and time it on the GPU or processor at hand.

    FUNCTION, of a module or of a file.py, takes no arguments. It returns (model, inputs, targets, loss), or a dict of
    arguments of h2sim.measure, such as forward and optimizer beside these. Trace and timing have the same layer names,
    so that compare sets your device beside the simulated accelerator, layer by layer. The model's library does the
    work: SpikingJelly, snnTorch, Norse, sinabs, or modules that say what their neuron is.

    \b
    Examples:
      h2sim measure my_model.py:step -o model.npz
      h2sim measure my_model.py:step --device cpu --repeats 5 --warm-up 1 -o model.npz
      h2sim run h2learn model.npz --json model.json
      h2sim compare model.json --gpu model-gpu.json
    """
    from h2sim.train.session import prepare_process

    prepare_process()
    with extra("export"):
        import torch

        from h2sim.gpu.measuring import measure as measured
        from h2sim.gpu.measuring import timing_path
        from h2sim.gpu.timed import Plan
        from h2sim.gpu.users import step_of

    file = step.rpartition(":")[0]
    check_outputs(output, str(timing_path(output)), reads=(file,))
    plan = Plan(options["warm_up"], options["repeats"], options["energy_seconds"])
    before = torch.get_num_threads()
    torch.set_num_threads(options["threads"])
    try:
        arguments = step_of(step)
        arguments |= {key: options[key] for key in ("network", "dataset", "window_threshold") if options[key]}
        about = {**(arguments.pop("about_device", None) or {}), **given(options)}
        found = measured(
            path=output, device=options["device"], plan=plan, about_device=about, command=command_line(), report=tell,
            **arguments,
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    _tell(found)


def _tell(found: MeasuredModel) -> None:
    """What was written, and what to do with it."""
    meta, timing = found.export.meta, found.timing
    for note in dict.fromkeys(found.export.notes):
        say(f"note: {note}", err=True)
    size = f"T = {meta['timesteps']}, batch {meta['batch']}, {len(meta['layers'])} layers"
    say(f"{found.trace_path}: {meta['network']}, {size}")
    say(f"{found.timing_path}: {timing.step.seconds * 1e3:.4f} ms a step of {timing.samples} on {timing.device.name}")
    trace, beside = in_shell(str(found.trace_path)), in_shell(str(found.timing_path))
    result = in_shell(str(Path(found.trace_path).with_suffix(".json")))
    say(f"then: h2sim run h2learn {trace} --json {result}; h2sim compare {result} --gpu {beside}")
