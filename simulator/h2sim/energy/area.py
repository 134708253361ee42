"""The hardware units of a machine: how many there are of each, their area and their leakage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from h2sim.activity import ENGINES, Engine
from h2sim.arch.schema import Arch, BackwardEngine, ForwardEngine, TileSize, WeightUpdateEngine
from h2sim.energy.sram import price_buffers
from h2sim.energy.table import ActionPrice, EnergyTable

WINDOW_WEIGHTS = 9  # weights of a 3x3 kernel that a PE group buffers [A]


@dataclass(frozen=True)
class Block:
    """Area and leakage of one component of one engine (pe_array, acc, soma, grad or glb)."""

    engine: Engine
    component: str
    area_um2: float
    leakage_w: float


@dataclass(frozen=True)
class Area:
    """Area (um2) and leakage (W) of all components of a machine."""

    blocks: tuple[Block, ...]

    def __repr__(self) -> str:
        return f"Area({self.total_um2 / 1e6:.3g} mm2 in {len(self.blocks)} blocks)"

    @property
    def total_um2(self) -> float:
        """Area of the whole machine."""
        return math.fsum(block.area_um2 for block in self.blocks)

    def leakage_w(self, engine: Engine) -> float:
        """Leakage power of one engine, logic and buffers, in W."""
        return math.fsum(block.leakage_w for block in self.blocks if block.engine == engine)

    def logic_leakage_w(self, engine: Engine) -> float:
        """Leakage power of one engine's PE array, Acc and neuron unit, in W."""
        return math.fsum(b.leakage_w for b in self.blocks if b.engine == engine and b.component != "glb")

    def glb_leakage_w(self, engine: Engine) -> float:
        """Leakage power of one engine's buffers alone, in W."""
        return math.fsum(b.leakage_w for b in self.blocks if b.engine == engine and b.component == "glb")

    def to_dict(self) -> dict[str, Any]:
        """Area in um2 by engine and component, and the total."""
        found: dict[str, Any] = {
            engine: {b.component: b.area_um2 for b in self.blocks if b.engine == engine} for engine in ENGINES
        }
        return {**found, "total": self.total_um2}


@dataclass(frozen=True, kw_only=True)
class Units:
    """How many units of each kind one component has; luts: (how many, entries, read ports)."""

    adders: int = 0
    multipliers: int = 0
    registers: int = 0
    encoders: int = 0
    somas: int = 0
    grads: int = 0
    luts: tuple[int, int, int] = (0, 2, 1)

    def area_um2(self, table: EnergyTable) -> float:
        """Area of all units together."""
        n, entries, ports = self.luts
        return math.fsum([n * table.lut_area_um2(entries, ports), *(k * p.area_um2 for k, p in self._priced(table))])

    def leakage_w(self, table: EnergyTable) -> float:
        """Leakage power of all units together."""
        n, entries, _ = self.luts
        logic = [k * p.leakage_uw for k, p in self._priced(table)]
        return 1e-6 * math.fsum([n * table.lut_leakage_uw(entries), *logic])

    def _priced(self, table: EnergyTable) -> tuple[tuple[int, ActionPrice], ...]:
        a = table.actions
        return (
            (self.adders, a.fp16_add), (self.multipliers, a.fp16_multiply), (self.registers, a.register_access),
            (self.encoders, a.priority_encode), (self.somas, a.soma_element), (self.grads, a.grad_element),
        )  # fmt: skip


def area(arch: Arch, table: EnergyTable) -> Area:
    """Area and leakage of every component: the number of units x the table's entry, and the buffers' SRAM macros.

    Raises EnergyTableError for a buffer that no macro of the table fits.
    """
    engines = arch.engines
    units: dict[Engine, dict[str, Units]] = {
        "forward": forward_units(engines.forward),
        "weight_update": weight_update_units(engines.weight_update),
        "backward": backward_units(engines.backward, arch.tile),
    }
    blocks = []
    for engine, components in units.items():
        blocks += [Block(engine, name, u.area_um2(table), u.leakage_w(table)) for name, u in components.items()]
        prices = price_buffers(arch, engine, table).values()
        glb_area, glb_leakage = math.fsum(p.area_um2 for p in prices), math.fsum(p.leakage_w for p in prices)
        blocks.append(Block(engine, "glb", glb_area, glb_leakage))
    return Area(tuple(blocks))


def unit_um2(arch: Arch, table: EnergyTable) -> dict[str, float]:
    """Area in um2 that a table gives to the parts that the RTL builds, by the RTL's names.

    They are one PE of each engine, and what one column has beside PEs: Acc and neuron units. O finders are in no
    table [A], so theirs is 0.
    """
    fe, wue, be = arch.engines.forward, arch.engines.weight_update, arch.engines.backward
    charged = {}
    for name, engine, units, pes in (
        ("forward", fe, forward_units(fe), "lut_pe"),
        ("weight_update", wue, weight_update_units(wue), "lut_pe"),
        ("backward", be, backward_units(be, arch.tile), "group_pe"),
    ):
        lanes = engine.parallelism if pes == "group_pe" else 1
        n_pes = engine.rows * engine.columns * lanes
        charged[f"{name}_{pes}"] = units["pe_array"].area_um2(table) / n_pes
        rest = math.fsum(unit.area_um2(table) for part, unit in units.items() if part != "pe_array")
        charged[f"{name}_column"] = rest / engine.columns
    return {**charged, "backward_output_finder": 0.0}


def lut_array_units(engine: ForwardEngine | WeightUpdateEngine) -> dict[str, Units]:
    """The units of a LUT engine's PE array and Acc: R*C PEs of P lanes.

    With LUTs a PE has n sub-LUTs of P read ports, and n - 1 adders per lane; with lut_double_buffered its sub-LUTs are
    there twice [A]. Without LUTs it has n*v operands in registers, and n*v - 1 adders per lane. Every lane of a PE has
    an output register. Acc has one adder per PE and lane, for its tree and the partial sum. Together that makes n*v
    adders per PE and lane without LUTs: the 36,864 and 40,960 adders of the source's baselines.
    """
    pes, lanes = engine.rows * engine.columns, engine.parallelism
    n, v = engine.sub_luts, engine.sub_lut_inputs
    if engine.lut:
        copies = 2 if engine.lut_double_buffered else 1
        luts = (pes * n * copies, engine.sub_lut_size, lanes)
        array = Units(adders=pes * lanes * (n - 1), registers=pes * lanes, luts=luts)
    else:
        array = Units(adders=pes * lanes * (n * v - 1), registers=pes * (n * v + lanes))
    return {"pe_array": array, "acc": Units(adders=pes * lanes)}


def forward_units(engine: ForwardEngine) -> dict[str, Units]:
    """The units of the Forward Engine: the LUT array, and one Soma per column and lane."""
    return {**lut_array_units(engine), "soma": Units(somas=engine.columns * engine.parallelism)}


def weight_update_units(engine: WeightUpdateEngine) -> dict[str, Units]:
    """The units of the Weight Update Engine: the LUT array alone."""
    return lut_array_units(engine)


def backward_units(engine: BackwardEngine, tile: TileSize) -> dict[str, Units]:
    """The units of the Backward Engine: R*C groups of P PEs, and Acc and Grad for P positions per column.

    A PE has a multiplier, an adder, a partial-sum register for each position of its share of a tile, ceil(h*w / P) [A],
    and a priority encoder unless the mode is dense. A group has a buffer of 9 weights [A]. Acc has R adders per column
    and position, for its tree and the partial sum. The rows' gradient tiles, and the columns' ID buffers and decoders,
    are left out [A].
    """
    groups = engine.rows * engine.columns
    pes, columns = groups * engine.parallelism, engine.columns * engine.parallelism
    share = -(-tile.height * tile.width // engine.parallelism)
    array = Units(
        adders=pes,
        multipliers=pes,
        registers=pes * share + groups * WINDOW_WEIGHTS,
        encoders=0 if engine.mode == "dense" else pes,
    )
    return {"pe_array": array, "acc": Units(adders=columns * engine.rows), "grad": Units(grads=columns)}
