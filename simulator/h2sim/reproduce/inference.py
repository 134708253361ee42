"""Table 3.7: inference of one sample on H2Learn, beside Loihi and an FPGA as they are reported."""

from __future__ import annotations

import pandas as pd

from h2sim.compare.measurement import Measurement
from h2sim.compare.published import published_row
from h2sim.errors import ReproductionError
from h2sim.io.fields import with_fields
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting
from h2sim.rivals.loihi.run import load_loihi, run_loihi

REPORTED = {"loihi": "loihi-reported", "fpga": "fpga-ju-2020"}  # rows of compare/published.yaml
INPUTS: dict[str, tuple[tuple[int, int, int], ...]] = {  # channels, height, width: what the networks may have read [A]
    "loihi": ((1, 28, 28), (2, 34, 34), (2, 64, 64)),
    "fpga": ((1, 28, 28), (1, 32, 32), (3, 32, 32)),
}


def reported(name: str) -> Measurement:
    """What table 3.7 reports of the rival that runs the network `name` (loihi or fpga)."""
    return published_row(REPORTED[name]).measurement()


def latency_s(lab: Lab, setting: Setting, name: str) -> float:
    """Time of one sample, s: all T timesteps, batch 1."""
    return lab.inference(name, setting).activity.first_cycles / lab.arch(setting).clock_hz


def energy_j(lab: Lab, setting: Setting, name: str) -> float:
    """On-chip energy of one sample, J."""
    return lab.inference(name, setting).cost.energy_j


def on_loihi(lab: Lab, setting: Setting) -> Measurement:
    """The network that is compared with Loihi, run on our model of Loihi with the same synthetic spikes."""
    trace = lab.trace("loihi", setting, 1, ("forward",))
    name, compartments = setting.reading.loihi, setting.reading.loihi_compartments
    machine = load_loihi(name)
    if compartments is not None:
        fields = {"mapping.compartments_per_core.value": compartments}
        machine = with_fields(machine, fields, f"setting: arch of {name}", ReproductionError)
    return lab.once(("loihi", trace.sha256, name, compartments), lambda: run_loihi(machine, trace).measurement())


def _latency(name: str) -> Measure:
    return lambda lab, setting: latency_s(lab, setting, name)


def _energy(name: str) -> Measure:
    return lambda lab, setting: energy_j(lab, setting, name)


def _speedup(name: str) -> Measure:
    return lambda lab, setting: reported(name).seconds_per_sample / latency_s(lab, setting, name)


def _saving(name: str) -> Measure:
    return lambda lab, setting: (reported(name).energy_j_per_sample or 0.0) / energy_j(lab, setting, name)


def _expense(name: str) -> Measure:
    saving = _saving(name)
    return lambda lab, setting: 1 / saving(lab, setting)


def _power(name: str) -> Measure:
    return lambda lab, setting: energy_j(lab, setting, name) / latency_s(lab, setting, name)


MEASURES: dict[str, Measure] = {
    "loihi-power": _power("loihi"),
    "fpga-power": _power("fpga"),
    "loihi-latency": _latency("loihi"),
    "loihi-energy": _energy("loihi"),
    "loihi-speedup": _speedup("loihi"),
    "loihi-energy-ratio": _expense("loihi"),
    "loihi-model-latency": lambda lab, setting: on_loihi(lab, setting).seconds_per_sample,
    "loihi-model-energy": lambda lab, setting: on_loihi(lab, setting).energy_j_per_sample or 0.0,
    "fpga-latency": _latency("fpga"),
    "fpga-energy": _energy("fpga"),
    "fpga-speedup": _speedup("fpga"),
    "fpga-energy-saving": _saving("fpga"),
}


def points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Latency and energy of table 3.7's networks, one row per size of the input [A]: the source does not print the
    sizes."""
    rows = []
    for name, shapes in INPUTS.items():
        for shape in shapes:
            changed = setting.changed({"input_shapes": {name: shape}})
            cycles = lab.inference(name, changed).activity.first_cycles
            loihi = on_loihi(lab, changed) if name == "loihi" else None
            rows.append({
                "network": name, "input": "x".join(map(str, shape)), "cycles": cycles,
                "latency_s": latency_s(lab, changed, name), "energy_j": energy_j(lab, changed, name),
                "energy_without_idle_engines_j": energy_j(
                    lab, changed.changed({"arch": {"power_gating": "engine"}}), name
                ),
                "loihi_model_latency_s": loihi and loihi.seconds_per_sample,
                "loihi_model_energy_j": loihi and loihi.energy_j_per_sample,
                "loihi_model_mm2": loihi and loihi.area_mm2,
            })  # fmt: skip
    return pd.DataFrame(rows)
