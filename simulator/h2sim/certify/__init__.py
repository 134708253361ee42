"""Certified robustness of spiking networks: S-IBP and S-CROWN (chapter 6), what they are asked for, what they cost.

Reading order: affine (a layer before its neuron), ibp, crown, certificate (`bounds`), boundary (the inputs that are
asked about), robust (robust error and loss), operations (what the passes cost).
"""

from h2sim.certify.certificate import Bounds, bounds
from h2sim.certify.ibp import LayerBounds

__all__ = ["Bounds", "LayerBounds", "bounds"]
