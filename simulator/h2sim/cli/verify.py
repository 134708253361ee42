"""`h2sim verify`: a trace's values through the engines' own data paths."""

from __future__ import annotations

import json
import sys

import click

from h2sim.cli.names import ARCH, TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import NO, complain, emit, progress, show, warn


@click.command()
@click.argument("arch", type=ARCH)
@click.argument("trace", type=TRACE)
@click.option("--json", "json_file", metavar="FILE", help="Write the rows ('-': stdout).")
def verify(arch: str, trace: str, json_file: str | None) -> None:
    """Recompute every layer of TRACE through the engines of ARCH and compare with what PyTorch recorded.

    Spikes and masks must be equal, values within what the order of a float32 sum can change. Exit status 1 if any is
    wrong, 2 if the trace carries no values.

    \b
    Examples:
      h2sim verify h2learn mnist-digits
      h2sim verify mine.yaml my.npz --json differences.json
    """
    import h2sim
    from h2sim.cautions import BATCH_NORM, machine_cautions, trace_cautions
    from h2sim.report.verify import verify_document
    from h2sim.verify import verify_trace

    check_outputs(json_file, reads=(arch, trace))
    machine, workload = h2sim.load_arch(arch), h2sim.load_trace(trace)
    with progress("verifying") as report:
        found = verify_trace(machine, workload, report)
    show(verify_document(found), err=json_file == "-")
    for caution in (*machine_cautions(machine), *trace_cautions(workload, machine.engines.backward.mode)):
        if caution != BATCH_NORM:  # the document has a note of its own on what it means here
            warn(caution)
    if json_file:
        answer = {"passed": found.passed, "rows": [row.to_dict() for row in found.rows], "notes": found.notes}
        emit(json_file, json.dumps(answer, indent=1, allow_nan=False) + "\n")
    if not found.passed:
        wrong = [row for row in found.rows if not row.passed]
        where = ", ".join(f"{row.layer} {row.quantity} ({row.wrong} of {row.checked})" for row in wrong[:8])
        complain(f"{workload.path}: WRONG VALUES in {len(wrong)} rows: {where}")
        sys.exit(NO)
