"""Prices: energy tables, area, and the cost of what a simulation counted. Sees counts, never engines."""

from h2sim.energy.area import Area, area
from h2sim.energy.bill import BillLine, Charge
from h2sim.energy.cost import Cost, price
from h2sim.energy.load import load_energy_table, parse_energy_table
from h2sim.energy.sram import slow_buffers
from h2sim.energy.table import EnergyTable

__all__ = [
    "Area",
    "BillLine",
    "Charge",
    "Cost",
    "EnergyTable",
    "area",
    "load_energy_table",
    "parse_energy_table",
    "price",
    "slow_buffers",
]
