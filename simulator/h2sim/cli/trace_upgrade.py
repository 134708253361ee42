"""`h2sim trace upgrade`: a trace of version 1, written as version 2."""

from __future__ import annotations

import click

from h2sim.cli.names import TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import say, warn


@click.command()
@click.argument("file", type=TRACE)
@click.argument("output")
def upgrade(file: str, output: str) -> None:
    """Write FILE, a trace of version 1, as version 2 to OUTPUT: the same members, and what they mean.

    Version 2 says what kind its input is and knows more kinds of layers (averages, maxima, dropout, sums). Traces of
    version 1 are read as ever: upgrade one to edit its network, or to have all of a set in one version.

    \b
    Example:
      h2sim trace upgrade old.npz new.npz
    """
    from h2sim.trace import load_trace, write_trace
    from h2sim.trace.upgrade import left_out, upgraded

    check_outputs(output, reads=[file])
    opened = load_trace(file)
    meta, members = upgraded(opened)
    without = left_out(opened, meta)
    write_trace(output, meta, members)
    say(f"{output}: version {meta['version']} of {opened.path.name}, {len(meta['layers'])} layers.")
    if without:
        warn(f"{opened.path.name}: left out, which version 2 has no such member for: {', '.join(without)}")
