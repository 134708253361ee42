"""Every kind of file that h2sim reads."""

from __future__ import annotations

from tests.fuzz import kinds_data, kinds_extra, kinds_machine, kinds_results
from tests.fuzz.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (*kinds_machine.KINDS, *kinds_results.KINDS, *kinds_data.KINDS, *kinds_extra.KINDS)
}
