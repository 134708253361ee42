"""Reprs: a public value shows itself in one short line, whatever it holds."""

from __future__ import annotations

import pytest

from h2sim.arch import load_arch
from h2sim.energy import load_energy_table, price
from h2sim.pipeline.step import build_jobs, simulate_step
from h2sim.trace import load_network, load_trace
from h2sim.trace.summary import trace_counts

ARCH, TRACE, TABLE = load_arch("h2learn"), load_trace("mnist-digits"), load_energy_table("28nm")
ACTIVITY = simulate_step(ARCH, TRACE)
JOB = build_jobs(ARCH, TRACE)[0][0]
COST = price(ACTIVITY, ARCH, TABLE)
VALUES = {
    "arch": (ARCH, "Arch('h2learn': 800 MHz, forward 64x16x4, "),
    "engines": (ARCH.engines, "Engines(forward 64x16x4, "),
    "engine": (ARCH.engines.forward, "ForwardEngine(64x16x4)"),
    "trace": (TRACE, "Trace('mnist-digits.npz': mnist-small on "),
    "metadata": (TRACE.meta, "TraceMeta(mnist-small on "),
    "layer": (TRACE.meta.layers[0], "Layer('conv1': conv (1, 28, 28) -> (32, 28, 28))"),
    "maps": (TRACE.maps, "Maps(Trace('mnist-digits.npz'"),
    "counts": (trace_counts(TRACE)[0], "LayerCounts('conv1': spikes "),
    "network": (load_network("mnist"), "Network('mnist': "),
    "table": (TABLE, "EnergyTable('28nm': first-principles, 28 nm, 0.9 V)"),
    "macros": (TABLE.sram, "Sram(itrs-hp at 300 K: "),
    "prices": (TABLE.actions, "ActionPrices(fp16_add 0.208, "),
    "LUT": (TABLE.luts[0], "LutPrice("),
    "activity": (ACTIVITY, "Activity(20 rows, "),
    "row": (ACTIVITY.layers[0], "LayerActivity(conv1 forward on forward: cycles "),
    "job": (JOB, "Job(conv1 forward on forward: 32 iterations, "),
    "traffic": (JOB.traffic, "Traffic(32 iterations, "),
    "cost": (COST, "Cost("),
    "area": (COST.area, "Area("),
    "line of the bill": (COST.reconcile()[0], "BillLine("),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_public_value_shows_itself_in_one_short_line(name):
    value, begins = VALUES[name]
    assert repr(value).startswith(begins)
    assert len(repr(value)) <= 200
    assert repr(value).isprintable()
