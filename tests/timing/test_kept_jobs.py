"""An open trace keeps jobs from one machine to the next: whatever is changed of a machine, its own come out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from h2sim.arch import Arch, load_arch
from h2sim.errors import H2SimError
from h2sim.pipeline.step import simulate_step
from h2sim.trace import Sparsity, load_network, load_trace, synthesise, write_trace

ARCH = load_arch("h2learn").with_({"engines.forward.rows": 8, "engines.backward.rows": 8})
NAMES = ("mode", "lanes", "power_gating")


def others(path: str, value: object) -> list[object]:
    """Other values that a field may take."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value // 2]
    if path.rpartition(".")[2] in NAMES:
        words = ("dense", "input_only", "output_only", "samples", "channels", "engine", "buffer")
        return [word for word in words if word != value]
    return []


def leaf(arch: Arch, path: str) -> object:
    found: object = arch
    for part in path.split("."):
        found = getattr(found, part)
    return found


def paths(data: dict, before: str = "") -> Iterator[str]:
    """The dotted paths of all values."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from paths(value, f"{before}{name}.")
        else:
            yield before + name


def is_machine(path: str, value: object) -> bool:
    try:
        ARCH.with_({path: value})
    except H2SimError:
        return False
    return True


CHANGES = [
    (path, value)
    for path in paths(ARCH.model_dump())
    for value in others(path, leaf(ARCH, path))
    if is_machine(path, value)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("t") / "t.npz"
    network = load_network("4C3(Encoding)-6C3-AP2-6C3S2-20FC-5FC", (2, 12, 12))
    write_trace(made, *synthesise(network, 3, 3, Sparsity(0.7, 0.5, 0.6), seed=1))
    return made


@pytest.fixture(scope="module")
def kept(path):
    """A trace on which a machine was simulated before."""
    trace = load_trace(path)
    simulate_step(ARCH, trace)
    return trace


@pytest.mark.parametrize(("field", "value"), CHANGES, ids=[f"{field}={value}" for field, value in CHANGES])
def test_a_changed_machine_is_simulated_as_on_a_fresh_trace(field, value, path, kept):
    changed = ARCH.with_({field: value})
    assert simulate_step(changed, kept) == simulate_step(changed, load_trace(path))
    assert simulate_step(ARCH, kept) == simulate_step(ARCH, load_trace(path))


def test_enough_changes_are_tried_and_some_change_the_step(path):
    fresh = load_trace(path)
    before = simulate_step(ARCH, fresh)
    fields = {field for field, _ in CHANGES}
    assert {"tile.height", "latency.fp16_add", "engines.backward.rows", "engines.weight_update.lanes"} <= fields
    assert simulate_step(ARCH.with_({"latency.soma": ARCH.latency.soma + 1}), fresh) != before
