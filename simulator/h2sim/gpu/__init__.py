"""GPU traces: time and energy of a training step on a GPU, by layer and phase.

They are recorded, imported or published.
"""

from h2sim.gpu.files import load_gpu_trace, write_gpu_trace
from h2sim.gpu.trace import Device, Energy, GpuTrace, Row, Step, Values, parse_gpu_trace

__all__ = [
    "Device",
    "Energy",
    "GpuTrace",
    "Row",
    "Step",
    "Values",
    "load_gpu_trace",
    "parse_gpu_trace",
    "write_gpu_trace",
]
