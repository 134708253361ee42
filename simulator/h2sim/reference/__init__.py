"""The three engines stepped cycle by cycle in plain Python: slow, small shapes only, readable as the datapath.

Every unit of the figures is one class (`lut`, `acc`, `finder`, `mac`, `neuron`); the engine files join them
into PE arrays and drive them with a clock. Nothing here is computed by formula: cycles are clock ticks.
"""

from h2sim.reference.backward import backward_conv, backward_fc
from h2sim.reference.encode import encode_forward, encode_weight_gradient
from h2sim.reference.forward import forward_conv, forward_fc
from h2sim.reference.neuron import average_pool, average_pool_transpose, grad, soma
from h2sim.reference.result import EngineRun
from h2sim.reference.weight_update import weight_update_conv, weight_update_fc

__all__ = [
    "EngineRun",
    "average_pool",
    "average_pool_transpose",
    "backward_conv",
    "backward_fc",
    "encode_forward",
    "encode_weight_gradient",
    "forward_conv",
    "forward_fc",
    "grad",
    "soma",
    "weight_update_conv",
    "weight_update_fc",
]
