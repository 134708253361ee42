"""Where a result comes from: command, versions, hashes, how its trace was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.document.page import Pairs, Prose, Section
from h2sim.pages.view import ResultView

if TYPE_CHECKING:
    from h2sim.trace import Trace


def origin_section(view: ResultView, trace: Trace | None) -> Section:
    """Enough to run it again, and to see whether it is the same."""
    found, provenance = view.found, view.found.provenance
    versions = provenance.get("versions", {})
    told = [
        ("command", provenance.get("command") or "not said"),
        ("commit", provenance.get("git_commit") or "not said"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not said"),
        ("machine", f"{found.arch.name}, sha256 {found.arch.sha256}"),
        ("trace", f"sha256 {found.workload.sha256}"),
        ("masks", found.workload.source),
        ("energy table", f"{found.energy_table.name}, sha256 {found.energy_table.sha256}"),
    ]
    made = [(str(name), str(value)) for name, value in trace.meta.source.items()] if trace else []
    how = (Prose("How the trace was made:"), Pairs(tuple(made), code=True)) if made else ()
    return Section("origin", "Origin", "Where this comes from", (Pairs(tuple(told), code=True), *how))
