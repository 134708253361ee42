"""Table 3.6 and figure 3.15: area and highest power of the whole machine, and its training epochs beside the V100's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pandas as pd

from h2sim.activity import ENGINES
from h2sim.arch import peak_flops
from h2sim.arch.schema import ForwardEngine, WeightUpdateEngine
from h2sim.compare.measurement import Measurement
from h2sim.compare.published import published_row
from h2sim.compare.ratios import measurement_of
from h2sim.energy import area
from h2sim.energy.area import lut_array_units
from h2sim.gpu.files import load_gpu_trace
from h2sim.reproduce.dense import step_operations
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting
from h2sim.result import Result

NETWORKS = ("mnist", "cifar10", "nmnist", "cifar10-dvs", "imagenet")  # table 3.4
ON_GPU = ("mnist", "cifar10", "imagenet")  # table 3.1
V100 = "v100-{}"


def lut_kbytes(engine: ForwardEngine | WeightUpdateEngine) -> float:
    """Size of all sub-LUTs of an engine with 16-bit entries, KB of 1024 bytes."""
    return engine.rows * engine.columns * engine.sub_luts * engine.sub_lut_size * 2 / 1024


def adders(engine: ForwardEngine | WeightUpdateEngine) -> int:
    """Number of adders in PE array and Acc of the engine's design without LUTs."""
    units = lut_array_units(engine.model_copy(update={"lut": False}))
    return units["pe_array"].adders + units["acc"].adders


def busiest_power_w(result: Result) -> float:
    """Power if all three engines worked on their busiest layer at once, W.

    The sum over engines of the highest power of a layer (its events over the time that it holds the engine) and of the
    engine's leakage. Pools and adds compute nothing and are left out.
    """
    total = 0.0
    for engine in ENGINES:
        powers = [0.0]
        for index, row in enumerate(result.activity.layers):
            cycles = row.end_cycle - row.start_cycle - row.stalls.dependency
            if row.engine == engine and row.compute_cycles:
                parts = result.cost.layer_energy_pj(index)
                dynamic = math.fsum(v for k, v in parts.items() if k != "leakage")
                powers.append(dynamic * 1e-12 * result.arch.clock_hz / cycles)
        total += max(powers) + result.cost.area.leakage_w(engine)
    return total


def power_w(lab: Lab, setting: Setting, name: str) -> float:
    """On-chip power while training a network, W: the mean of a step; with reading.power 'busiest' see
    busiest_power_w."""
    result = lab.run(name, setting)
    return busiest_power_w(result) if setting.reading.power == "busiest" else result.cost.average_power_w


def highest_power_w(lab: Lab, setting: Setting) -> float:
    """The highest power of the five networks, W ("we took the max power consumption during SNN learning")."""
    return max(power_w(lab, setting, name) for name in NETWORKS)


def training(lab: Lab, setting: Setting, name: str) -> Measurement:
    """A network's training step as whole batches with their update; with reading.epoch 'steady' the steady state
    alone."""
    steady = setting.reading.epoch == "steady"
    return measurement_of(lab.run(name, setting).to_dict(), name, steady=steady)


def v100(setting: Setting, name: str) -> Measurement:
    """Table 3.1's epoch of a network on the V100. With reading.gpu_power_w its energy is that power x its time."""
    gpu = load_gpu_trace(V100.format(name)).to_measurement()
    power = setting.reading.gpu_power_w
    return gpu if power is None else replace(gpu, energy_j=gpu.seconds * power)


def speedup(lab: Lab, setting: Setting, name: str) -> float:
    """Time of a sample on the V100 over its time on H2Learn."""
    return v100(setting, name).seconds_per_sample / training(lab, setting, name).seconds_per_sample


def power_saving(lab: Lab, setting: Setting, name: str) -> float:
    """The V100's power over H2Learn's while training a network."""
    gpu, ours = v100(setting, name), power_w(lab, setting, name)
    assert gpu.energy_j is not None
    return gpu.energy_j / gpu.seconds / ours


def saving(lab: Lab, setting: Setting, name: str) -> float:
    """Energy of a sample on the V100 over its energy on H2Learn; with reading.saving 'power' see power_saving."""
    if setting.reading.saving == "power":
        return power_saving(lab, setting, name)
    gpu, ours = v100(setting, name).energy_j_per_sample, training(lab, setting, name).energy_j_per_sample
    assert gpu is not None
    assert ours
    return gpu / ours


def over_networks(one: Callable[[Lab, Setting, str], float], pick: Callable[[Iterable[float]], float]) -> Measure:
    """Measure: the lowest (pick = min) or highest (pick = max) of a ratio over the networks of table 3.1."""
    return lambda lab, setting: pick(one(lab, setting, name) for name in ON_GPU)


def imagenet_lead(lab: Lab, setting: Setting) -> float:
    """Speedup of ImageNet over the highest speedup of the other networks."""
    return speedup(lab, setting, "imagenet") / max(speedup(lab, setting, name) for name in ON_GPU if name != "imagenet")


def total_area_mm2(lab: Lab, setting: Setting) -> float:
    """Area of the whole machine, mm2."""
    return area(lab.arch(setting), lab.table(setting)).total_um2 / 1e6


def area_saving(lab: Lab, setting: Setting) -> float:
    """Area of the V100's die over H2Learn's area."""
    gpu = v100(setting, "mnist")
    assert gpu.area_mm2 is not None
    return gpu.area_mm2 / total_area_mm2(lab, setting)


def dense_operations(lab: Lab, setting: Setting, name: str) -> int:
    """Operations of the training of one sample of a network, if no zero were skipped."""
    meta = lab.trace(name, setting).meta
    return step_operations(meta.layers, meta.timesteps)


def caption(frame: pd.DataFrame, theirs: Mapping[str, float]) -> str:
    """Figure 3.15's text, with what the V100's epochs are in dense operations per second."""
    rows = frame.dropna(subset=["speedup"]).set_index("network")
    rates = rows["v100_dense_tflops"]
    peak = published_row("v100").spec("peak").value
    shown = ", ".join(f"{name} {float(rates[name]):.1f}" for name in ON_GPU if name in rates)
    best, last = str(rates.idxmax()), str(rates.idxmin())
    speedup_there = float(rows["speedup"][last])
    at_best = speedup_there * float(rates[last] / rates[best])
    return (
        "Speedup over the V100's epochs of table 3.1; power of H2Learn (the source prints none of the V100's); area. "
        "The V100's rows are whole epochs with their data loading, in FP32, and ours is the accelerator's time alone, "
        f"in FP16. If no zero is skipped, these epochs are {shown} TFLOPS of the V100's peak of {peak:g}, counted from "
        f"the networks. So the V100 works at {rates[last] / peak:.0%} of its peak on {last}, and at "
        f"{rates[best] / peak:.0%} on {best}. If it did {last} at the rate of {best}, the speedup there would be "
        f"{at_best:.1f}x instead of {speedup_there:.1f}x: its lead is largely the GPU's inefficiency."
    )


MEASURES: dict[str, Measure] = {
    "peak": lambda lab, setting: peak_flops(lab.arch(setting)) / 1e12,
    "fe-lut-size": lambda lab, setting: lut_kbytes(lab.arch(setting).engines.forward),
    "wue-lut-size": lambda lab, setting: lut_kbytes(lab.arch(setting).engines.weight_update),
    "fe-adders": lambda lab, setting: adders(lab.arch(setting).engines.forward),
    "wue-adders": lambda lab, setting: adders(lab.arch(setting).engines.weight_update),
    "area": total_area_mm2,
    "power": highest_power_w,
    "v100-speedup-lowest": over_networks(speedup, min),
    "v100-speedup-highest": over_networks(speedup, max),
    "v100-imagenet-most": imagenet_lead,
    "v100-saving-lowest": over_networks(saving, min),
    "v100-saving-highest": over_networks(saving, max),
    "v100-area": area_saving,
    "clock": lambda lab, setting: lab.arch(setting).clock_hz / 1e6,
}


def points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.15 and table 3.6: one row per network of table 3.4; the V100's columns are filled where table 3.1 has
    them."""
    rows = []
    for name in NETWORKS:
        result, ours = lab.run(name, setting), training(lab, setting, name)
        row = {
            "network": name, "area_mm2": ours.area_mm2, "steady_cycles": result.activity.steady_cycles,
            "batch_cycles": result.activity.batch_cycles,
            "samples_per_second": 1 / ours.seconds_per_sample, "power_w": result.cost.average_power_w,
            "busiest_power_w": busiest_power_w(result), "leakage_w": result.cost.leakage_w,
            "energy_uj_per_sample": 1e6 * (ours.energy_j_per_sample or 0.0),
        }  # fmt: skip
        operations = dense_operations(lab, setting, name)
        row |= {"dense_operations": operations, "dense_tflops": operations / ours.seconds_per_sample / 1e12}
        if name in ON_GPU:
            gpu = v100(setting, name)
            row |= {
                "v100_dense_tflops": operations / gpu.seconds_per_sample / 1e12,
                "v100_mm2": gpu.area_mm2, "v100_samples_per_second": 1 / gpu.seconds_per_sample,
                "speedup": speedup(lab, setting, name),
                "v100_power_w": (gpu.energy_j or 0.0) / gpu.seconds, "power_saving": power_saving(lab, setting, name),
                "energy_saving": saving(lab, setting, name),
            }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)
