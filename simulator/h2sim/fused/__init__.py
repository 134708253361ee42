"""Training that keeps only currents: batch norm, LIF and what reads the spikes as one unit over all timesteps.

Chapter 4 of the source. Of a unit only x is kept; normed values, membranes and spikes are computed again in the
backward pass, by Triton on GPUs and by numba on the CPU.
"""

from h2sim.fused.modules import FusedAvgPool2d, FusedBNLIF, FusedConv2d, FusedLIF, FusedLinear, FusedUnit
from h2sim.neuron import Neuron

__all__ = ["FusedAvgPool2d", "FusedBNLIF", "FusedConv2d", "FusedLIF", "FusedLinear", "FusedUnit", "Neuron"]
