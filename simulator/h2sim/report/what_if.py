"""What single changes of a machine would do to a step, and to what bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from h2sim.document import Table, percent, table, times
from h2sim.report.bounds import NAMES, by_resource

if TYPE_CHECKING:
    from h2sim.result import Result


@dataclass(frozen=True)
class WhatIf:
    """A change, as it was typed (FIELD=VALUE), and the step of the machine with it alone changed."""

    setting: str
    result: Result

    def to_dict(self, before: Result) -> dict[str, Any]:
        """The change as the h2sim-result document holds it; speedup: cycles before / cycles with the change."""
        a, bounds = self.result.activity, self.result.activity.bounds
        return {
            "setting": self.setting,
            "steady_cycles": a.steady_cycles,
            "speedup": _speedup(before, self.result),
            "energy_j": self.result.cost.energy_j,
            "area_um2": self.result.cost.area.total_um2,
            "bounds": [asdict(part) for part in bounds.parts] if bounds else [],
        }


def what_if_table(before: Result, changes: Sequence[WhatIf]) -> Table:
    """The machine as it is, then each change alone: cycles, how many times faster, energy, area, what then bounds."""
    columns = ["cycles", "faster", "energy uJ", "area mm2", "share"]
    rows = [_row("as it is", before, before), *(_row(change.setting, before, change.result) for change in changes)]
    return table("What if", ["change", "bound by"], columns, rows, drop=("area mm2", "energy uJ"))


def _row(name: str, before: Result, result: Result) -> tuple[str, ...]:
    bounds = result.activity.bounds
    resource, cycles = by_resource(bounds.parts)[0] if bounds and bounds.parts else ("-", 0)
    step = result.activity.steady_cycles
    return (
        name,
        NAMES.get(resource, resource).removeprefix("the "),
        f"{step:,}",
        times(_speedup(before, result)),
        f"{result.cost.energy_j * 1e6:,.2f}",
        f"{result.cost.area.total_um2 / 1e6:.2f}",
        percent(cycles / step if step else None, 0),
    )


def _speedup(before: Result, result: Result) -> float | None:
    step = result.steady_seconds
    return before.steady_seconds / step if step else None
