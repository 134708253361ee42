"""What a normalisation with statistics of the step costs: two passes over what it normalises, forward and backward [A].

The first pass makes sums, the second uses them, so that x goes to memory and comes back. Of an element of x and a
normalisation: forward sum x and sum x^2, then a x + b; backward sum dy and sum dy x, then p dy + q x + r.
"""

from __future__ import annotations

from dataclasses import dataclass

from h2sim.activity import Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.memory.traffic import VALUE_BYTES
from h2sim.pipeline.geometry import NeuronTiles
from h2sim.trace import Layer

FORWARD_SUMS, BACKWARD_SUMS = 2, 2  # additions of an element, by Acc
FORWARD_MULTIPLIES, FORWARD_ADDS = 2, 1  # of both passes, of the second pass
BACKWARD_MULTIPLIES, BACKWARD_ADDS = 3, 2
BACKWARD_READS = 3  # values of an element: x; then dy and x again


@dataclass(frozen=True)
class Passed:
    """Bytes that the passes read and write, int64 (groups, tiles), and events of Acc and of Soma or Grad."""

    reads: Ints
    writes: Ints
    acc: Actions
    neuron: Actions


@dataclass(frozen=True)
class Normalised:
    """How many normalisations of a layer's output take two passes."""

    count: int

    @classmethod
    def of(cls, arch: Arch, layer: Layer) -> Normalised:
        """Those with statistics of the step; none where the machine's model says that they cost nothing."""
        return cls(len(layer.trained_norms) if arch.normalisation.model == "two_pass" else 0)

    def forward(self, neurons: NeuronTiles) -> Passed:
        """x is written and read once."""
        each = VALUE_BYTES * self.count * neurons.neurons
        elements = self.count * int(neurons.neurons.sum())
        return Passed(
            reads=each,
            writes=each,
            acc=Actions(fp16_add=FORWARD_SUMS * elements),
            neuron=Actions(fp16_multiply=FORWARD_MULTIPLIES * elements, fp16_add=FORWARD_ADDS * elements),
        )

    def backward(self, neurons: NeuronTiles) -> Passed:
        """x is read and dy written, then both are read; what they make is written in place of dm."""
        each = VALUE_BYTES * self.count * neurons.neurons
        elements = self.count * int(neurons.neurons.sum())
        return Passed(
            reads=BACKWARD_READS * each,
            writes=each,
            acc=Actions(fp16_add=BACKWARD_SUMS * elements),
            neuron=Actions(fp16_multiply=BACKWARD_MULTIPLIES * elements, fp16_add=BACKWARD_ADDS * elements),
        )

    def fill_cycles(self, layer: Layer, turns: int) -> int:
        """Cycles of the last column group's second pass, which nothing hides: turns * H * W a normalisation.

        turns: ceil(T*N / P), in which a neuron unit takes all samples of a position.
        """
        _, height, width = layer.out_chw
        return self.count * turns * height * width
