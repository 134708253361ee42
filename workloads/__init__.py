"""Data files of h2sim: workloads (found by name through h2sim.library)."""
