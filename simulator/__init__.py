"""h2sim: a cycle-accurate simulator of H2Learn."""

__version__ = "0.1.0"
