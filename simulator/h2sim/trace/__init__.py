"""Workload traces: the format h2sim-trace, read, checked, written and synthesised."""

from h2sim.trace.like import like
from h2sim.trace.model import Layer, Neuron, TraceMeta
from h2sim.trace.network import Network, check_layers, load_network
from h2sim.trace.notation import parse_notation
from h2sim.trace.parse import parse_meta, version_of
from h2sim.trace.read import Trace, load_trace
from h2sim.trace.sparsity import reported_sparsity, reported_spikes
from h2sim.trace.structure import Structure
from h2sim.trace.summary import LayerSummary, layer_table
from h2sim.trace.synth import Sparsity, synthesise
from h2sim.trace.write import write_trace

__all__ = [
    "Layer",
    "LayerSummary",
    "Network",
    "Neuron",
    "Sparsity",
    "Structure",
    "Trace",
    "TraceMeta",
    "check_layers",
    "layer_table",
    "like",
    "load_network",
    "load_trace",
    "parse_meta",
    "parse_notation",
    "reported_sparsity",
    "reported_spikes",
    "synthesise",
    "version_of",
    "write_trace",
]
