"""Data files of h2sim: archconfigs (found by name through h2sim.library)."""
