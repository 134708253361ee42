"""Data files of h2sim: energy_tables (found by name through h2sim.library)."""
