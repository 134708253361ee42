"""Data of the machines that H2Learn is compared with, and what its source reports."""
