"""Rival machines on the same traces: one folder each, and one line in the registry."""
