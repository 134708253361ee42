"""The baseline machines by name: how each runs on a trace. A new one is its files and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from h2sim.compare.measurement import Measurement
from h2sim.energy.table import EnergyTable
from h2sim.errors import BaselineError, at
from h2sim.rivals.loihi.run import load_loihi, run_loihi
from h2sim.rivals.spinalflow.run import load_spinalflow, run_spinalflow
from h2sim.trace import Trace


class Run(Protocol):
    """What a baseline makes of a trace."""

    def measurement(self) -> Measurement: ...


@dataclass(frozen=True)
class Baseline:
    """run takes a trace and an energy table, which a machine with prices of its own leaves aside."""

    what: str
    run: Callable[[Trace, EnergyTable], Run]


BASELINES: dict[str, Baseline] = {
    "spinalflow": Baseline(
        "SpinalFlow (ISCA 2020), forward pass, each neuron's first spike; prices of the energy table",
        lambda trace, table: run_spinalflow(load_spinalflow(), trace, table),
    ),
    "spinalflow-every-spike": Baseline(
        "SpinalFlow given every spike of every timestep",
        lambda trace, table: run_spinalflow(load_spinalflow(), trace, table, coding="every_spike"),
    ),
    "loihi": Baseline(
        "Loihi, forward pass; published energies and times (Davies 2018)",
        lambda trace, table: run_loihi(load_loihi(), trace),
    ),
    "loihi-sanafe": Baseline(
        "Loihi, forward pass; energies and times fitted to silicon (SANA-FE)",
        lambda trace, table: run_loihi(load_loihi("loihi-sanafe"), trace),
    ),
}


def run_baseline(name: str, trace: Trace, table: EnergyTable) -> Run:
    """A baseline by name on a trace. Raises BaselineError for an unknown name or a trace it cannot run."""
    if name not in BASELINES:
        raise BaselineError(at("baseline", "name", f"one of {', '.join(BASELINES)}", repr(name)))
    return BASELINES[name].run(trace, table)
