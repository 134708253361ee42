"""Bit planes in the RTL: their order, their shift, and that a wrong one in the RTL itself is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from h2sim.arch import load_arch
from h2sim.reference.array import LutArray
from h2sim.rtl import lut_column
from h2sim.rtl.bench import AmaranthBench, AmaranthRun
from h2sim.rtl.check import differences
from h2sim.rtl.draw import WIDTHS, bits, counts
from h2sim.rtl.layers import layer_of
from h2sim.rtl.lut_engine import STREAM_LOOPS
from h2sim.rtl.mutations import mutation_machine
from h2sim.rtl.primitives import COUNT_BITS, delay

PLANES = 4
KINDS = ("forward_conv", "forward_fc", "weight_update_conv", "weight_update_fc")
MACHINES = {
    engine: replace(mutation_machine(load_arch("h2learn"), engine), planes=PLANES)
    for engine in ("forward", "weight_update")
}


def busy(layer):
    """Whether a seventh of the windows of every plane hold spikes."""
    words = layer.case.images["spikes"].words
    axis = words.ndim - 1 - (3 if layer.kind.startswith("forward") else 2)
    return bool(((words != 0).mean(tuple(a for a in range(words.ndim) if a != axis)) > 0.15).all())


def small_layer(kind, most_cycles=800):
    """The first busy layer of a kind with three planes or more, on the machine of its engine, that ends soon."""
    hardware = MACHINES[kind.rsplit("_", 1)[0]]
    for seed in range(1000):
        layer = layer_of(hardware, kind, seed)
        if layer.planes >= 3 and layer.reference.cycles < most_cycles and layer.case.stall_seed == 0 and busy(layer):
            return hardware, layer
    raise AssertionError(kind)


def test_the_machines_have_room_for_the_planes_that_are_drawn():
    assert 1 << WIDTHS.plane_bits == PLANES


def test_the_lowest_plane_of_counts_is_the_binary_layers_spikes_and_the_others_are_drawn():
    spikes = bits(np.random.default_rng(3), (4, 2, 3, 5, 5))
    k, planes = counts(spikes, 1, 0)
    assert planes == 1
    assert np.array_equal(k, spikes)
    seen = set()
    for seed in range(60):
        k, planes = counts(spikes, PLANES, seed)
        assert np.array_equal(k & 1, spikes)
        assert 0 <= k.min() <= k.max() < 1 << planes
        seen.add(planes)
    assert seen == {1, 2, 3, 4}


def planes_of_cycles(hardware, layer, monkeypatch):
    """The plane of every cycle in which the RTL of a convolution streams."""
    loops, found = STREAM_LOOPS[hardware.engine], []
    served = AmaranthRun._served

    def noting(self, port):
        if port.name == "spikes" and self.ctx.get(self.engine.streaming):
            low = (len(port.shared) - len(loops) + loops.index("plane")) * COUNT_BITS
            found.append(self.get("spikes_shared") >> low & ((1 << COUNT_BITS) - 1))
        return served(self, port)

    monkeypatch.setattr(AmaranthRun, "_served", noting)
    list(AmaranthBench(hardware.parameters()).run([layer.case]))
    return found


@pytest.mark.parametrize("kind", ["forward_conv", "weight_update_conv"])
def test_planes_pass_lowest_first_in_the_cycles_of_the_stepped_engine(kind, monkeypatch):
    hardware, layer = small_layer(kind)
    stepped, accumulate = {}, LutArray.accumulate

    def noting(self, addresses, column, psum, plane=0):
        stepped[self.bench.clock.now] = plane
        return accumulate(self, addresses, column, psum, plane)

    monkeypatch.setattr(LutArray, "accumulate", noting)
    layer_of(hardware, kind, layer.seed)
    assert planes_of_cycles(hardware, layer, monkeypatch) == [stepped[cycle] for cycle in sorted(stepped)]
    assert set(stepped.values()) == set(range(layer.planes))


SHIFTED = lut_column.shifted
BROKEN = {
    "not shifted": lambda m, value, plane: value,
    "one too many": lambda m, value, plane: SHIFTED(m, value, plane + 1),
    "a cycle late": lambda m, value, plane: SHIFTED(m, value, delay(m, plane, 1)),
    "lowest bit of the number alone": lambda m, value, plane: SHIFTED(m, value, plane[0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_shift_in_the_rtl_is_noticed(kind, monkeypatch):
    hardware, layer = small_layer(kind)
    for broken in (None, *BROKEN):
        monkeypatch.setattr(lut_column, "shifted", BROKEN.get(broken, SHIFTED))
        (run,) = AmaranthBench(hardware.parameters()).run([layer.case])
        assert bool(differences(layer, run)) == (broken is not None), broken
