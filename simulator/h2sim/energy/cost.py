"""Energy: event counts x table entries + leakage power x time (section 4 of the model)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from h2sim.activity import ACTION_NAMES, ENGINES, Actions, Engine, LayerActivity, SteadyState
from h2sim.arch.schema import Arch
from h2sim.energy.area import Area, area
from h2sim.energy.bill import BillLine, Charge, reconcile
from h2sim.energy.gating import Spans, buffer_spans, cycles_within, leaking_spans
from h2sim.energy.sram import BufferPrice, price_buffers
from h2sim.energy.table import EnergyTable
from h2sim.errors import EnergyTableError, at
from h2sim.io.kept import cached_property

GROUPS = ("lut", "fp16_add", "fp16_multiply", "register", "priority_encode", "soma", "grad", "glb", "leakage")
GROUP_OF_ACTION = {
    "lut_read": "lut", "lut_write": "lut", "fp16_add": "fp16_add", "fp16_multiply": "fp16_multiply",
    "register_access": "register", "priority_encode": "priority_encode", "soma_element": "soma", "grad_element": "grad",
}  # fmt: skip

LEAKAGE_SOURCE = "leakage of all units and macros of the engine, by the table's entries"
LOGIC_LEAKAGE_SOURCE = "leakage of all units of the engine, by the table's entries"
BUFFER_LEAKAGE_SOURCE = "leakage of all macros of the buffer, by the table's entries"


@dataclass(frozen=True)
class Cost:
    """What one sub-batch costs in the steady state, and the machine's area.

    charges: the on-chip bill. offchip_pj: external-memory energy of each row of the Activity. steady_seconds: time from
    one sub-batch to the next. idle_leaks: whether engines without a job leak (power_gating none).
    """

    charges: tuple[Charge, ...]
    offchip_pj: tuple[float, ...]
    steady_seconds: float
    area: Area
    offchip_pj_per_byte: float
    idle_leaks: bool = True

    def __repr__(self) -> str:
        power = f"{self.energy_j:.3g} J a sub-batch, {self.average_power_w:.3g} W"
        return f"Cost({power}, {self.area.total_um2 / 1e6:.3g} mm2)"

    @property
    def energy_j(self) -> float:
        """On-chip energy of a sub-batch, leakage included, in J."""
        return 1e-12 * math.fsum(c.energy_pj for c in self.charges)

    @property
    def offchip_energy_j(self) -> float:
        """External-memory energy of a sub-batch in J; no part of energy_j, as in the source."""
        return 1e-12 * math.fsum(self.offchip_pj)

    @property
    def leakage_w(self) -> float:
        """Leakage power of the machine in W while all of it leaks; without power gating a part of average_power_w."""
        return math.fsum(self.area.leakage_w(engine) for engine in ENGINES)

    @property
    def leakage_j(self) -> float:
        """Leakage of a sub-batch in J; a part of energy_j."""
        return 1e-12 * math.fsum(c.energy_pj for c in self.charges if c.group == "leakage")

    @property
    def waiting_leakage_w(self) -> float:
        """Leakage power in W in time beyond the steady step: in the first sub-batch, the update, on waiting chips.

        With power gating it is 0: no engine has a job then. (The first sub-batch has the jobs of a steady one, and is
        charged like one.)
        """
        return self.leakage_w if self.idle_leaks else 0.0

    @property
    def idle_leakage_pj(self) -> float:
        """Leakage in pJ outside the cycles of all rows. With the energy of all rows it makes energy_j."""
        return math.fsum(c.energy_pj for c in self._by_row[-1])

    @property
    def average_power_w(self) -> float:
        """On-chip power in W: energy_j / steady_seconds."""
        return self.energy_j / self.steady_seconds if self.steady_seconds else 0.0

    def engine_energy_j(self, engine: Engine) -> dict[str, float]:
        """On-chip energy of one engine by component, in J."""
        names = [b.component for b in self.area.blocks if b.engine == engine] + ["leakage"]
        mine = [c for c in self.charges if c.engine == engine]
        return {n: 1e-12 * math.fsum(c.energy_pj for c in mine if c.component == n) for n in names}

    def layer_energy_pj(self, row: int) -> dict[str, float]:
        """On-chip energy of one row by group of events (GROUPS), in pJ."""
        mine = self._by_row[row]
        return {group: math.fsum(c.energy_pj for c in mine if c.group == group) for group in GROUPS}

    def layer_offchip_pj(self, row: int) -> float:
        """External-memory energy of one row, in pJ."""
        return self.offchip_pj[row]

    def reconcile(self) -> tuple[BillLine, ...]:
        """The on-chip bill: a line per engine, component, event and unit price, with count, energy and source.

        The energies add up to energy_j, but for the last digits: energy_j adds row by row and rounds otherwise.
        """
        return reconcile(self.charges, ENGINES)

    @cached_property
    def _by_row(self) -> dict[int, list[Charge]]:
        rows: dict[int, list[Charge]] = {row: [] for row in range(-1, len(self.offchip_pj))}
        for c in self.charges:
            rows[c.row].append(c)
        return rows


def price(activity: SteadyState, arch: Arch, table: EnergyTable) -> Cost:
    """The cost of what a simulation counted, at a table's prices.

    Raises EnergyTableError for a buffer that no macro of the table fits, and for a row of an engine or a buffer that
    the machine does not have.
    """
    charges: list[Charge] = []
    machine = area(arch, table)
    buffers = {e: price_buffers(arch, e, table) for e in ENGINES}
    prices = {e: _unit_prices(arch, e, table) for e in ENGINES}
    for row, layer in enumerate(activity.layers):
        engine = _engine(layer)
        charges += _row_charges(row, layer, engine, prices[engine], table, buffers[engine])
    for engine in ENGINES:
        charges += _leakage(activity, arch, engine, machine, buffers[engine])
    per_byte = 8 * table.offchip.energy_pj_per_bit
    offchip = tuple((r.offchip_read_bytes + r.offchip_write_bytes) * per_byte for r in activity.layers)
    seconds, idle_leaks = activity.steady_cycles / arch.clock_hz, arch.power_gating == "none"
    return Cost(tuple(charges), offchip, seconds, machine, per_byte, idle_leaks)


def _engine(layer: LayerActivity) -> Engine:
    for engine in ENGINES:
        if engine == layer.engine:
            return engine
    where = f"{layer.layer} {layer.phase}"
    raise EnergyTableError(at(where, "engine", f"one of {', '.join(ENGINES)}", repr(layer.engine)))


def _row_charges(
    row: int,
    layer: LayerActivity,
    engine: Engine,
    prices: dict[str, tuple[float, str]],
    table: EnergyTable,
    buffers: dict[str, BufferPrice],
) -> list[Charge]:
    """The charges of one row: events of its components, then bytes through its buffers.

    prices: of each event on the engine, (pJ, source).
    """
    unit = {"forward": "soma", "backward": "grad"}.get(engine, "acc")
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
    """The price of each event on one engine: (pJ, source).

    LUT prices depend on the engine's sub_lut_size. An engine without sub-LUTs has none.
    """
    actions = {name: getattr(table.actions, name) for name in type(table.actions).model_fields}
    prices = {name: (entry.energy_pj, entry.source) for name, entry in actions.items()}
    size = getattr(getattr(arch.engines, engine), "sub_lut_size", None)
    if size is not None:
        source = table.lut_source(size)
        prices["lut_read"], prices["lut_write"] = (table.lut_read_pj(size), source), (table.lut_write_pj(size), source)
    return prices


def _leakage(
    activity: SteadyState, arch: Arch, engine: Engine, machine: Area, buffers: dict[str, BufferPrice]
) -> list[Charge]:
    """The leakage of one engine over the step: whole, or with power_gating 'buffer' its logic and each buffer apart."""
    gating, pj_per_cycle = arch.power_gating, 1e12 / arch.clock_hz
    spans = leaking_spans(activity, engine, gating)
    if gating != "buffer":
        return _leaked(activity, engine, "cycle", spans, machine.leakage_w(engine) * pj_per_cycle, LEAKAGE_SOURCE)
    logic_pj = machine.logic_leakage_w(engine) * pj_per_cycle
    charges = _leaked(activity, engine, "logic cycle", spans, logic_pj, LOGIC_LEAKAGE_SOURCE)
    for name, cost in buffers.items():
        spans = buffer_spans(activity, engine, name, gating)
        action, source = f"{name} cycle", BUFFER_LEAKAGE_SOURCE
        charges += _leaked(activity, engine, action, spans, cost.leakage_w * pj_per_cycle, source)
    return charges


def _leaked(
    activity: SteadyState, engine: Engine, action: str, spans: Spans, pj_per_cycle: float, source: str
) -> list[Charge]:
    """The leakage of a part of an engine that leaks in `spans`.

    Each row is charged for the cycles of its own that lie in them, and row -1 for those that no row covers. Where
    overlapping rows together cover more than there are, the leakage is shared among them in proportion to their cycles.
    """
    cycles = {
        row: cycles_within(spans, layer.start_cycle, layer.end_cycle)
        for row, layer in enumerate(activity.layers)
        if layer.engine == engine
    }
    covered, leaking = sum(cycles.values()), sum(end - start for start, end in spans)
    if covered > leaking:
        pj_per_cycle *= leaking / covered
    cycles[-1] = max(0, leaking - covered)
    return [
        Charge(
            row=row,
            engine=engine,
            component="leakage",
            action=action,
            group="leakage",
            count=count,
            unit_pj=pj_per_cycle,
            source=source,
        )
        for row, count in cycles.items()
    ]
