"""SpinalFlow (Narayanan et al., ISCA 2020): inference of temporally coded spiking networks."""

from h2sim.rivals.registry import Rival
from h2sim.rivals.spinalflow.run import run_spinalflow
from h2sim.rivals.spinalflow.schema import SpinalFlow

RIVAL = Rival(
    what="SpinalFlow (ISCA 2020), forward pass; prices of the energy table",
    schema=SpinalFlow,
    run=lambda machine, trace, table, ideal_memory: run_spinalflow(machine, trace, table, ideal_memory=ideal_memory),
)
