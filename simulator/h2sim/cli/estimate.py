"""`h2sim estimate`: the usual back-of-envelope energy of a trace, beside what the simulation counts."""

from __future__ import annotations

import json
from typing import Any

import click

from h2sim.cli.names import ARCH, TABLE, TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import emit, progress, show


@click.command()
@click.argument("trace", type=TRACE)
@click.option(
    "--arch", type=ARCH, metavar="NAME|FILE", default="h2learn", show_default=True, help="The machine beside it."
)
@click.option(
    "--energy-table", type=TABLE, metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of events."
)
@click.option("--encode", type=click.Choice(["once", "every-step"]), help="MACs of an analog input that stands still.")
@click.option("--padding", type=click.Choice(["counted", "skipped"]), help="Taps that hang over the border.")
@click.option("--spike-rate", type=click.Choice(["own", "input"]), help="Whose spikes eq. 18 of Diet-SNN takes.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write one row per layer ('-': stdout).")
@click.option("--json", "json_file", metavar="FILE", help="Write all of it ('-': stdout).")
def estimate(
    trace: str,
    arch: str,
    energy_table: str,
    encode: str | None,
    padding: str | None,
    spike_rate: str | None,
    csv_file: str | None,
    json_file: str | None,
) -> None:
    """Estimate TRACE's inference energy as papers on SNNs do, beside the energy that the simulation counts.

    Operations of the ANN x spiking activity x one energy per operation (HIRE-SNN, eq. 7 and 8; Diet-SNN, eq. 18), FP32
    and INT32 at 45 nm and scaled to the table's node. Beside it, layer by layer: what the simulated machine spends on
    arithmetic, registers, neurons, buffers and leakage; and the whole training step. What the papers leave open is an
    option; the defaults stand in simulator/h2sim/compare/estimate.yaml.

    \b
    Examples:
      h2sim estimate mnist-digits
      h2sim estimate my.npz --energy-table 45nm --encode every-step
      h2sim estimate mnist-digits --csv layers.csv --json estimate.json
    """
    import h2sim
    from h2sim.compare.estimate import estimate as estimated
    from h2sim.compare.estimate import load_estimate_data
    from h2sim.compare.simulated import simulated
    from h2sim.report.estimate import estimate_document, layer_rows, to_dict

    check_outputs(csv_file, json_file, reads=(trace, arch, energy_table))
    machine, workload = h2sim.load_arch(arch), h2sim.load_trace(trace)
    table, data = h2sim.load_energy_table(energy_table), load_estimate_data()
    options: dict[str, Any] = {"encode": encode, "padding": padding, "spike_rate": spike_rate}
    given = {name: value for name, value in options.items() if value}
    found = estimated(workload, table, data, data.assumptions.model_copy(update=given))
    with progress("simulating") as report:
        result = h2sim.simulate(machine, workload, table, progress=report)
    measured = simulated(result)
    show(estimate_document(found, measured, result), err="-" in (csv_file, json_file))
    if csv_file:
        import pandas as pd

        from h2sim.document import frame_csv

        emit(csv_file, frame_csv(pd.DataFrame(layer_rows(found, measured))))
    if json_file:
        emit(json_file, json.dumps(to_dict(found, measured, result), indent=1) + "\n")
