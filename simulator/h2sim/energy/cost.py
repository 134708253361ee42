"""Energy: event counts x table entries + leakage power x time (section 4 of the model)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from h2sim.activity import ACTION_NAMES, ENGINES, Actions, Activity, Engine, LayerActivity
from h2sim.arch.schema import Arch
from h2sim.energy.area import Area, area
from h2sim.energy.sram import BufferPrice, price_buffers
from h2sim.energy.table import EnergyTable
from h2sim.errors import EnergyTableError

GROUPS = ("lut", "fp16_add", "fp16_multiply", "register", "priority_encode", "soma", "grad", "glb", "leakage")
GROUP_OF_ACTION = {
    "lut_read": "lut", "lut_write": "lut", "fp16_add": "fp16_add", "fp16_multiply": "fp16_multiply",
    "register_access": "register", "priority_encode": "priority_encode", "soma_element": "soma", "grad_element": "grad",
}  # fmt: skip

LEAKAGE_SOURCE = "leakage of all units and macros of the engine, by the table's entries"


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One line of the bill: count x unit price of one event in one component of one layer's row, in pJ.

    row indexes Activity.layers; -1 is leakage in cycles that no row covers. Leakage is counted in cycles, traffic of a
    buffer in bytes. source says where the unit price comes from.
    """

    row: int
    engine: Engine
    component: str
    action: str
    group: str
    count: int
    unit_pj: float
    source: str

    @property
    def energy_pj(self) -> float:
        return self.count * self.unit_pj


@dataclass(frozen=True, kw_only=True)
class BillLine:
    """One line of the bill summed over rows: count x unit price = energy, in pJ."""

    engine: Engine
    component: str
    action: str
    count: int
    unit_pj: float
    energy_pj: float
    source: str


@dataclass(frozen=True)
class Cost:
    """What one steady-state sub-batch costs, and the machine's area."""

    charges: tuple[Charge, ...]
    offchip_pj: tuple[float, ...]
    steady_seconds: float
    area: Area
    offchip_pj_per_byte: float

    @property
    def energy_j(self) -> float:
        """On-chip energy of a sub-batch."""
        return 1e-12 * math.fsum(c.energy_pj for c in self.charges)

    @property
    def offchip_energy_j(self) -> float:
        """External-memory energy of a sub-batch, on its own line as the source keeps it."""
        return 1e-12 * math.fsum(self.offchip_pj)

    @property
    def leakage_w(self) -> float:
        """Leakage power of the machine, part of the average power."""
        return math.fsum(self.area.leakage_w(engine) for engine in ENGINES)

    @property
    def idle_leakage_pj(self) -> float:
        """Leakage of the engines in cycles of the step that no row covers; with the rows' energy it makes energy_j."""
        return math.fsum(c.energy_pj for c in self._by_row[-1])

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

    def reconcile(self) -> tuple[BillLine, ...]:
        """The on-chip bill: every engine, component and event with its count, unit price, energy and source.

        The energies add up to energy_j, to the last digits that rounding leaves (energy_j adds row by row).
        """
        counts: dict[tuple[Engine, str, str, float, str], int] = {}
        for c in self.charges:
            key = (c.engine, c.component, c.action, c.unit_pj, c.source)
            counts[key] = counts.get(key, 0) + c.count
        order = sorted(counts.items(), key=lambda line: (ENGINES.index(line[0][0]), line[0][1:]))
        return tuple(
            BillLine(engine=e, component=part, action=a, count=n, unit_pj=unit, energy_pj=n * unit, source=source)
            for (e, part, a, unit, source), n in order
        )

    @cached_property
    def _by_row(self) -> dict[int, list[Charge]]:
        rows: dict[int, list[Charge]] = {row: [] for row in range(-1, len(self.offchip_pj))}
        for c in self.charges:
            rows[c.row].append(c)
        return rows


def price(activity: Activity, arch: Arch, table: EnergyTable) -> Cost:
    """Puts the table's prices on what a simulation counted. Raises EnergyTableError for a buffer no macro fits."""
    charges: list[Charge] = []
    machine = area(arch, table)
    buffers = {e: price_buffers(arch, e, table) for e in ENGINES}
    for row, layer in enumerate(activity.layers):
        charges += _row_charges(row, layer, arch, table, buffers[layer.engine])
    for engine in ENGINES:
        charges += _leakage(activity, engine, machine.leakage_w(engine) * 1e12 / arch.clock_hz)
    per_byte = 8 * table.offchip.energy_pj_per_bit
    offchip = tuple((r.offchip_read_bytes + r.offchip_write_bytes) * per_byte for r in activity.layers)
    return Cost(tuple(charges), offchip, activity.steady_cycles / arch.clock_hz, machine, per_byte)


def _row_charges(
    row: int, layer: LayerActivity, arch: Arch, table: EnergyTable, buffers: dict[str, BufferPrice]
) -> list[Charge]:
    engine = layer.engine
    unit = {"forward": "soma", "backward": "grad"}.get(engine, "acc")
    prices = _unit_prices(arch, engine, table)
    parts: list[tuple[str, Actions]] = [("pe_array", layer.pe_array), ("acc", layer.acc), (unit, layer.neuron)]
    charges = [
        Charge(
            row=row,
            engine=engine,
            component=component,
            action=action,
            group=GROUP_OF_ACTION[action],
            count=getattr(actions, action),
            unit_pj=prices[action][0],
            source=prices[action][1],
        )
        for component, actions in parts
        for action in ACTION_NAMES
        if getattr(actions, action)
    ]
    for moved in layer.buffers:
        if moved.buffer not in buffers:
            known = ", ".join(buffers)
            raise EnergyTableError(f"{layer.layer}: expected a buffer of {engine} ({known}); got {moved.buffer!r}")
        cost, source = buffers[moved.buffer], table.sram.source
        for action, count, unit_pj in (
            (f"{moved.buffer} read B", moved.read_bytes, cost.read_pj_per_byte),
            (f"{moved.buffer} write B", moved.write_bytes, cost.write_pj_per_byte),
        ):
            charges.append(
                Charge(
                    row=row,
                    engine=engine,
                    component="glb",
                    action=action,
                    group="glb",
                    count=count,
                    unit_pj=unit_pj,
                    source=source,
                )
            )
    return charges


def _unit_prices(arch: Arch, engine: Engine, table: EnergyTable) -> dict[str, tuple[float, str]]:
    """pJ per event on one engine, with its source; LUT prices follow the sub-LUT size, an engine without has none."""
    actions = {name: getattr(table.actions, name) for name in type(table.actions).model_fields}
    prices = {name: (entry.energy_pj, entry.source) for name, entry in actions.items()}
    size = getattr(getattr(arch.engines, engine), "sub_lut_size", None)
    if size is not None:
        source = table.lut_source(size)
        prices["lut_read"], prices["lut_write"] = (table.lut_read_pj(size), source), (table.lut_write_pj(size), source)
    return prices


def _leakage(activity: Activity, engine: Engine, pj_per_cycle: float) -> list[Charge]:
    """Leakage over the whole step: each row bears its own cycles, the rest of the step stands under row -1.

    Rows that overlap and cover more than the step share what the step leaks by their cycles.
    """
    cycles = {
        row: layer.end_cycle - layer.start_cycle for row, layer in enumerate(activity.layers) if layer.engine == engine
    }
    covered, step = sum(cycles.values()), activity.steady_cycles
    if covered > step:
        pj_per_cycle *= step / covered
    cycles[-1] = max(0, step - covered)
    return [
        Charge(
            row=row,
            engine=engine,
            component="leakage",
            action="cycle",
            group="leakage",
            count=count,
            unit_pj=pj_per_cycle,
            source=LEAKAGE_SOURCE,
        )
        for row, count in cycles.items()
    ]
