"""Figure 3.14: the CIFAR10 network's layers, against SpinalFlow (forward) and against a V100's peak."""

from __future__ import annotations

import math
from itertools import product

import pandas as pd

from h2sim.compare.measurement import Measurement, Part
from h2sim.compare.published import published_row
from h2sim.compare.ratios import Comparison, Ratio, compare
from h2sim.energy import area, load_energy_table, price
from h2sim.reproduce.dense import layer_operations, layer_phases
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting
from h2sim.rivals.spinalflow.run import run_spinalflow
from h2sim.rivals.spinalflow.schema import load_spinalflow

NETWORK = "cifar10"


def forward_engine(lab: Lab, setting: Setting) -> Measurement:
    """The Forward Engine alone: its layers with weights run one at a time, each with the memory to itself; its area
    alone."""
    arch, table, trace = lab.arch(setting), lab.table(setting), lab.trace(NETWORK, setting)
    parts = []
    for layer in trace.meta.layers:
        if layer.kind in ("conv", "fc"):
            activity = lab.layer(arch, setting, "forward", NETWORK, layer.name)
            energy = 1e-12 * math.fsum(price(activity, arch, table).layer_energy_pj(0).values())
            parts.append(Part(layer.name, "forward", activity.steady_cycles / arch.clock_hz, energy))
    blocks = [b.area_um2 for b in area(arch, table).blocks if b.engine == "forward"]
    seconds, energy = math.fsum(p.seconds for p in parts), math.fsum(p.energy_j or 0.0 for p in parts)
    return Measurement(
        system="Forward Engine",
        kind="simulated",
        network=NETWORK,
        samples=trace.meta.batch,
        seconds=seconds,
        energy_j=energy,
        area_mm2=math.fsum(blocks) / 1e6,
        node_nm=table.node_nm,
        phases=("forward",),
        parts=tuple(parts),
    )


def against_spinalflow(lab: Lab, setting: Setting) -> Comparison:
    """The Forward Engine compared with SpinalFlow on the same masks, memory model and energy table."""
    reading = setting.reading
    ran = lab.once(
        ("spinalflow", lab.trace(NETWORK, setting).sha256, setting.table, str(reading.spinalflow_coding)),
        lambda: run_spinalflow(
            load_spinalflow(),
            lab.trace(NETWORK, setting),
            load_energy_table(setting.table),
            coding=reading.spinalflow_coding,
        ),
    )
    published = reading.spinalflow_figures == "published"
    return compare(forward_engine(lab, setting), ran.as_published() if published else ran.measurement())


def _shared(lab: Lab, setting: Setting) -> Ratio:
    return against_spinalflow(lab, setting).phases[0]


def spinalflow_energy(lab: Lab, setting: Setting) -> float:
    """SpinalFlow's energy over the Forward Engine's, for the layers that both run."""
    saving = _shared(lab, setting).energy_saving
    assert saving is not None
    return saving


def spinalflow_area(lab: Lab, setting: Setting) -> float:
    """SpinalFlow's area over the Forward Engine's.

    With reading.equal_throughput: the area of as many SpinalFlows as are together as fast as the Forward Engine.
    """
    comparison = against_spinalflow(lab, setting)
    assert comparison.area_saving is not None
    machines = comparison.phases[0].speedup or 1.0 if setting.reading.equal_throughput else 1.0
    return comparison.area_saving * machines


MEASURES: dict[str, Measure] = {"spinalflow-area": spinalflow_area, "spinalflow-energy": spinalflow_energy}


def spinalflow_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.14a: time and energy per sample of both machines, and area at equal throughput; one row per layer and
    reading."""
    rows = []
    for coding, figures in product(("first_spike", "every_spike"), ("published", "simulated")):
        reading = {"spinalflow_coding": coding, "spinalflow_figures": figures}
        comparison = against_spinalflow(lab, setting.changed({"reading": reading}))
        for ratio in (*comparison.layers, *comparison.phases):
            rows.append({
                "coding": coding, "figures": figures, "layer": ratio.layer, "fe_seconds": ratio.ours_seconds,
                "spinalflow_seconds": ratio.theirs_seconds, "speedup": ratio.speedup,
                "fe_energy_j": ratio.ours_energy_j,
                "spinalflow_energy_j": ratio.theirs_energy_j, "energy_saving": ratio.energy_saving,
                "fe_mm2": comparison.ours.area_mm2, "spinalflow_mm2": comparison.theirs.area_mm2,
                "area_saving_at_equal_throughput": (comparison.area_saving or 0.0) * (ratio.speedup or 0.0),
            })  # fmt: skip
    return pd.DataFrame(rows)


def layer_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.14b: every layer and phase alone on its engine, per sample, beside a V100 at its peak.

    operations: those of the dense layer over all timesteps, two per multiply-accumulate.
    """
    arch, trace = lab.arch(setting), lab.trace(NETWORK, setting)
    peak_flops = 1e12 * published_row("v100").spec("peak").value
    rows = []
    for layer in trace.meta.layers:
        operations = layer_operations(layer, trace.meta.timesteps)
        for phase in layer_phases(layer) if operations else ():
            cycles = lab.layer(arch, setting, phase, NETWORK, layer.name).steady_cycles
            seconds = cycles / arch.clock_hz / trace.meta.batch
            rows.append({
                "layer": layer.name, "phase": phase, "operations": operations, "seconds_per_sample": seconds,
                "tops": operations / seconds / 1e12, "v100_peak_tops": peak_flops / 1e12,
                "v100_at_peak_seconds": operations / peak_flops,
                "speedup_over_v100_at_peak": operations / peak_flops / seconds,
            })  # fmt: skip
    return pd.DataFrame(rows)
