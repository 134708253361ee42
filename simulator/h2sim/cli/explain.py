"""`h2sim explain`: what every key of the result means."""

from __future__ import annotations

import click

from h2sim.cli.names import WORD
from h2sim.cli.support import show
from h2sim.errors import H2SimError


@click.command()
@click.argument("key", type=WORD, required=False)
def explain(key: str | None) -> None:
    """Meaning and unit of every key of results and CSV files, of what the terminal's tables name, and of files' fields.

    A field of an arch file or energy table is named by its dotted path, or by the end of it.

    \b
    Examples:
      h2sim explain
      h2sim explain steady_cycles
      h2sim explain stall_memory_read_cycles
      h2sim explain "off-chip kB"
      h2sim explain engines.backward.rows
      h2sim explain rows
    """
    from h2sim.report.explain import every_word, explanation, nearest

    found = every_word() if key is None else explanation(key)
    if key is not None and found is None:
        near = ", ".join(nearest(key)) or "none"
        raise H2SimError(f"explain: expected a key of the result or a field of a file; got {key!r}; nearest: {near}")
    if found:
        show(found)
