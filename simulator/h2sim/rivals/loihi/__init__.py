"""Loihi (Davies et al., IEEE Micro 2018): inference on placed cores, events counted exactly."""

from h2sim.rivals.loihi.run import run_loihi
from h2sim.rivals.loihi.schema import LoihiMachine
from h2sim.rivals.registry import Kind

RIVAL = Kind(
    what="Loihi, forward pass; energies and times of its arch file (published, or fitted to silicon)",
    schema=LoihiMachine,
    run=lambda machine, trace, table, ideal_memory: run_loihi(machine, trace),  # prices of its own, no such memories
)
