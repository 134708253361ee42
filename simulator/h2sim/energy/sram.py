"""Prices of global buffers: each bank is an SRAM macro of the energy table."""

from __future__ import annotations

from dataclasses import dataclass

from h2sim.activity import ENGINES, Engine
from h2sim.arch.schema import Arch, Buffer
from h2sim.energy.table import EnergyTable
from h2sim.errors import EnergyTableError, at


@dataclass(frozen=True)
class BufferPrice:
    """The prices of a buffer: pJ per byte read and written, leakage and area of all banks, and a macro's cycle time."""

    read_pj_per_byte: float
    write_pj_per_byte: float
    leakage_w: float
    area_um2: float
    cycle_ns: float


def price_buffer(name: str, buffer: Buffer, table: EnergyTable) -> BufferPrice:
    """The prices of one buffer. Each bank is the smallest macro of the buffer's word width that holds it.

    A byte costs its share of the access of a whole word. cycle_ns may exceed the clock's period: see slow_buffers.
    Raises EnergyTableError where the table has no such macro; more banks or another word width mend that.
    """
    bank_bytes = -(-buffer.bytes // buffer.banks)
    of_width = [m for m in table.sram.macros if m.word_bits == buffer.word_bits]
    fitting = [m for m in of_width if m.bytes >= bank_bytes]
    if not fitting:
        sizes = sorted(m.bytes for m in of_width)
        has = f"{sizes[0]} to {sizes[-1]} bytes" if sizes else "none"
        wanted = f"one of {buffer.word_bits}-bit words and at least {bank_bytes} bytes for a bank of buffer {name}"
        raise EnergyTableError(at(f"energy table {table.name}", "sram.macros", wanted, has))
    macro = min(fitting, key=lambda m: m.bytes)
    word_bytes = macro.word_bits / 8
    return BufferPrice(
        macro.read_pj / word_bytes,
        macro.write_pj / word_bytes,
        macro.leakage_mw * 1e-3 * buffer.banks,
        macro.area_um2 * buffer.banks,
        macro.cycle_ns,
    )


def price_buffers(arch: Arch, engine: Engine, table: EnergyTable) -> dict[str, BufferPrice]:
    """The prices of every buffer of one engine, by the buffer's name."""
    buffers = getattr(arch.engines, engine).buffers
    names = type(buffers).model_fields
    return {name: price_buffer(f"{engine}.{name}", getattr(buffers, name), table) for name in names}


def slow_buffers(arch: Arch, table: EnergyTable) -> tuple[str, ...]:
    """A line for each buffer whose macro takes longer than a clock period; more, smaller banks mend that."""
    period_ns = 1e9 / arch.clock_hz
    prices = {(e, name): p for e in ENGINES for name, p in price_buffers(arch, e, table).items()}
    return tuple(
        f"{engine}.{name}: a macro cycle of {price.cycle_ns:g} ns exceeds the clock's {period_ns:g} ns"
        for (engine, name), price in prices.items()
        if price.cycle_ns > period_ns
    )
