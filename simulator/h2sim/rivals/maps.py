"""What rivals read of a trace: geometry of a layer with weights, and its masks summed over channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from h2sim.activity import JobKey, Phase
from h2sim.arrays import Bytes, Ints
from h2sim.kernels.channel_maps import channel_counts, sums_of_fed
from h2sim.rivals.operands import unknown_operand
from h2sim.shapes import ConvShape, Tile
from h2sim.trace import Layer, Trace, TraceMeta
from h2sim.trace.graph import Graph


def shape_of(meta: TraceMeta, layer: Layer) -> ConvShape:
    """The layer's geometry; a fully connected one is a convolution of 1x1 maps."""
    if layer.kind != "fc":
        return meta.conv_shape(layer)
    fc = meta.fc_shape(layer)
    return ConvShape.of((fc.timesteps, fc.batch), (fc.in_features, 1, 1), (fc.out_features, 1, 1), (1, 1))


def refuses_currents(graph: Graph, layer: Layer) -> str | None:
    """Why a machine of neurons, weights and spikes that also adds currents cannot run a layer; None if it can."""
    if why := unknown_operand(graph.meta, layer):
        return why
    if layer.kind == "add":
        return None if layer.spiking else "a sum without neuron: the machine has no place for it"
    if layer.kind != "encode" and not all(graph.spiking(name) for name in layer.inputs):
        return "its input is a current, not spikes"
    return None


def has_rows(layer: Layer, phase: Phase) -> bool:
    """Whether there is something to do: a layer that reads the network input passes no gradient on."""
    if phase == "backward":
        return "input" not in layer.inputs
    return phase == "forward" or layer.has_weights


def before(graph: Graph, layer: Layer, phase: Phase) -> tuple[JobKey, ...]:
    """The jobs whose results a layer reads: forward its producers, else those that bring its gradient down."""
    if phase == "forward":
        return graph.producers(layer)
    readers = graph.consumers(layer.name)
    return tuple((reader.name, "backward") for reader in readers) or ((layer.name, "forward"),)


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks that a layer with weights works on, summed over channels: int64 (T * N, H, W) of its input or output.

    spikes: of its input, None for an analog one; seen: (output position, tap) pairs that read an input position.
    """

    shape: ConvShape
    spikes: Ints | None
    seen: Ints
    trace: Trace
    layer: Layer

    @classmethod
    def of(cls, trace: Trace, layer: Layer) -> Masks:
        """Those of an open trace; window and gradient are read when asked for."""
        shape = shape_of(trace.meta, layer)
        ones = np.ones((1, shape.out_height, shape.out_width), np.int64)
        source = layer.inputs[0]
        spikes = None
        if layer.kind != "encode":
            packed = trace.input_spikes() if source == "input" else trace.mask(source, "spikes")
            spikes = channel_counts(_rows(packed, shape), _in_chw(shape))
        return cls(shape, spikes, _fed(shape, ones)[0], trace, layer)

    @property
    def forward_pairs(self) -> int:
        """(Input spike, in-range tap) pairs; of an analog input (value, in-range tap) pairs."""
        if self.spikes is None:
            return int(self.seen.sum()) * self.shape.samples * self.shape.in_channels
        return int((self.spikes * self.seen).sum())

    def gradients(self) -> Ints:
        """For each input position the set bits of the gradient at the outputs that it feeds, tap by tap."""
        shape = self.shape
        packed = _rows(self.trace.mask(self.layer.name, "grad"), shape)
        counts = channel_counts(packed, (shape.out_channels, shape.out_height, shape.out_width))
        return _fed(shape, counts)

    def window(self) -> Ints:
        """The window bits of the input neurons."""
        return channel_counts(_rows(self.trace.mask(self.layer.inputs[0], "window"), self.shape), _in_chw(self.shape))


def _in_chw(shape: ConvShape) -> tuple[int, int, int]:
    return shape.in_channels, shape.in_height, shape.in_width


def _rows(packed: Bytes, shape: ConvShape) -> Bytes:
    """uint8 (T * N, bytes); one gradient for all timesteps, as of a mean over time, stands for T."""
    whole = np.broadcast_to(packed, (shape.timesteps, *packed.shape[1:])) if len(packed) == 1 else packed
    return np.ascontiguousarray(whole).reshape(shape.samples, -1)


def _fed(shape: ConvShape, outputs: Ints) -> Ints:
    return sums_of_fed(outputs, (shape.in_height, shape.in_width), shape.kernel, shape.stride, shape.padding)


def region_of(start: int, stop: int, width: int, region: Callable[[Tile], Tile]) -> int:
    """Positions of the rectangle that positions start <= p < stop of a map, in raster order, read or feed."""
    y0, y1 = start // width, (stop - 1) // width + 1
    whole_rows = y1 - y0 > 1
    x0, x1 = (0, width) if whole_rows else (start % width, (stop - 1) % width + 1)
    return region(Tile(y0, y1, x0, x1)).positions
