"""`h2sim run` with several traces: sub-batches of one network, each one's row, the mean and its interval."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from h2sim.cli.support import emit, show, warn_of
from h2sim.errors import TraceError, at

if TYPE_CHECKING:
    from h2sim.result import Result
    from h2sim.rivals.result import RivalResult
    from h2sim.trace import Trace

ALIKE = ("network", "timesteps", "batch", "phases")  # of the metadata: what sub-batches of one run have in common


def check_alike(traces: Sequence[Trace]) -> None:
    """Raises TraceError, one line, where traces are not different sub-batches of one network."""
    first = traces[0]
    for index, trace in enumerate(traces):
        for field in ALIKE:
            ours, theirs = getattr(first.meta, field), getattr(trace.meta, field)
            if ours != theirs:
                raise TraceError(at(str(trace.path), field, f"{_said(ours)}, as in {first.path}", _said(theirs)))
        if trace.meta.layers != first.meta.layers:
            raise TraceError(at(str(trace.path), "layers", f"those of {first.path}", "other layers"))
        twin = next((t for t in traces[:index] if t.sha256 == trace.sha256), None)
        if twin:
            raise TraceError(
                at(str(trace.path), "trace", "another sub-batch for each name", f"that of {twin.path} again")
            )


def refuse(options: Mapping[str, object]) -> None:
    """Raises a usage error for an option that is for one trace alone."""
    for option, value in options.items():
        if value:
            raise click.UsageError(f"{option} is for one trace; give a single TRACE with it")


def run_several(
    names: Sequence[str],
    traces: Sequence[Trace],
    simulate: Callable[[Trace], Result | RivalResult],
    outputs: tuple[str | None, str | None],
    command: str,
) -> None:
    """Runs each trace, prints the table with mean and interval, and writes it. outputs: of --json and --csv."""
    from h2sim.report.several import Several

    check_alike(traces)
    found = Several(tuple(names), tuple(map(simulate, traces)))
    json_file, csv_file = outputs
    show(found.document(), err="-" in outputs)
    warn_of({name: result.warnings for name, result in zip(names, found.results, strict=True)})
    if json_file:
        emit(json_file, json.dumps(found.to_dict(command), indent=1) + "\n")
    if csv_file:
        emit(csv_file, found.to_csv())


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
