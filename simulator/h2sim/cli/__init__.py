"""The h2sim command: parse, call, print, exit status (0 good, 1 the answer is no, 2 wrong use or bad input)."""

from __future__ import annotations

import click

from h2sim._version import __version__
from h2sim.cli.support import Commands, Modules

COMMANDS = (
    "run",
    "verify",
    "compare",
    "report",
    "estimate",
    "reproduce",
    "sweep",
    "arch",
    "table",
    "trace",
    "workload",
    "train",
    "convert",
    "attack",
    "certify",
    "evolve",
    "baseline",
    "gpu",
    "measure",
    "rtl",
    "explain",
    "completion",
)


@click.group(
    cls=Commands, commands=Modules("h2sim.cli", COMMANDS), context_settings={"help_option_names": ["-h", "--help"]}
)
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
      h2sim compare cifar10.json --gpu v100-cifar10
      h2sim measure my_model.py:step -o model.npz
      h2sim estimate mnist-digits
      h2sim reproduce -o reports/h2learn
      h2sim sweep figure-3.13-forward -o figure
      h2sim arch show h2learn > mine.yaml
    """


__all__ = ["main"]
