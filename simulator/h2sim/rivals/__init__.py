"""Machines that H2Learn is compared with, run on the same traces: SpinalFlow, Loihi; published rows for the rest."""
