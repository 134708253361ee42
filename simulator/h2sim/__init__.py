"""h2sim: a cycle-accurate simulator of H2Learn, an accelerator that trains spiking neural networks by BPTT.

>>> import h2sim
>>> result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"))
>>> result.layer_table()
"""

from h2sim._version import __version__
from h2sim.arch import Arch, load_arch
from h2sim.energy import EnergyTable, load_energy_table
from h2sim.errors import H2SimError
from h2sim.result import Result
from h2sim.simulate import simulate
from h2sim.trace import Trace, load_trace

__all__ = [
    "Arch",
    "EnergyTable",
    "H2SimError",
    "Result",
    "Trace",
    "__version__",
    "load_arch",
    "load_energy_table",
    "load_trace",
    "simulate",
]
