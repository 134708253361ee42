"""reports/supported.md, the page of what can be exported: how it is made, and whether it is of this exporter."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from torch import nn

from h2sim import export
from h2sim.errors import ExportError
from h2sim.export.roles import role_of
from tests.helpers.models import TARGETS, Lif, Loop, mean_loss, spikes, torch
from tests.helpers.supported import COMMAND, LIBRARIES, RULES, Seen, page, watch

PAGE = (Path(__file__).parents[2] / "reports" / "supported.md").read_text()
ROW = re.compile(
    r"\| (?P<library>[\w ]+) \| `(?P<name>[\w ]+)` \| (?P<part>[^|]+) \| (?P<rule>.+) \| (?P<tests>\d+) \|"
)
ROWS = [found.groupdict() for found in map(ROW.fullmatch, PAGE.splitlines()) if found]
HOMES = {
    "PyTorch": ("torch.nn", "torch.nn.utils.parametrize"),
    "SpikingJelly": ("spikingjelly.activation_based.layer", "spikingjelly.activation_based.neuron"),
    "snnTorch": ("snntorch",),
    "Norse": ("norse.torch",),
    "sinabs": ("sinabs.layers",),
    "NIR": ("nir",),
}


def test_every_library_and_every_rule_is_on_the_page():
    assert {row["library"] for row in ROWS} >= {"PyTorch", "SpikingJelly", "snnTorch", "Norse", "sinabs", "NIR", "any"}
    assert {row["part"] for row in ROWS} == set(RULES)
    assert all(row["rule"] == RULES[row["part"]] and int(row["tests"]) > 0 for row in ROWS)
    assert COMMAND in PAGE


@pytest.mark.parametrize("library", HOMES)
def test_the_modules_of_the_page_are_those_of_the_library(library):
    """A renamed class would leave a row of nothing."""
    homes = []
    for name in HOMES[library]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *args, **options: None)
            homes.append(pytest.importorskip(name))
    of_library = [row["name"] for row in ROWS if row["library"] == library]
    assert of_library
    missing = [name for name in of_library if not any(hasattr(home, name) for home in homes)]
    assert [name for name in missing if not name.startswith("Parametrized")] == []


@pytest.fixture
def seen(monkeypatch):
    pytest.importorskip("nir")
    names = ("forward", "obstacles", "nirnodes")
    forward, obstacles, nirnodes = (importlib.import_module(f"h2sim.export.{name}") for name in names)
    monkeypatch.setattr(forward, "read_step", forward.read_step)
    monkeypatch.setattr(nirnodes.Reader, "pieces", nirnodes.Reader.pieces)
    monkeypatch.setattr(obstacles.Obstacles, "check", obstacles.Obstacles.check)
    found = Seen()
    watch(found)
    return found


def test_what_an_export_used_and_what_was_refused_come_on_the_page(seen):
    torch.manual_seed(0)
    model = Loop(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), Lif(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    seen.start()
    export.trace(model, spikes(2, 6, 6), TARGETS, mean_loss)
    seen.end("first", passed=True)
    seen.start()
    with pytest.raises(ExportError):
        export.trace(Loop(nn.Conv2d(2, 4, 3, dilation=2), Lif()), spikes(2, 6, 6), TARGETS, mean_loss)
    seen.end("second", passed=True)
    seen.start()
    export.trace(Loop(nn.Linear(8, 3), Lif()), spikes(8), TARGETS, mean_loss)
    seen.end("third", passed=False)
    text = page(seen)
    assert "| PyTorch | `MaxPool2d` | maximum | `pool`, mode max: spikes stay spikes" in text
    assert "| PyTorch | `BatchNorm2d` | norm of the step |" in text
    assert "| Conv2d | dilation (2, 2); the machine's windows are dense (1, 1) (set dilation=1) | 1 |" in text
    assert (
        "| PyTorch | `Linear` | linear | weights: `fc`, a convolution of one position on the analog input | 1 |" in text
    )
    assert seen.failed == ["third"]
    assert set(LIBRARIES.values()) >= {row["library"] for row in ROWS} - {"any"}


def test_a_module_of_the_page_still_has_its_part():
    for name, part in (("Conv2d", "conv"), ("Linear", "linear"), ("BatchNorm2d", "norm"), ("MaxPool2d", "map")):
        sizes = {"Conv2d": (2, 2, 1), "Linear": (2, 2), "BatchNorm2d": (2,), "MaxPool2d": (2,)}[name]
        role = role_of(getattr(nn, name)(*sizes), name)
        assert role is not None
        assert role.name == part
        assert any(row["name"] == name for row in ROWS)
