"""`h2sim explain`: what every key of the result means."""

from __future__ import annotations

import difflib

import click

from h2sim.cli.support import show
from h2sim.errors import H2SimError


@click.command()
@click.argument("key", required=False)
def explain(key: str | None) -> None:
    """Meaning and unit of every key of results and CSV files, and of what the terminal's tables name.

    \b
    Examples:
      h2sim explain
      h2sim explain steady_cycles
      h2sim explain stall_memory_read_cycles
      h2sim explain "off-chip kB"
    """
    from h2sim.report.explain import keys_document
    from h2sim.report.keys import KEYS

    if key is not None and key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=3)
        raise H2SimError(f"explain: expected a key of the result; got {key!r}; nearest: {', '.join(near) or 'none'}")
    show(keys_document({key: KEYS[key]} if key else KEYS))
