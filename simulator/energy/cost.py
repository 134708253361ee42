"""Energy: event counts x table entries + leakage power x time (section 4 of the model)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from h2sim.activity import ACTION_NAMES, ENGINES, Actions, Activity, Engine, LayerActivity
from h2sim.arch.schema import Arch
from h2sim.energy.area import Area, area
from h2sim.energy.sram import BufferPrice, price_buffers
from h2sim.energy.table import EnergyTable

GROUPS = ("lut", "fp16_add", "fp16_multiply", "register", "priority_encode", "soma", "grad", "glb", "leakage")
GROUP_OF_ACTION = {
    "lut_read": "lut", "lut_write": "lut", "fp16_add": "fp16_add", "fp16_multiply": "fp16_multiply",
    "register_access": "register", "priority_encode": "priority_encode", "soma_element": "soma", "grad_element": "grad",
}  # fmt: skip


@dataclass(frozen=True)
class Charge:
    """One line of the bill: count x unit price of one event in one component of one layer's row, in pJ.

    row indexes Activity.layers; -1 is leakage in cycles that no row covers. Leakage is counted in cycles.
    """

    row: int
    engine: Engine
    component: str
    action: str
    group: str
    count: int
    unit_pj: float

    @property
    def energy_pj(self) -> float:
        return self.count * self.unit_pj


@dataclass(frozen=True)
class Cost:
    """What one steady-state sub-batch costs, and the machine's area."""

    charges: tuple[Charge, ...]
    offchip_pj: tuple[float, ...]
    steady_seconds: float
    area: Area

    @property
    def energy_j(self) -> float:
        """On-chip energy of a sub-batch."""
        return 1e-12 * math.fsum(c.energy_pj for c in self.charges)

    @property
    def offchip_energy_j(self) -> float:
        """External-memory energy of a sub-batch, on its own line as the source keeps it."""
        return 1e-12 * math.fsum(self.offchip_pj)

    @property
    def average_power_w(self) -> float:
        """On-chip energy over the steady-state time."""
        return self.energy_j / self.steady_seconds if self.steady_seconds else 0.0

    def engine_energy_j(self, engine: Engine) -> dict[str, float]:
        """Energy by component of one engine, J."""
        names = [b.component for b in self.area.blocks if b.engine == engine] + ["leakage"]
        mine = [c for c in self.charges if c.engine == engine]
        return {n: 1e-12 * math.fsum(c.energy_pj for c in mine if c.component == n) for n in names}

    def layer_energy_pj(self, row: int) -> dict[str, float]:
        """On-chip energy of one row by group of events, pJ."""
        mine = self._by_row[row]
        return {group: math.fsum(c.energy_pj for c in mine if c.group == group) for group in GROUPS}

    def layer_offchip_pj(self, row: int) -> float:
        """External-memory energy of one row, pJ."""
        return self.offchip_pj[row]

    def reconcile(self) -> list[tuple[str, str, str, int, float, float]]:
        """The bill: (engine, component, action, count, unit pJ, energy pJ), summed over rows."""
        lines: dict[tuple[str, str, str, float], int] = {}
        for c in self.charges:
            key = (c.engine, c.component, c.action, c.unit_pj)
            lines[key] = lines.get(key, 0) + c.count
        return [(e, component, a, n, unit, n * unit) for (e, component, a, unit), n in sorted(lines.items())]

    @property
    def _by_row(self) -> dict[int, list[Charge]]:
        rows: dict[int, list[Charge]] = {}
        for c in self.charges:
            rows.setdefault(c.row, []).append(c)
        return {row: rows.get(row, []) for row in range(len(self.offchip_pj))}


def price(activity: Activity, arch: Arch, table: EnergyTable) -> Cost:
    """Puts the table's prices on what a simulation counted. Raises EnergyTableError for a buffer no macro fits."""
    charges: list[Charge] = []
    machine = area(arch, table)
    buffers = {e: price_buffers(getattr(arch.engines, e), e, table) for e in ENGINES}
    for row, layer in enumerate(activity.layers):
        charges += _row_charges(row, layer, arch, table, buffers[layer.engine])
    for engine in ENGINES:
        charges += _leakage(activity, engine, machine.leakage_w(engine) * 1e12 / arch.clock_hz)
    per_byte = 8 * table.offchip.energy_pj_per_bit
    offchip = tuple((r.offchip_read_bytes + r.offchip_write_bytes) * per_byte for r in activity.layers)
    return Cost(tuple(charges), offchip, activity.steady_cycles / arch.clock_hz, machine)


def _row_charges(
    row: int, layer: LayerActivity, arch: Arch, table: EnergyTable, buffers: dict[str, BufferPrice]
) -> list[Charge]:
    engine = layer.engine
    unit = {"forward": "soma", "backward": "grad"}.get(engine, "acc")
    prices = _unit_prices(arch, engine, table)
    parts: list[tuple[str, Actions]] = [("pe_array", layer.pe_array), ("acc", layer.acc), (unit, layer.neuron)]
    charges = [
        Charge(row, engine, component, action, GROUP_OF_ACTION[action], getattr(actions, action), prices[action])
        for component, actions in parts
        for action in ACTION_NAMES
        if getattr(actions, action)
    ]
    for moved in layer.buffers:
        cost = buffers[moved.buffer]
        name = moved.buffer
        charges.append(Charge(row, engine, "glb", f"{name} read B", "glb", moved.read_bytes, cost.read_pj_per_byte))
        charges.append(Charge(row, engine, "glb", f"{name} write B", "glb", moved.write_bytes, cost.write_pj_per_byte))
    return charges


def _unit_prices(arch: Arch, engine: Engine, table: EnergyTable) -> dict[str, float]:
    """pJ per event on one engine; LUT prices follow its sub-LUT size."""
    prices = {name: getattr(table.actions, name).energy_pj for name in type(table.actions).model_fields}
    size = getattr(getattr(arch.engines, engine), "sub_lut_size", None)
    return prices | {
        "lut_read": table.lut_read_pj(size) if size else 0.0,
        "lut_write": table.lut_write_pj(size) if size else 0.0,
    }


def _leakage(activity: Activity, engine: Engine, pj_per_cycle: float) -> list[Charge]:
    """Leakage over the whole step: each row bears its own cycles, the rest of the step stands under row -1."""
    charges, covered = [], 0
    for row, layer in enumerate(activity.layers):
        if layer.engine == engine:
            cycles = layer.end_cycle - layer.start_cycle
            covered += cycles
            charges.append(Charge(row, engine, "leakage", "cycle", "leakage", cycles, pj_per_cycle))
    idle = activity.steady_cycles - covered
    return [*charges, Charge(-1, engine, "leakage", "cycle", "leakage", idle, pj_per_cycle)]
