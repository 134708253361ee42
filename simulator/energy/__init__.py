"""Prices: energy tables, area, and the cost of what a simulation counted. Sees counts, never engines."""

from h2sim.energy.area import Area, area
from h2sim.energy.cost import Cost, price
from h2sim.energy.table import EnergyTable, load_energy_table, parse_energy_table

__all__ = ["Area", "Cost", "EnergyTable", "area", "load_energy_table", "parse_energy_table", "price"]
