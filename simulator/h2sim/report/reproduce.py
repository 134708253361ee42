"""A reproduction in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from h2sim.reproduce.claims import Assumption, Claim
from h2sim.reproduce.sensitivity import Row
from h2sim.reproduce.summary import number, summary, tally

if TYPE_CHECKING:
    from rich.console import Console


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    return table


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """What reproduces and what does not, in words; then every claim: ours, theirs, error, verdict."""
    for sentence in summary(rows):
        console.print(sentence)
    console.print()
    table = _table(
        ("claim", False), ("ours", True), ("theirs", True), ("unit", False), ("error", True), ("verdict", False)
    )
    for row in rows:
        bound = {"below": "<", "above": ">", "about": "~"}.get(row.claim.relation, "")
        error = f"{row.error:+.1%}" if row.claim.relation in ("equal", "about") else ""
        theirs = bound + number(row.claim.theirs)
        table.add_row(row.claim.what, number(row.ours), theirs, row.claim.unit, error, row.verdict)
    console.print(table)
    console.print()
    console.print(tally(rows))


def print_claims(console: Console, claims: Mapping[str, Claim], assumptions: Mapping[str, Assumption]) -> None:
    """Every claim by name with where it stands and what it hangs on; then the assumptions."""
    table = _table(("claim", False), ("theirs", True), ("unit", False), ("what", False), ("hangs on", False))
    for name, claim in claims.items():
        table.add_row(name, number(claim.theirs), claim.unit, claim.what, ", ".join(claim.hangs_on))
    console.print(table)
    console.print()
    table = _table(("assumption", False), ("default", False), ("swept over", False))
    for name, assumption in assumptions.items():
        table.add_row(name, assumption.default, "; ".join(point.label for point in assumption.points))
    console.print(table)
