"""Workload traces: the format h2sim-trace version 1, read, checked, written and synthesised."""

from h2sim.trace.model import Layer, Neuron, TraceMeta
from h2sim.trace.parse import parse_meta
from h2sim.trace.read import Trace, load_trace
from h2sim.trace.write import write_trace

__all__ = ["Layer", "Neuron", "Trace", "TraceMeta", "load_trace", "parse_meta", "write_trace"]
