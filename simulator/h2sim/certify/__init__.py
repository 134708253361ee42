"""Bounds on what a spiking network does for every input of a set: S-IBP and S-CROWN, and training on them.

Liang et al., "Toward Robust Spiking Neural Network Against Adversarial Perturbation" (chapter 6 of the source).
"""

from h2sim.certify.boundary import image_box, image_spikes, spike_picks
from h2sim.certify.bounding import Bounds, bounds
from h2sim.certify.fire import LayerBounds

__all__ = ["Bounds", "LayerBounds", "bounds", "image_box", "image_spikes", "spike_picks"]
