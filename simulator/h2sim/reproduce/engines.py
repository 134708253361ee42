"""Section 3.3.2 and figures 3.10 to 3.12: each engine, and its design without LUTs or sparsity, alone on one layer.

The layer is conv2 of conv256: N = 4, T = 10, 256 channels, 56 x 56, 3 x 3 kernel ("the layer" below).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from h2sim.activity import Engine, Phase
from h2sim.arch.schema import Mode
from h2sim.energy import Cost, area
from h2sim.reproduce.designs import variants
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting

Measure = Callable[[Lab, Setting], float]
WINDOW = 9  # inputs of a 3x3 window
PARALLELISM = (1, 2, 4, 8)
LUT_ENGINES: dict[Engine, Phase] = {"forward": "forward", "weight_update": "weight_update"}
ARRAY = ("pe_array", "acc")


def engine_area_um2(lab: Lab, setting: Setting, engine: Engine, fields: Mapping[str, Any] | None = None) -> float:
    """Area of an engine, um2; where reading.engine is 'array', of its PE array and Acc alone."""
    blocks = [b for b in area(lab.arch(setting, fields), lab.table(setting)).blocks if b.engine == engine]
    return math.fsum(b.area_um2 for b in blocks if setting.reading.engine == "engine" or b.component in ARRAY)


def row_energy_j(cost: Cost) -> float:
    """On-chip energy of a simulation's only row, J: its events, and what its engine leaks in the row's time."""
    return 1e-12 * math.fsum(cost.layer_energy_pj(0).values())


def energy_j(cost: Cost, setting: Setting, engine: Engine) -> float:
    """Energy of a simulation's only row, J; where reading.engine is 'array', of PE array and Acc without leakage."""
    return array_energy_j(cost, engine) if setting.reading.engine == "array" else row_energy_j(cost)


def lut_area_saving(engine: Engine) -> Measure:
    """Measure: area of the engine built of adders over its area built of LUTs."""

    def measure(lab: Lab, setting: Setting) -> float:
        adders = engine_area_um2(lab, setting, engine, {f"engines.{engine}.lut": False})
        return adders / engine_area_um2(lab, setting, engine)

    return measure


def lut_energy_saving(engine: Engine) -> Measure:
    """Measure: energy of the layer on the engine built of adders over its energy on the engine built of LUTs."""

    def measure(lab: Lab, setting: Setting) -> float:
        with_luts = lab.arch(setting)
        without = lab.arch(setting, {f"engines.{engine}.lut": False})
        phase = LUT_ENGINES[engine]
        costs = [lab.layer_cost(arch, setting, phase)[1] for arch in (without, with_luts)]
        adders, luts = (energy_j(cost, setting, engine) for cost in costs)
        return adders / luts

    return measure


def leakage_with_parallelism(engine: Engine) -> Measure:
    """Measure: leakage energy of the layer at the published parallelism over that at half the parallelism."""

    def measure(lab: Lab, setting: Setting) -> float:
        field = f"engines.{engine}.parallelism"
        full = getattr(lab.arch(setting).engines, engine).parallelism
        costs = [
            lab.layer_cost(lab.arch(setting, {field: p}), setting, LUT_ENGINES[engine])[1] for p in (full, full // 2)
        ]
        whole, half = (cost.layer_energy_pj(0)["leakage"] for cost in costs)
        return whole / half

    return measure


def backward(lab: Lab, setting: Setting, mode: Mode) -> tuple[int, Cost]:
    """Steady cycles and price of the layer's backward pass in one of the four designs of the Backward Engine."""
    activity, cost = lab.layer_cost(lab.arch(setting, {"engines.backward.mode": mode}), setting, "backward")
    return activity.steady_cycles, cost


def backward_speedup(mode: Mode, over: Mode = "dense") -> Measure:
    """Measure: speedup of the design `mode` over the design `over`, as a ratio of cycles."""
    return lambda lab, setting: backward(lab, setting, over)[0] / backward(lab, setting, mode)[0]


def backward_energy_saving(lab: Lab, setting: Setting) -> float:
    """Energy of the layer in the dense design over its energy in the dual design."""
    dense, dual = (energy_j(backward(lab, setting, mode)[1], setting, "backward") for mode in ("dense", "dual"))
    return dense / dual


def array_energy_j(cost: Cost, engine: Engine = "backward") -> float:
    """Energy of an engine's PE array and Acc, J, without leakage."""
    parts = cost.engine_energy_j(engine)
    return math.fsum(parts[name] for name in ARRAY)


def input_only_array_energy(lab: Lab, setting: Setting) -> float:
    """Energy of PE array and Acc in the input_only design over their energy in the output_only design."""
    one, other = (array_energy_j(backward(lab, setting, mode)[1]) for mode in ("input_only", "output_only"))
    return one / other


def energy_spread(engine: Engine) -> Measure:
    """Measure: highest over lowest energy of the layer among parallelism 1, 2, 4 and 8, with LUTs (figure 3.11)."""

    def measure(lab: Lab, setting: Setting) -> float:
        machines = [lab.arch(setting, {f"engines.{engine}.parallelism": p}) for p in PARALLELISM]
        costs = [lab.layer_cost(arch, setting, LUT_ENGINES[engine])[1] for arch in machines]
        energies = [energy_j(cost, setting, engine) for cost in costs]
        return max(energies) / min(energies)

    return measure


def engine_blocks_um2(lab: Lab, setting: Setting, engine: Engine) -> dict[str, float]:
    """Area of an engine by component, um2."""
    return {b.component: b.area_um2 for b in area(lab.arch(setting), lab.table(setting)).blocks if b.engine == engine}


def array_share(engine: Engine) -> Measure:
    """Measure: area of PE array and Acc over the area of the whole engine."""

    def measure(lab: Lab, setting: Setting) -> float:
        blocks = engine_blocks_um2(lab, setting, engine)
        return math.fsum(blocks[name] for name in ARRAY) / math.fsum(blocks.values())

    return measure


def glb_ratio(lab: Lab, setting: Setting) -> float:
    """Area of the Weight Update Engine's buffers over the Forward Engine's."""
    wue, fe = (engine_blocks_um2(lab, setting, engine)["glb"] for engine in ("weight_update", "forward"))
    return wue / fe


def programming_share(engine: Engine) -> Measure:
    """Measure: share of the layer's compute cycles that disappear when LUTs are programmed behind the reads."""

    def measure(lab: Lab, setting: Setting) -> float:
        field = f"engines.{engine}.lut_double_buffered"
        shown, hidden = (
            lab.layer(lab.arch(setting, {field: value}), setting, LUT_ENGINES[engine]).layers[0].compute_cycles
            for value in (False, True)
        )
        return (shown - hidden) / shown

    return measure


def leakage_share(lab: Lab, setting: Setting) -> float:
    """Leakage energy over all on-chip energy of the layer on the dual Backward Engine."""
    parts = backward(lab, setting, "dual")[1].layer_energy_pj(0)
    return parts["leakage"] / math.fsum(parts.values())


def glb_leakage_share(lab: Lab, setting: Setting) -> float:
    """The buffers' share of the Backward Engine's leakage power."""
    machine = area(lab.arch(setting), lab.table(setting))
    return machine.glb_leakage_w("backward") / machine.leakage_w("backward")


def dense_array_share(lab: Lab, setting: Setting) -> float:
    """Energy of PE array and Acc over all on-chip energy of the layer on the dense Backward Engine."""
    cost = backward(lab, setting, "dense")[1]
    return array_energy_j(cost) / row_energy_j(cost)


def group_size_glb(lab: Lab, setting: Setting) -> float:
    """Area of the Backward Engine's buffers with groups of 8 PEs over their area with groups of 1."""
    glb_mm2 = backward_area_points(lab, setting).set_index("group_size")["glb_mm2"]
    return float(glb_mm2.loc[8] / glb_mm2.loc[1])


def lut_growth(lab: Lab, setting: Setting) -> float:
    """Area of a sub-LUT at parallelism 4 over its area at parallelism 1.

    (The area of adders grows by a factor of 4.)
    """
    engine, table = lab.arch(setting).engines.forward, lab.table(setting)
    four, one = (table.lut_area_um2(engine.sub_lut_size, ports) for ports in (4, 1))
    return four / one


MEASURES: dict[str, Measure] = {
    "fe-energy-spread": energy_spread("forward"),
    "wue-energy-spread": energy_spread("weight_update"),
    "fe-array-share": array_share("forward"),
    "wue-array-share": array_share("weight_update"),
    "wue-glb": glb_ratio,
    "fe-programming": programming_share("forward"),
    "wue-programming": programming_share("weight_update"),
    "fe-lut-growth": lut_growth,
    "be-leakage": leakage_share,
    "be-glb-leakage": glb_leakage_share,
    "be-dense-array": dense_array_share,
    "be-group-glb": group_size_glb,
    "fe-area": lut_area_saving("forward"),
    "fe-energy": lut_energy_saving("forward"),
    "wue-area": lut_area_saving("weight_update"),
    "wue-energy": lut_energy_saving("weight_update"),
    "fe-leakage": leakage_with_parallelism("forward"),
    "wue-leakage": leakage_with_parallelism("weight_update"),
    "be-speedup": backward_speedup("dual"),
    "be-energy": backward_energy_saving,
    "be-single-speed": backward_speedup("input_only", "output_only"),
    "be-input-only-energy": input_only_array_energy,
}


def lut_pe_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.10: area and energy of one PE and its part of Acc for a 3x3 window; a row per design and parallelism P.

    The machines are those of the sweep figure-3.10. With n sub-LUTs: n sub-LUTs of 2^ceil(9/n) entries with P ports, P
    output registers, P (n - 1) adders in the PE and P in Acc; a window takes n LUT reads and n additions. With adders:
    9 weight registers, P output registers, 9 P adders; a window takes 9 register reads and 9 additions. Areas of LUT
    sizes that were not synthesised are extrapolated [A]. Areas in um2, energies in pJ per window.
    """
    table, rows = lab.table(setting), []
    add, register = table.actions.fp16_add, table.actions.register_access
    for variant in variants(lab, setting, "figure-3.10"):
        engine = variant.arch.engines.forward
        lanes, n, entries = engine.parallelism, engine.sub_luts, engine.sub_lut_size
        outputs_um2 = lanes * register.area_um2
        if engine.lut:
            luts_um2 = n * table.lut_area_um2(entries, lanes)
            rows.append((f"{n} x {entries}", n, entries, lanes, lanes * n * add.area_um2, luts_um2 + outputs_um2,
                         n * add.energy_pj, n * table.lut_read_pj(entries)))  # fmt: skip
        else:
            rows.append(("adders", 0, 1, lanes, WINDOW * lanes * add.area_um2,
                         WINDOW * register.area_um2 + outputs_um2, WINDOW * add.energy_pj,
                         WINDOW * register.energy_pj))  # fmt: skip
    names = [
        "design",
        "sub_luts",
        "entries",
        "parallelism",
        "adder_area_um2",
        "register_area_um2",
        "adder_pj",
        "lut_pj",
    ]
    found = pd.DataFrame(rows, columns=names)
    return found.sort_values("parallelism", kind="stable", ignore_index=True)  # adders first, then by sub-LUTs


def lut_engine_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.11: area (mm2), energy (mJ) and time (s) of the layer on both LUT engines, by parallelism, with and
    without LUTs."""
    rows = []
    for engine, phase in LUT_ENGINES.items():
        for lut in (True, False):
            for lanes in PARALLELISM:
                arch = lab.arch(setting, {f"engines.{engine}.lut": lut, f"engines.{engine}.parallelism": lanes})
                activity, cost = lab.layer_cost(arch, setting, phase)
                areas = {b.component: b.area_um2 / 1e6 for b in cost.area.blocks if b.engine == engine}
                energy = {k: v * 1e3 for k, v in cost.engine_energy_j(engine).items()}
                rows.append({
                    "engine": engine, "design": "LUT" if lut else "adders", "parallelism": lanes,
                    "cycles": activity.steady_cycles,
                    "seconds": cost.steady_seconds, "array_mm2": areas["pe_array"] + areas["acc"],
                    "glb_mm2": areas["glb"],
                    "other_mm2": areas.get("soma", 0.0), "array_mj": energy["pe_array"] + energy["acc"],
                    "glb_mj": energy["glb"], "other_mj": energy.get("soma", 0.0), "leakage_mj": energy["leakage"],
                })  # fmt: skip
    return pd.DataFrame(rows)


def backward_area_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.12a: area of the Backward Engine by component, mm2, by size of a PE group (sweep figure-3.12-area)."""
    rows = []
    for variant in variants(lab, setting, "figure-3.12-area"):
        blocks = [b for b in area(variant.arch, lab.table(setting)).blocks if b.engine == "backward"]
        areas = {b.component: b.area_um2 / 1e6 for b in blocks}
        size = variant.arch.engines.backward.parallelism
        rows.append({"group_size": size, **{f"{name}_mm2": value for name, value in areas.items()}})
    return pd.DataFrame(rows)


def backward_mode_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Figure 3.12b: energy (mJ) of the layer, and speedup over dense, of the four designs (sweep figure-3.12-modes)."""
    dense, rows = backward(lab, setting, "dense")[0], []
    for variant in variants(lab, setting, "figure-3.12-modes"):
        activity, cost = lab.layer_cost(variant.arch, setting, "backward")
        cycles = activity.steady_cycles
        energy = {k: v * 1e3 for k, v in cost.engine_energy_j("backward").items()}
        rows.append({
            "mode": variant.arch.engines.backward.mode, "cycles": cycles, "speedup": dense / cycles,
            "array_mj": energy["pe_array"] + energy["acc"],
            "glb_mj": energy["glb"], "grad_mj": energy["grad"], "leakage_mj": energy["leakage"],
        })  # fmt: skip
    return pd.DataFrame(rows)
