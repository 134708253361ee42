"""A rival in a package of one's own: registered by the entry point h2sim.machines, it is a machine like any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Literal

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from pydantic import Field

import h2sim
from h2sim.cli import main
from h2sim.errors import ArchError, BaselineError
from h2sim.memory.traffic import Traffic
from h2sim.rivals import registry
from h2sim.rivals.clocked import Clocked, Work
from h2sim.rivals.machine import ClockedMachine, Size
from h2sim.rivals.maps import shape_of
from h2sim.rivals.prices import Count, Price, PriceBook
from h2sim.rivals.stationary import make_job

FILE = """
machine: tally
name: tally
node_nm: 28
clock_hz: 100000000
memory: {bandwidth_bytes_per_s: 1000000000}
lanes: 4
"""


class Tally(ClockedMachine):
    """A machine that adds a few neurons' bits a cycle."""

    machine: Literal["tally"] = Field(description="kind of machine")  # pyright: ignore[reportIncompatibleVariableOverride]
    lanes: Size = Field(description="additions in a cycle")


class TallyKind(Clocked[Tally]):
    """All that a rival must say."""

    what = "a tally of neurons"
    schema = Tally

    def refuses(self, machine, graph, layer):
        return None if layer.has_weights else "it has no weights"

    def work(self, machine, trace, graph, layer, phase):
        elements = trace.meta.timesteps * trace.meta.batch * layer.neurons
        shape = shape_of(trace.meta, layer)
        cycles = np.full((1, shape.batch, 1), -(-elements // (machine.lanes * shape.batch)), np.int64)
        zero = np.zeros_like(cycles)
        moved = Traffic(
            reads=zero + 8, writes=zero, gradient_reads=zero, gradient_writes=zero, pieces=zero + 1, buffers=()
        )
        return Work(make_job(layer.name, phase, cycles, 1, moved, ()), (Count("adder", "tallied", elements),))

    def prices(self, machine, table):
        return PriceBook(
            prices={("adder", "tallied"): Price(0.5, "assumed for a test")}, buffers={}, buffer_source="",
            logic_area_um2={"adder": 10.0}, logic_leakage_w=0.0, beside={}, unpriced={},
        )  # fmt: skip

    def lanes(self, machine):
        return machine.lanes

    def weight_bits(self, machine):
        return 8

    def notes(self, machine):
        return ("made up",)


class Careless(TallyKind):
    """It counts what it has no price for."""

    def work(self, machine, trace, graph, layer, phase):
        found = super().work(machine, trace, graph, layer, phase)
        return Work(found.job, (Count("adder", "forgotten", 1),))


RIVAL, CARELESS = TallyKind(), Careless()


@pytest.fixture
def another_package(monkeypatch):
    entries = [
        EntryPoint("tally", f"{__name__}:RIVAL", registry.GROUP),
        EntryPoint("careless", f"{__name__}:CARELESS", registry.GROUP),
        EntryPoint("broken", "no_such_package.of_anyone:RIVAL", registry.GROUP),
        EntryPoint("odd", f"{__name__}:FILE", registry.GROUP),
        EntryPoint("class", f"{__name__}:TallyKind", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "tally.yaml").write_text(FILE)
    return tmp_path / "tally.yaml"


def test_it_runs_is_billed_reported_and_compared(another_package, file, tmp_path):
    out = tmp_path / "r.json"
    done = CliRunner().invoke(main, ["run", str(file), "mnist-digits", "--set", "lanes=8", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "pool1" in done.stdout
    assert "not supported" in done.stdout
    result = h2sim.read_result(out)
    assert result.bill_energy_j == pytest.approx(result.step.energy_j, rel=1e-12)
    assert result.arch.parameters["lanes"] == 8
    trace = h2sim.load_trace("mnist-digits")
    counted = trace.meta.timesteps * trace.meta.batch * sum(x.neurons for x in trace.meta.layers if x.has_weights)
    assert [(line.action, line.count) for line in result.bill if line.component == "adder"] == [("tallied", counted)]
    ours = tmp_path / "h.json"
    assert CliRunner().invoke(main, ["run", "h2learn", "mnist-digits", "--json", str(ours)]).exit_code == 0
    done = CliRunner().invoke(main, ["compare", str(ours), "--machine", str(file)])
    assert done.exit_code == 0, done.output
    assert "tally over h2learn, per sample" in done.stdout


def test_the_command_line_knows_its_kind(another_package):
    assert registry.kinds()[-5:] == ["broken", "careless", "class", "odd", "tally"]
    schema = CliRunner().invoke(main, ["arch", "schema", "--machine", "tally"])
    assert json.loads(schema.stdout)["properties"]["lanes"]["description"] == "additions in a cycle"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("broken", r"^machine broken: no_such_package.of_anyone:RIVAL: cannot be imported: No module named"),
        ("odd", r"^machine odd: .*:FILE: expected an object with what, schema \(a RivalMachine\) and run, .*; got"),
        ("class", r"^machine class: .*:TallyKind: expected an object with what"),
        ("nobody", r"^arch file: machine: expected one of h2learn, .*, tally; got 'nobody'$"),
    ],
)
def test_a_package_at_fault_is_named_in_one_line(another_package, kind, message):
    with pytest.raises(ArchError, match=message):
        registry.rival(kind)


def test_an_event_without_a_price_is_refused(another_package):
    machine = Tally.model_validate(yaml.safe_load(FILE))
    with pytest.raises(BaselineError, match=r"^adder: forgotten: price: expected one in the machine's price book, or"):
        CARELESS.run(machine, h2sim.load_trace("mnist-digits"), h2sim.load_energy_table("28nm"))


def test_a_distribution_on_the_path_is_found(tmp_path, file):
    """Not a patched list: a folder with metadata as pip installs it, seen by another process."""
    info = tmp_path / "site" / "tally_machine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tally-machine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[h2sim.machines]\ntally = {__name__}:RIVAL\n")
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join([str(tmp_path / "site"), here, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "h2sim", "run", str(file), "mnist-digits"], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mnist-small on tally: the forward pass of 4 samples")
