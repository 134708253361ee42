"""The h2sim command: parse, call, print, exit status (0 good, 1 the answer is no, 2 wrong use or bad input)."""

from __future__ import annotations

import click

from h2sim._version import __version__
from h2sim.cli.arch import arch
from h2sim.cli.baseline import baseline
from h2sim.cli.compare import compare
from h2sim.cli.estimate import estimate
from h2sim.cli.explain import explain
from h2sim.cli.gpu import gpu
from h2sim.cli.reproduce import reproduce
from h2sim.cli.rtl import rtl
from h2sim.cli.run import run
from h2sim.cli.support import Commands
from h2sim.cli.table import table
from h2sim.cli.trace import trace
from h2sim.cli.train import train
from h2sim.cli.verify import verify
from h2sim.cli.workload import workload


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="h2sim")
def main() -> None:
    """Cycle-accurate simulation of H2Learn, an accelerator that trains spiking neural networks.

    \b
    Examples:
      h2sim run h2learn mnist-digits
      h2sim verify h2learn mnist-digits
      h2sim trace info mnist-digits
      h2sim workload list
      h2sim train mnist-small mnist-5k --epochs 4 --shift 2 -o run
      h2sim compare ours.json --gpu v100-cifar10
      h2sim estimate mnist-digits
      h2sim reproduce -o reports/h2learn
      h2sim arch show h2learn > mine.yaml
    """


for command in (
    run,
    verify,
    compare,
    estimate,
    reproduce,
    arch,
    table,
    trace,
    workload,
    train,
    baseline,
    gpu,
    rtl,
    explain,
):
    main.add_command(command)

__all__ = ["main"]
