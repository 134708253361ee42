"""Prices that no published table comes near: most likely in another unit (fJ for pJ, mW for uW)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from h2sim.energy.table import ActionPrices, EnergyTable, Macro

FACTOR = 100.0  # a price this much below the lowest or above the highest shipped one is out of range

# lowest and highest of the tables and SRAM parts that ship with h2sim, but for calibrated tables, whose prices are
# fits; a test computes them again
SHIPPED: dict[str, tuple[float, float]] = {
    "actions.fp16_add.energy_pj": (0.208, 0.4),
    "actions.fp16_add.leakage_uw": (6.62, 16),
    "actions.fp16_add.area_um2": (251, 1.36e03),
    "actions.fp16_multiply.energy_pj": (0.255, 1.1),
    "actions.fp16_multiply.leakage_uw": (10.1, 24.5),
    "actions.fp16_multiply.area_um2": (379, 1.64e03),
    "actions.register_access.energy_pj": (0.0534, 0.103),
    "actions.register_access.leakage_uw": (0.519, 1.25),
    "actions.register_access.area_um2": (28, 72.4),
    "actions.priority_encode.energy_pj": (0.0148, 0.0285),
    "actions.priority_encode.leakage_uw": (0.285, 0.688),
    "actions.priority_encode.area_um2": (11.1, 28.7),
    "actions.soma_element.energy_pj": (0.674, 1.3),
    "actions.soma_element.leakage_uw": (18.6, 45),
    "actions.soma_element.area_um2": (714, 1.85e03),
    "actions.grad_element.energy_pj": (1.46, 4.1),
    "actions.grad_element.leakage_uw": (43.6, 105),
    "actions.grad_element.area_um2": (1.64e03, 7.64e03),
    "luts.read_pj per entry": (0.00626, 0.0212),
    "luts.write_pj per entry": (0.00327, 0.00629),
    "luts.leakage_uw per entry": (1.69, 4.08),
    "luts.area_4_ports_um2 per entry": (83.9, 217),
    "offchip.energy_pj_per_bit": (3.97, 3.97),
    "sram.read_pj per bit and root of bytes": (0.000228, 0.0012),
    "sram.write_pj per bit and root of bytes": (0.000227, 0.00139),
    "sram.leakage_mw per byte": (2.59e-07, 0.00118),
    "sram.area_um2 per byte": (1.62, 4.04),
}


@dataclass(frozen=True)
class Outlier:
    """A price out of range; low and high are the lowest and highest shipped ones."""

    entry: str
    value: float
    low: float
    high: float


def implausible(table: EnergyTable) -> tuple[Outlier, ...]:
    """The prices outside [low / FACTOR, high * FACTOR], in the order of the table; a price of 0 is left out."""
    return tuple(
        Outlier(entry, value, low, high)
        for entry, value in quantities(table).items()
        for low, high in [SHIPPED[entry]]
        if value and not low / FACTOR <= value <= high * FACTOR
    )


def quantities(table: EnergyTable) -> dict[str, float]:
    """What is compared, by name: prices of actions and memory, and geometric means over LUTs and SRAM macros."""
    found: dict[str, float] = {}
    for name in ActionPrices.model_fields:
        action = getattr(table.actions, name)
        found |= {
            f"actions.{name}.{field}": getattr(action, field) for field in ("energy_pj", "leakage_uw", "area_um2")
        }
    for field in ("read_pj", "write_pj", "leakage_uw", "area_4_ports_um2"):
        found[f"luts.{field} per entry"] = _mean(getattr(lut, field) / lut.entries for lut in table.luts)
    found["offchip.energy_pj_per_bit"] = table.offchip.energy_pj_per_bit
    return found | macro_quantities(table.sram.macros)


def macro_quantities(macros: Iterable[Macro]) -> dict[str, float]:
    """Geometric means over SRAM macros; an access costs about the square root of the macro's bytes for each bit."""
    of: dict[str, Callable[[Macro], float]] = {
        "sram.read_pj per bit and root of bytes": lambda m: m.read_pj / m.word_bits / math.sqrt(m.bytes),
        "sram.write_pj per bit and root of bytes": lambda m: m.write_pj / m.word_bits / math.sqrt(m.bytes),
        "sram.leakage_mw per byte": lambda m: m.leakage_mw / m.bytes,
        "sram.area_um2 per byte": lambda m: m.area_um2 / m.bytes,
    }
    kept = tuple(macros)
    return {name: _mean(quantity(macro) for macro in kept) for name, quantity in of.items()}


def _mean(values: Iterable[float]) -> float:
    """The geometric mean; 0 if any value is 0."""
    kept = tuple(values)
    return math.exp(math.fsum(map(math.log, kept)) / len(kept)) if all(kept) else 0.0
