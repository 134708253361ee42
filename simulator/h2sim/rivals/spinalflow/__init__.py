"""SpinalFlow (Narayanan et al., ISCA 2020): inference of temporally coded spiking networks."""

from h2sim.rivals.spinalflow.run import RIVAL

__all__ = ["RIVAL"]
