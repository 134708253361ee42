"""Several traces of one network on one machine: each one's row, the mean of each quantity and its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h2sim.activity import ENGINES
from h2sim.compare.interval import NAME, Interval, interval
from h2sim.compare.ratios import measurement_of
from h2sim.document import Column, Document, Line, amount, frame_csv, significant, table
from h2sim.io.provenance import provenance
from h2sim.report.words import TITLES
from h2sim.result import Result

if TYPE_CHECKING:
    import pandas as pd

    from h2sim.rivals.result import RivalResult

SCHEMA, SCHEMA_VERSION = "h2sim-results", 1
SHOWN = {
    "steady_cycles": "steady cycles",
    **{f"{engine}_compute_cycles": f"{TITLES[engine]} compute" for engine in ENGINES},
    "seconds_per_sample": "time a sample",
    "energy_j_per_sample": "energy a sample",
}


@dataclass(frozen=True)
class Several:
    """The results of several traces of one network, in the order of the command; labels: the traces as named there."""

    labels: tuple[str, ...]
    results: tuple[Result | RivalResult, ...]

    def quantities(self) -> list[dict[str, float]]:
        """Of each trace: cycles of a steady sub-batch, and time and energy of a sample (`quantities`)."""
        return [quantities(result) for result in self.results]

    def intervals(self) -> dict[str, Interval]:
        """The mean of each quantity over the traces, with its interval."""
        rows = self.quantities()
        return {name: interval([row[name] for row in rows]) for name in rows[0]}

    def to_dict(self, command: str | None = None) -> dict[str, Any]:
        """The h2sim-results document: the intervals, then each trace's quantities and its whole h2sim-result."""
        pairs = zip(self.labels, self.quantities(), self.results, strict=True)
        made = provenance(command)
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "h2sim": made["versions"]["h2sim"],
            "provenance": made,
            "interval": {"kind": NAME, "n": len(self.results)},
            "quantities": {name: found.to_dict() for name, found in self.intervals().items()},
            "traces": [
                {"trace": label, "quantities": row, "result": result.to_dict(command)} for label, row, result in pairs
            ],
        }

    def frame(self) -> pd.DataFrame:
        """One row per trace, then `mean`, `low` and `high`; the columns are quantities, then hashes."""
        import pandas as pd

        pairs = zip(self.labels, self.quantities(), self.results, strict=True)
        rows: list[dict[str, Any]] = [
            {"trace": label, "network": result.workload.network, **row, **result.hashes} for label, row, result in pairs
        ]
        found = self.intervals()
        network = self.results[0].workload.network
        shared = {name: value for name, value in self.results[0].hashes.items() if name != "trace_sha256"}
        for end in ("mean", "low", "high"):
            rows.append(
                {"trace": end, "network": network, **{name: getattr(i, end) for name, i in found.items()}, **shared}
            )
        return pd.DataFrame(rows)

    def to_csv(self) -> str:
        """The frame as CSV text."""
        return frame_csv(self.frame())

    def document(self) -> Document:
        """For people: what a sub-batch takes on average and within which interval, then a row per trace."""
        found, n, first = self.intervals(), len(self.results), self.results[0]
        time, energy = found["seconds_per_sample"], found["energy_j_per_sample"]
        machine = first.arch.name if isinstance(first, Result) else first.system
        synthetic = ", SYNTHETIC masks" if any(r.workload.source == "synthetic" for r in self.results) else ""
        verdict = (
            f"{first.workload.network} on {machine}{synthetic}, {n} traces: a sample takes {_spread(time, 's')} and "
            f"{_spread(energy, 'J')} on chip ({NAME} interval of the mean, n = {n})."
        )
        names = [name for name in SHOWN if name in found]
        rows = [(label, *(_shown(name, row[name]) for name in names))
                for label, row in zip(self.labels, self.quantities(), strict=True)]  # fmt: skip
        rows += [(title, *(_shown(name, getattr(found[name], end)) for name in names))
                 for title, end in (("mean", "mean"), ("interval, from", "low"), ("interval, to", "high"))]  # fmt: skip
        columns = [Column("trace", prose=True)]
        shown = table("Traces", columns, [SHOWN[name] for name in names], rows, elsewhere="--csv FILE")
        return Document(
            verdict,
            (Line("It says how far sub-batches of one run differ, and nothing of how far other runs would."), shown),
        )


def quantities(result: Result | RivalResult) -> dict[str, float]:
    """The numbers of one result that are averaged over traces.

    Cycles are of a steady sub-batch; seconds and joules of a sample, as `h2sim compare` takes them (whole batches with
    their update; on chip).
    """
    found: dict[str, float] = {}
    if isinstance(result, Result):
        measured = measurement_of(result.to_dict(), result.arch.name)
        found["steady_cycles"] = result.activity.steady_cycles
        found |= {f"{engine}_compute_cycles": result.engine(engine).compute_cycles for engine in ENGINES}
    else:
        measured = result.measurement()
    found["seconds_per_sample"] = measured.seconds_per_sample
    found["energy_j_per_sample"] = measured.energy_j_per_sample or 0.0
    return found


def _spread(found: Interval, unit: str) -> str:
    return f"{amount(found.mean, unit)} ({amount(found.low, unit)} to {amount(found.high, unit)})"


def _shown(name: str, value: float) -> str:
    if name.endswith("_cycles"):
        return f"{value:,.0f}" if value >= 100 else significant(value)
    return amount(value, "s" if name.startswith("seconds") else "J")
