"""Pages of each kind, written once by the commands that users type."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from h2sim.cli import main

ROOT = Path(__file__).parents[2]
SWEEP = """
traces: [mnist-digits]
method: random
seed: 1
budget: 40
parameters:
  engines.forward.rows: {log2: [16, 64]}
  engines.backward.rows: [8, 16, 32]
  tile: {values: [[4, 4], [8, 8], [16, 16]]}
  memory.bandwidth_bytes_per_s: [64 GB/s, 128 GB/s, 256 GB/s]
objectives: {seconds: minimize, energy_j: minimize, area_mm2: minimize}
"""


def run(*arguments: str) -> str:
    """A command that ends well; what it printed."""
    found = CliRunner().invoke(main, list(arguments))
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind: kind -> file."""
    place = tmp_path_factory.mktemp("pages")
    before = Path.cwd()
    os.chdir(place)  # names in pages are those that were typed
    try:
        (place / "space.yaml").write_text(SWEEP)
        run("run", "h2learn", "mnist-digits", "--json", "ours.json", "--html", "result.html")
        run("run", "h2learn", "mnist-digits", "--set", "memory.bandwidth_bytes_per_s=512e9", "--json", "fast.json")
        run("run", "spinalflow", "mnist-digits", "--html", "rival.html")
        run("run", "loihi", "mnist-digits", "--html", "loihi.html")
        run("report", "ours.json", "--html", "stored.html")
        run(
            "compare",
            "ours.json",
            "fast.json",
            "--machine",
            "spinalflow",
            "--machine",
            "loihi",
            "--html",
            "compare.html",
        )
        run("sweep", "space.yaml", "-o", "space", "--workers", "0")
        run("sweep", "report", "space", "-o", "sweep.html")
    finally:
        os.chdir(before)
    kinds = ("result", "rival", "loihi", "stored", "compare", "sweep")
    return {
        **{kind: place / f"{kind}.html" for kind in kinds},
        "reproduce": ROOT / "reports" / "h2learn" / "index.html",
    }
