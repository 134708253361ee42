"""What a step of certified training computes beside the plain one: operations by count, for no trace holds bounds.

With M the multiply-accumulates of all weights for one sample and timestep, R = classes - 1 rows, T and T' timesteps
(an input of pixels passes the first layer once, not T times):

    plain forward     T M     accumulations, of spikes; backward 2 T M multiply-accumulates (gradients of inputs and
                              weights), less the first layer's gradient of the input
    S-IBP             3 T' M  accumulations: w on the lower spikes, w+ and w- on those that may differ; 6 T' M back
    S-CROWN           R T' M  multiply-accumulates, rows of the margins from the last layer to the input; 2 R T' M back

and, a neuron and timestep, N of which a sample has N: 2 T' N steps of Soma by S-IBP, R T' N of the lines by S-CROWN.
These are counts of dense work: zeros among spikes, and rows that a line of slope 0 ends, are not taken off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from h2sim.train.network import SpikingNetwork

PASSES = 3  # of S-IBP: w, w+ and w-
BACK = 2  # of a product: the gradients of what it reads and of its weights


@dataclass(frozen=True)
class Operations:
    """Operations of a sample. *_forward: of the pass itself; *_backward: of its derivative, in training."""

    plain_forward: int
    plain_backward: int
    ibp_forward: int
    ibp_backward: int
    crown_forward: int
    crown_backward: int
    ibp_neurons: int
    crown_neurons: int

    def of(self, bound: str, *, training: bool = True) -> int:
        """Multiply-accumulates and accumulations of the bounds that a loss takes, beside the plain part.

        bound: ibp, crown or max; the lines of the latter two need S-IBP's bounds first.
        """
        ibp = self.ibp_forward + self.ibp_backward * training
        return ibp if bound == "ibp" else ibp + self.crown_forward + self.crown_backward * training


def operations(network: SpikingNetwork, timesteps: int, certified_timesteps: int) -> Operations:
    """Operations of a sample in T timesteps of the network and T' of its bounds."""
    rows, plain, first, ibp, crown, neurons = network.classes - 1, 0, 0, 0, 0, 0
    for layer in network.described.values():
        neurons += layer.neurons * layer.spiking
        shape = layer.weight_shape
        if shape is None:
            continue
        macs = math.prod(shape) * math.prod(layer.out_chw[1:])
        still = network.reads_analog and "input" in layer.inputs
        plain += macs * (1 if still else timesteps)
        first += macs * (1 if still else timesteps) * ("input" in layer.inputs)
        ibp += PASSES * macs * (1 if still else certified_timesteps)
        crown += rows * macs * certified_timesteps
    return Operations(
        plain_forward=plain,
        plain_backward=BACK * plain - first,
        ibp_forward=ibp,
        ibp_backward=BACK * ibp,
        crown_forward=crown,
        crown_backward=BACK * crown,
        ibp_neurons=2 * certified_timesteps * neurons,
        crown_neurons=rows * certified_timesteps * neurons,
    )
