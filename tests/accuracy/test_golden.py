"""Golden results: what shipped machines take on shipped traces, under the version of the model that they are kept for.

A result that changes on purpose raises MODEL_VERSION (h2sim/_version.py), so that stored points of a sweep are never
mixed with those of another model; then `python -m tests.accuracy.test_golden` writes the file anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import h2sim
from h2sim._version import MODEL_VERSION
from h2sim.arch import MODES

GOLDEN = Path(__file__).parents[1] / "data" / "golden.json"
CHANGES = {
    **{f"mode-{mode}": {"engines.backward.mode": mode} for mode in MODES},
    "tile-4x8": {"tile": [4, 8]},
    "narrow": {"engines.forward.columns": 8, "engines.backward.rows": 8, "engines.weight_update.columns": 32},
    "adders": {"engines.forward.lut": False, "engines.weight_update.lut": False},
    "slow-memory": {"memory.bandwidth_bytes_per_s": 16_000_000_000, "memory.first_access_cycles": 20},
    "small-buffers": {"engines.backward.buffers.output.bytes": 65536, "engines.forward.buffers.psum.bytes": 8192},
    "gated": {"power_gating": "buffer"},
}
TABLES = ("28nm", "45nm")
TRACES = ("mnist-digits", "mnist-table34")
CASES = [f"{trace} {change}" for trace in TRACES for change in CHANGES]


def digest(case: str) -> str:
    """The hash of all numbers of one machine on one trace, priced by both tables."""
    trace, _, change = case.partition(" ")
    counts = h2sim.count(h2sim.load_arch("h2learn").with_(CHANGES[change]), h2sim.load_trace(trace))
    kept = []
    for table in TABLES:
        found = h2sim.priced(counts, table).to_dict()
        kept.append({key: found[key] for key in ("step", "engines", "layers", "memories", "area_um2", "bill")})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def kept() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_result_changes_only_with_the_version_of_the_model(case):
    assert kept()["model_version"] == MODEL_VERSION, "write the golden results of the new model"
    assert digest(case) == kept()["sha256"][case], "the model has changed: raise MODEL_VERSION in h2sim/_version.py"


def test_every_case_is_kept():
    assert sorted(kept()["sha256"]) == sorted(CASES)


if __name__ == "__main__":
    found = {"model_version": MODEL_VERSION, "sha256": {case: digest(case) for case in CASES}}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
