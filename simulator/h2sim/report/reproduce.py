"""A reproduction as documents: every claim with its verdict, or what there is to claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from h2sim.document import Column, Document, Line, table
from h2sim.reproduce.claims import Assumption, Claim
from h2sim.reproduce.sensitivity import Row
from h2sim.reproduce.summary import number, summary, tally

BOUNDS = {"below": "<", "above": ">", "about": "~"}


def rows_document(rows: Sequence[Row]) -> Document:
    """Every claim: ours, theirs, error, verdict."""
    claim, verdict = Column("claim", prose=True), Column("verdict", prose=True)
    columns = [claim, *(Column(name, right=True) for name in ("ours", "theirs")), Column("unit", drop=1)]
    found = table("Claims", [*columns, Column("error", right=True), verdict], [], map(_row, rows))
    first, *more = summary(rows)
    return Document(first, (*map(Line, more), found, Line(f"{tally(rows)}.")))


def _row(row: Row) -> tuple[str, ...]:
    claim = row.claim
    error = f"{row.error:+.1%}" if claim.relation in ("equal", "about") else ""
    theirs = BOUNDS.get(claim.relation, "") + number(claim.theirs)
    return claim.what, number(row.ours), theirs, claim.unit, error, row.verdict


def claims_document(claims: Mapping[str, Claim], assumptions: Mapping[str, Assumption]) -> Document:
    """Every claim by name with where it stands and what it hangs on; then the assumptions."""
    what, hangs_on = Column("what", prose=True, key="claim"), Column("hangs on", prose=True)
    columns = [Column("claim"), Column("theirs", right=True), Column("unit"), what, hangs_on]
    rows = [(name, number(c.theirs), c.unit, c.what, ", ".join(c.hangs_on)) for name, c in claims.items()]
    swept = [(name, a.default, "; ".join(point.label for point in a.points)) for name, a in assumptions.items()]
    assumed = [Column("assumption"), Column("default", prose=True), Column("swept over", prose=True)]
    verdict = f"{len(claims)} claims of the source, and {len(assumptions)} assumptions that they hang on."
    return Document(verdict, (table("Claims", columns, [], rows), table("Assumptions", assumed, [], swept)))
