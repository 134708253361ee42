"""`python -m h2sim` is the h2sim command."""

from h2sim.cli import main

main(prog_name="h2sim")
