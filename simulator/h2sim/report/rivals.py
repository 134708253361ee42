"""Baselines in the terminal: the list, the published rows, one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from h2sim.compare.published import PublishedRow
from h2sim.report.text import new_table
from h2sim.rivals.loihi.run import LoihiResult
from h2sim.rivals.loihi.show import show_loihi
from h2sim.rivals.registry import Baseline, Run
from h2sim.rivals.spinalflow.run import SpinalFlowResult
from h2sim.rivals.spinalflow.show import print_spinalflow

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, result: Run) -> None:
    """The whole result of a baseline's run."""
    if isinstance(result, SpinalFlowResult):
        print_spinalflow(console, result)
    elif isinstance(result, LoihiResult):
        show_loihi(console, result)
    else:
        raise TypeError(f"no report for {type(result).__name__}")


def baselines_table(console: Console, baselines: Mapping[str, Baseline]) -> None:
    """Name and what it is."""
    table = new_table("Machines that run on traces", ["name", "what"], [])
    for name, entry in baselines.items():
        table.add_row(name, entry.what)
    console.print(table)


def published_table(console: Console, rows: Sequence[PublishedRow]) -> None:
    """Systems as published, with what they were reported to take for a sample."""
    table = new_table("As published", ["name", "system", "network"], ["s/sample", "J/sample", "mm2", "nm"])
    for row in rows:
        work = row.workload
        numbers = (work.seconds if work else None, work.energy_j if work else None, row.area_mm2, row.node_nm)
        table.add_row(
            row.name, row.system, work.network if work else "-", *("-" if n is None else f"{n:g}" for n in numbers)
        )
    console.print(table)
