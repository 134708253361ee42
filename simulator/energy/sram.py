"""Prices of a global buffer: the SRAM macros that its banks take."""

from __future__ import annotations

from dataclasses import dataclass

from h2sim.arch.schema import Buffer
from h2sim.energy.table import EnergyTable
from h2sim.errors import EnergyTableError


@dataclass(frozen=True)
class BufferPrice:
    """A buffer of several banks: energy per byte moved, leakage and area of all banks."""

    read_pj_per_byte: float
    write_pj_per_byte: float
    leakage_w: float
    area_um2: float


def price_buffer(name: str, buffer: Buffer, table: EnergyTable) -> BufferPrice:
    """The smallest macro of the buffer's word width that holds a bank, times the banks.

    Raises EnergyTableError where the table has none: use more banks or another word width.
    """
    bank_bytes = -(-buffer.bytes // buffer.banks)
    fitting = [m for m in table.sram.macros if m[1] == buffer.word_bits and m[0] >= bank_bytes]
    if not fitting:
        sizes = sorted({int(m[0]) for m in table.sram.macros if m[1] == buffer.word_bits})
        has = f"{sizes[0]} to {sizes[-1]} bytes" if sizes else "none"
        raise EnergyTableError(
            f"energy table {table.name}: sram.macros: expected one of {buffer.word_bits}-bit words and at least "
            f"{bank_bytes} bytes for a bank of buffer {name}; got {has}"
        )
    _, word_bits, read_pj, write_pj, leakage_mw, area_um2, _ = min(fitting, key=lambda m: m[0])
    word_bytes = word_bits / 8
    return BufferPrice(
        read_pj / word_bytes, write_pj / word_bytes, leakage_mw * 1e-3 * buffer.banks, area_um2 * buffer.banks
    )


def price_buffers(arch_engine, engine: str, table: EnergyTable) -> dict[str, BufferPrice]:
    """Every buffer of one engine by its name."""
    buffers = arch_engine.buffers
    names = type(buffers).model_fields
    return {name: price_buffer(f"{engine}.{name}", getattr(buffers, name), table) for name in names}
