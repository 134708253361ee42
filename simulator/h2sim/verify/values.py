"""The values of a trace's layers: recorded ones, and those that the engines' data paths make of them.

Each is computed from what was recorded of the layer's neighbours, with a tolerance (h2sim.verify.tolerance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.arrays import Array, Bytes, Float32s, Floats
from h2sim.pipeline.analog_jobs import multiplied
from h2sim.trace import Layer, Trace
from h2sim.trace.bits import unpack
from h2sim.trace.graph import Graph
from h2sim.verify import datapath
from h2sim.verify.maps import as_map, counted, handed_on, made, scales_of
from h2sim.verify.norms import Normal
from h2sim.verify.report import stored_rounding
from h2sim.verify.tolerance import UNIT, Checked, sum_of, summation_tolerance


class Current(Protocol):
    """Computes a layer's current; size: from the absolute values of an analog operand."""

    def __call__(self, weight: Float32s, bias: Float32s, size: bool, /) -> Float32s: ...


@dataclass(frozen=True)
class Read:
    """What a layer with weights reads: spikes, counts of so many planes, or with planes 0 analog values.

    values: (T, N, C, H, W), or (T, N, in) for fc; slack: their tolerance, None for 0. scales: what a weight of each
    input channel or feature is multiplied by, (in,), None for 1.
    """

    values: Array
    planes: int
    slack: Array | None = None
    scales: Float32s | None = None


class Values:
    """Recorded and recomputed values of a trace on a machine."""

    def __init__(self, arch: Arch, trace: Trace) -> None:
        self.arch, self.trace, self.meta = arch, trace, trace.meta
        self.graph, self.derived = Graph.of(trace), trace.maps.derived
        self._of_joins: dict[str, Checked | None] = {}  # gradients of sums, which all earlier ones ask for

    # what the trace recorded

    def shape(self, name: str) -> tuple[int, ...]:
        """(T, N, C, H, W) of a layer, (T, N, F) of an fc layer."""
        chw = self.meta.layer(name).out_chw
        fc = self.meta.layer(name).kind == "fc"
        return (self.meta.timesteps, self.meta.batch, *(chw[:1] if fc else chw))

    def mask(self, name: str, kind: str) -> Bytes:
        """A recorded mask as 0 and 1, uint8 (T, N, C, H, W) or (T, N, F)."""
        packed = self.trace.mask(name, kind)
        bits = unpack(packed, self.meta.layer(name).neurons)
        return np.broadcast_to(bits, (self.meta.timesteps, *bits.shape[1:])).reshape(self.shape(name))

    def recorded(self, name: str, kind: str) -> Floats | None:
        """Recorded values as stored, or None where the trace does not carry them."""
        return self.trace.values(name, kind) if self.trace.has(f"{name}.{kind}") else None

    def engine_gradient(self, layer: Layer) -> Floats | None:
        """What the Backward and the Weight Update Engine take of a layer: dm, behind a norm of the step dL/dx."""
        return self.recorded(layer.name, "grad_current" if layer.trained_norms else "grad_membrane")

    # forward

    def read(self, layer: Layer) -> Read | None:
        """What a layer with weights reads; None where an analog map is not known."""
        name = layer.inputs[0]
        operand, chw = self.derived.operands[name], self.graph.chw(name)
        tail = (math.prod(chw),) if layer.kind == "fc" else chw
        shape = (self.meta.timesteps, self.meta.batch, *tail)
        scales = None
        if any(s != 1 for s, _ in operand.runs):
            by_channel = scales_of(operand).ravel().astype(np.float32)
            scales = by_channel.repeat(math.prod(chw[1:])) if layer.kind == "fc" else by_channel
        if operand.kind != "analog":
            k = self.derived.counts(name).reshape(shape)
            return Read(k, 0 if multiplied(self.arch, self.graph, layer) else operand.planes, None, scales)
        sent = self.sent(name)
        return None if sent is None else Read(sent[0].reshape(shape), 0, sent[1].reshape(shape), scales)

    def sent(self, name: str) -> Checked | None:
        """What a layer, or the network input, gives to what reads it: (T, N, C, H, W), None where it is not known."""
        if name == "input" and self.meta.analog:
            analog = self.trace.input_analog().astype(np.float32)
            values = np.broadcast_to(analog, (self.meta.timesteps, *analog.shape[1:]))
            return values, np.zeros(values.shape)
        if self.derived.operands[name].kind != "analog":
            return counted(self.derived, name)
        layer = self.meta.layer(name)
        found = self._recorded_current(layer)
        if found is None:
            found = self.normalised(layer) if layer.trained_norms else self.current(layer)
        return (
            None
            if found is None
            else (as_map(found[0], layer.out_chw), found[1].reshape(found[0].shape[:2] + layer.out_chw))
        )

    def _recorded_current(self, layer: Layer) -> Checked | None:
        """What a layer of weights without neurons passes on, where the trace holds it: its own rows check that."""
        recorded = self.recorded(layer.name, "membrane") if layer.has_weights else None
        if recorded is None:
            return None
        values = recorded.astype(np.float32)
        return values, np.broadcast_to(stored_rounding(recorded), values.shape).astype(np.float64)

    def current(self, layer: Layer) -> Checked | None:
        """The current x of a layer, or the values of a map but a norm; None where something is not recorded."""
        if not layer.has_weights:
            return self._of_inputs(layer)
        weight, read = self.recorded(layer.name, "weight"), self.read(layer)
        if weight is None or read is None:
            return None
        weight = _scaled(weight.astype(np.float32), read.scales, layer.groups)
        recorded_bias = self.recorded(layer.name, "bias")
        bias = np.zeros(weight.shape[0], np.float32) if recorded_bias is None else recorded_bias.astype(np.float32)
        run, terms = self._engine_current(layer, weight, read)
        size = run(np.abs(weight), np.abs(bias), True)
        tolerance = summation_tolerance(terms, size)
        if read.scales is not None:
            tolerance = tolerance + 2 * UNIT * size
        if read.slack is not None and read.slack.any():
            unsure = Read(read.slack.astype(np.float32), 0)
            tolerance = tolerance + self._engine_current(layer, weight, unsure)[0](np.abs(weight), 0 * bias, True)
        return self._over_time(layer, run(weight, bias, False), tolerance)

    def _over_time(self, layer: Layer, x: Float32s, tolerance: Array) -> Checked:
        """Of a mean over time the mean, at every timestep the same."""
        if not layer.mean_over_time:
            return x, tolerance
        mean = x.mean(axis=0, keepdims=True, dtype=np.float32)
        unsure = tolerance.mean(axis=0, keepdims=True) + summation_tolerance(
            len(x), np.abs(x).mean(axis=0, keepdims=True)
        )
        return np.broadcast_to(mean, x.shape), np.broadcast_to(unsure, x.shape)

    def _engine_current(self, layer: Layer, weight: Float32s, read: Read) -> tuple[Current, int]:
        """How the layer's engine computes its current, and how many terms an element sums.

        The function takes weights, biases and whether to take absolute values of an analog operand.
        """
        terms, arch = int(np.prod(weight.shape[1:])) + 1, self.arch
        values, sizes = read.values, np.abs(read.values) if not read.planes else read.values
        if layer.kind == "fc":
            fc = self.meta.fc_shape(layer)
            if not read.planes:
                return lambda w, b, size: datapath.analog_fc_current(arch, fc, sizes if size else values, w, b), terms
            return lambda w, b, _: datapath.fc_current(arch, fc, values, w, b, read.planes), terms
        conv = self.meta.conv_shape(layer)
        if not read.planes:
            return lambda w, b, size: datapath.encode_current(arch, conv, sizes if size else values, w, b), terms
        return lambda w, b, _: datapath.conv_current(arch, conv, values, w, b, read.planes), terms

    def _of_inputs(self, layer: Layer) -> Checked | None:
        """The current of a pool or an add, or a map but a norm, of what its inputs send; of a norm what it reads."""
        sent = [self.sent(name) for name in layer.inputs]
        known = [each for each in sent if each is not None]
        if len(known) < len(sent):
            return None
        if layer.kind in ("pool", "add", "norm") and layer.op == "sum":  # a pool may also read features
            known = [(as_map(x, layer.in_chw), slack.reshape(*x.shape[:2], *layer.in_chw)) for x, slack in known]
        if layer.kind == "norm":
            return known[0]
        return made(self.derived, layer, known)

    def normalised(self, layer: Layer) -> Checked | None:
        """What a layer with a norm of the step passes on, or gives to its neurons; None where it cannot be computed."""
        found, x = self.normal(layer), self.current(layer)
        if found is None or x is None:
            return None
        y, slack = found.forward(self.recorded(layer.name, "norm_bias"))
        return y.reshape(x[0].shape), slack.reshape(x[0].shape)

    def normal(self, layer: Layer) -> Normal | None:
        """The norm of a layer; None unless it has one whose values are known."""
        if len(layer.trained_norms) != 1 or not self.trace.has(f"{layer.name}.norm_weight"):
            return None
        x = self.current(layer)
        if x is None:
            return None
        as_maps = as_map(x[0], layer.out_chw), x[1].reshape(*x[0].shape[:2], *layer.out_chw)
        return Normal.of(layer.trained_norms[0], as_maps, self.recorded(layer.name, "norm_weight"))

    # backward

    def gradient(self, name: str) -> Checked | None:
        """The gradient of a map from all its readers, (T, N, C, H, W): of integers k, or of analog values.

        None of an output, and where a reader's weight or gradient is not recorded.
        """
        if name in self._of_joins:
            return self._of_joins[name]
        found = self._summed_gradient(name)
        if name != "input" and self.meta.layer(name).kind == "add":
            self._of_joins[name] = found
        return found

    def _summed_gradient(self, name: str) -> Checked | None:
        readers = self.graph.consumers(name)
        seen: dict[str, int] = {}
        found = []
        for reader in readers:
            found.append(self._from_reader(name, reader, seen.setdefault(reader.name, 0)))
            seen[reader.name] += 1
        parts = [part for part in found if part is not None]
        if not readers or len(parts) < len(found):
            return None
        total, size = sum_of([part[0] for part in parts]), sum_of([np.abs(part[0]) for part in parts])
        return total, sum_of([part[1] for part in parts]) + summation_tolerance(len(parts), size)

    def _from_reader(self, name: str, reader: Layer, nth: int) -> Checked | None:
        """nth: which of the reader's inputs of that name, for it may read a map twice."""
        number = [i for i, each in enumerate(reader.inputs) if each == name][nth]
        if self.graph.gradients.is_routed(reader):
            given = self.gradient(reader.name)
        else:
            given = self._recorded_gradient(reader)
        if given is None:
            return None
        if reader.has_weights:
            return self._through_weights(name, reader, given)
        if self.graph.gradients.is_routed(reader) and reader.trained_norms:
            return self._through_norm(name, reader, given)
        shape = (*given[0].shape[:2], *self.graph.chw(name))  # a pool may also read features
        down = handed_on(self.derived, reader, number, given)
        return down[0].reshape(shape), down[1].reshape(shape)

    def _recorded_gradient(self, layer: Layer) -> Checked | None:
        recorded = self.engine_gradient(layer)
        if recorded is None:
            return None
        dm = np.broadcast_to(recorded, self.shape(layer.name)).astype(np.float32)
        stored = np.abs(dm) * 2.0**-11 if recorded.dtype == np.float16 else np.zeros(dm.shape)
        return as_map(dm, layer.out_chw), stored.reshape(*dm.shape[:2], *layer.out_chw)

    def _through_norm(self, name: str, layer: Layer, given: Checked) -> Checked | None:
        found = self.normal(layer)
        if found is None:
            return None
        dx, slack = found.backward(given)
        ratio = scales_of(self.derived.operands[name])
        return (dx * ratio).astype(np.float32), slack * ratio

    def _through_weights(self, name: str, layer: Layer, given: Checked) -> Checked | None:
        """dL/dk of what a layer with weights reads, where the Backward Engine's mode does not skip it."""
        recorded, read = self.recorded(layer.name, "weight"), self.read(layer)
        if recorded is None or read is None:
            return None
        weight = _scaled(recorded.astype(np.float32), read.scales, layer.groups)
        (dm, stored), shape = given, (*given[0].shape[:2], *self.graph.chw(name))
        if layer.kind == "fc":
            fc = self.meta.fc_shape(layer)
            dm, stored = dm[..., 0, 0], stored[..., 0, 0]
            ds = datapath.fc_spatial(self.arch, fc, dm, weight).reshape(shape)
            size = datapath.fc_spatial(self.arch, fc, np.abs(dm), np.abs(weight)).reshape(shape)
            kept = datapath.fc_spatial(self.arch, fc, stored, np.abs(weight)).reshape(shape)
            return ds, summation_tolerance(2 * fc.out_features, size) + kept
        conv = self.meta.conv_shape(layer)
        masks = self.mask(layer.name, "grad"), self.derived.needed(name).astype(np.uint8)
        ds = datapath.conv_spatial(self.arch, conv, dm, *masks, weight)
        size = datapath.conv_spatial(self.arch, conv, np.abs(dm), *masks, np.abs(weight))
        kept = datapath.conv_spatial(self.arch, conv, stored, *masks, np.abs(weight))
        terms = 2 * conv.group.out_channels * conv.kernel[0] * conv.kernel[1]
        return ds, summation_tolerance(terms, size) + kept

    # weight update

    def weight_gradient(self, layer: Layer, dm: Float32s) -> tuple[Checked, Float32s] | None:
        """dw through the layer's engine, with its tolerance, and the sums of its terms' absolute values.

        None where an analog map is not known.
        """
        read = self.read(layer)
        if read is None:
            return None
        sizes = np.abs(dm)
        dw, size = self._dw(layer, read, dm), self._dw(layer, replace(read, values=np.abs(read.values)), sizes)
        samples, outputs = self.meta.timesteps * self.meta.batch, math.prod(layer.out_chw[1:])
        tolerance = summation_tolerance((1 if read.planes else 2) * samples * outputs, size)
        if read.slack is not None and read.slack.any():
            tolerance = tolerance + self._dw(layer, replace(read, values=read.slack.astype(np.float32)), sizes)
        return (dw, tolerance), size

    def _dw(self, layer: Layer, read: Read, dm: Float32s) -> Float32s:
        arch, values, planes = self.arch, read.values, read.planes
        if layer.kind == "fc":
            fc = self.meta.fc_shape(layer)
            found = (
                datapath.fc_weight_gradient(arch, fc, values, dm, planes)
                if planes
                else datapath.analog_fc_weight_gradient(arch, fc, values, dm)
            )
        else:
            conv = self.meta.conv_shape(layer)
            found = (
                datapath.conv_weight_gradient(arch, conv, values, dm, planes)
                if planes
                else datapath.encode_weight_gradient(arch, conv, values, dm)
            )
        return _scaled(found, read.scales, layer.groups)


def _scaled(weight: Float32s, scales: Float32s | None, groups: int) -> Float32s:
    """Weights, or their gradients, (out, in / groups, ...), times the scale of what each reads, (in,)."""
    if scales is None:
        return weight
    by_group = scales.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
    return weight * by_group.reshape(*by_group.shape, *[1] * (weight.ndim - 2))
