"""The h2sim command."""
