"""What commands that time a step share: options of the device, the command as it was typed, progress."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from h2sim.cli.outputs import STDOUT
from h2sim.cli.support import Decorated, emit, say
from h2sim.cli.types import Positive
from h2sim.io.names import in_shell

if TYPE_CHECKING:
    from h2sim.gpu.trace import GpuTrace

MOST = 1 << 40  # batches, steps: more is a slip of the finger
LONGEST = 2000  # characters of a line in a trace


def device_options(command: Decorated) -> Decorated:
    """Options that say what a device does not tell of itself."""
    positive = Positive()
    for option in (
        click.option("--peak-flops", "peak_flops_per_s", type=positive, metavar="FLOP/S",
                     help="The most float32 operations per second."),
        click.option("--memory-energy", "memory_energy_pj_per_bit", type=positive, metavar="PJ",
                     help="Of its external memory, per bit; HBM2: 3.97."),
        click.option("--memory-bandwidth", "memory_bandwidth_bytes_per_s", type=positive, metavar="B/S",
                     help="Of its external memory, bytes per second."),
        click.option("--power", "power_w", type=positive, metavar="W", help="The GPU's power limit."),
        click.option("--area", "area_mm2", type=positive, metavar="MM2", help="The GPU's die."),
        click.option("--node", "node_nm", type=positive, metavar="NM", help="The GPU's technology."),
        click.option("--device-name", "name", metavar="NAME", help="[default: as it calls itself]"),
    ):  # fmt: skip
        command = option(command)
    return command


_DEVICE = ("name", "node_nm", "area_mm2", "power_w", "memory_bandwidth_bytes_per_s", "memory_energy_pj_per_bit",
           "peak_flops_per_s")  # fmt: skip


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the user says of the device."""
    return {key: options[key] for key in _DEVICE if options[key] is not None}


def was_given(name: str) -> bool:
    """Whether the current command's option of that name was typed."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def command_line() -> str | None:
    """What was typed, so that it can be typed again: arguments, and the options that were given; None if too long."""
    context = click.get_current_context()
    words = context.command_path.split()
    for parameter in context.command.params:
        value = context.params[parameter.name or ""]
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif was_given(parameter.name or ""):
            words += [parameter.opts[0], ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    typed = " ".join(map(in_shell, words))
    return typed if len(typed) <= LONGEST else None


def tell(what: str, done: int, total: int) -> None:
    """Progress on standard error: each tenth of a part."""
    if done == total or done * 10 // total != (done - 1) * 10 // total:
        click.echo(f"{what} {done} of {total}", err=True)


def write_recorded(trace: GpuTrace, output: str) -> None:
    """Writes a GPU trace, to a file or to standard output, and says so."""
    from h2sim.gpu import write_gpu_trace
    from h2sim.gpu.files import to_json

    if output == STDOUT:
        emit(output, to_json(trace))
    else:
        write_gpu_trace(Path(output), trace)
    said = f"{output}: {trace.origin}, {trace.network}, {trace.step.seconds * 1e3:.4f} ms a step of {trace.samples}"
    say(said, err=output == STDOUT)
