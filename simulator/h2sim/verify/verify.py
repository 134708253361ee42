"""Recomputes every layer of a trace through the engines' data paths, and compares the values with PyTorch's.

Each layer starts from what the trace recorded of its neighbours, so an error shows where it happens. The tolerance of a
value is what another order of a float32 sum can change: 8 * sqrt(k) * 2^-24 * sum|terms| for k terms. That is the
probabilistic bound of Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, with lambda = 4 for each of the two orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.arrays import Array, Bools, Bytes, Float32s, Float64s, Floats
from h2sim.cautions import flattered_by_norm
from h2sim.errors import TraceError
from h2sim.io.progress import Progress
from h2sim.trace import Layer, Neuron, Trace
from h2sim.trace.bits import unpack
from h2sim.trace.graph import Graph
from h2sim.verify import datapath
from h2sim.verify.neuron import Size2, average_pool, grad, soma, spread_pool
from h2sim.verify.report import Unchecked, VerifyReport, VerifyRow, compare_bits, compare_values, stored_rounding

UNIT = 2.0**-24  # float32 rounding
Checked = tuple[Float32s, Float64s]  # values and the tolerance of each


class Current(Protocol):
    """Computes a layer's current; size: from the absolute values of an analog input."""

    def __call__(self, weight: Float32s, bias: Float32s, size: bool, /) -> Float32s: ...


def verify_trace(arch: Arch, trace: Trace, progress: Progress | None = None) -> VerifyReport:
    """Checks forward pass, backward pass and weight update of every layer, as far as its values are recorded.

    progress(layer, done, total) is called after every layer. Raises TraceError if the trace carries no values.
    """
    if not trace.has_values:
        wanted = "expected members such as 'conv1.weight'; got masks only"
        raise TraceError(f"{trace.path}: carries no values to verify: {wanted}")
    checker = _Checker(arch, trace)
    for number, layer in enumerate(trace.meta.layers, start=1):
        with np.errstate(over="ignore", invalid="ignore"):  # finite records may overflow float32; a row counts them
            checker.layer(layer)
        if progress:
            progress(layer.name, number, len(trace.meta.layers))
    return VerifyReport(
        rows=tuple(checker.rows),
        layers=tuple(layer.name for layer in trace.meta.layers),
        unchecked=tuple(checker.unchecked),
        batch_norm=flattered_by_norm(trace),
        broken_laws=trace.broken_laws,
    )


def summation_tolerance(terms: int, magnitude: Array) -> Float64s:
    """How far two sums of the same float32 values can differ that add them in different orders.

    terms: how many values; magnitude: the sum of their absolute values, of any shape.
    """
    return 8.0 * math.sqrt(max(terms, 1)) * UNIT * magnitude.astype(np.float64)


def sum_of(arrays: Sequence[Array]) -> Array:
    """The element-wise sum of one or more arrays."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


class _Checker:
    """Checks layer after layer; `rows` are what was compared, `notes` what could not be and why."""

    def __init__(self, arch: Arch, trace: Trace) -> None:
        self.arch, self.trace, self.meta = arch, trace, trace.meta
        self.graph = Graph(trace.meta)
        self.rows: list[VerifyRow] = []
        self.unchecked: list[Unchecked] = []
        # a recorder that turned subnormal float16 gradients into 0 moved each by up to the smallest normal one
        self.flushed = 2.0**-14 if trace.meta.source.get("gradient_dtype") == "float16-flush" else 0.0

    def layer(self, layer: Layer) -> None:
        """All checks of one layer that its recorded values allow."""
        self._forward(layer)
        if "backward" in self.meta.phases:
            self._backward(layer)
        if "weight_update" in self.meta.phases and layer.kind in ("conv", "fc", "encode"):
            self._weight_gradient(layer)

    def _skip(self, layer: Layer, why: str) -> None:
        self.unchecked.append(Unchecked(layer.name, why))

    # what the trace recorded

    def _shape(self, name: str) -> tuple[int, ...]:
        chw = self.meta.layer(name).out_chw
        fc = self.meta.layer(name).kind == "fc"
        return (self.meta.timesteps, self.meta.batch, *(chw[:1] if fc else chw))

    def _mask(self, name: str, kind: str) -> Bytes:
        """A recorded mask as 0 and 1, uint8 (T, N, C, H, W) or (T, N, F)."""
        neurons = self.meta.layer(name).neurons
        return unpack(self.trace.mask(name, kind), neurons).reshape(self._shape(name))

    def _input(self, layer: Layer) -> Bytes:
        """The binary input of a layer as 0 and 1, uint8 (T, N, C, H, W), or (T, N, in) for fc."""
        chw = layer.in_chw
        name, tail = layer.inputs[0], (math.prod(chw),) if layer.kind == "fc" else chw
        packed = self.trace.input_spikes() if name == "input" else self.trace.mask(name, "spikes")
        return unpack(packed, math.prod(chw)).reshape(self.meta.timesteps, self.meta.batch, *tail)

    def _analog(self) -> Float32s:
        analog = self.trace.input_analog().astype(np.float32)
        return np.broadcast_to(analog, (self.meta.timesteps, *analog.shape[1:]))

    def _value(self, name: str, kind: str) -> Floats | None:
        """Recorded values as stored, or None where the trace does not carry them."""
        return self.trace.values(name, kind) if self.trace.has(f"{name}.{kind}") else None

    # forward

    def _current(self, layer: Layer) -> Checked | None:
        """The current x of a layer through its engine, with tolerances; None if its weights are not recorded."""
        if layer.kind in ("pool", "add"):
            return self._soma_sum(layer)
        weight = self._value(layer.name, "weight")
        if weight is None:
            return None
        weight = weight.astype(np.float32)
        recorded_bias = self._value(layer.name, "bias")
        bias = np.zeros(weight.shape[0], np.float32) if recorded_bias is None else recorded_bias.astype(np.float32)
        run, terms = self._engine_current(layer, weight)
        return run(weight, bias, False), summation_tolerance(terms, run(np.abs(weight), np.abs(bias), True))

    def _engine_current(self, layer: Layer, weight: Float32s) -> tuple[Current, int]:
        """How the layer's engine computes its current, and how many terms an element sums.

        The function takes weights, biases and whether to take absolute values of an analog input.
        """
        terms = int(np.prod(weight.shape[1:])) + 1
        if layer.kind == "fc":
            spikes, fc = self._input(layer), self.meta.fc_shape(layer)
            return lambda w, b, _: datapath.fc_current(self.arch, fc, spikes, w, b), terms
        conv = self.meta.conv_shape(layer)
        if layer.kind == "encode":
            analog = self._analog()
            sizes = np.abs(analog)
            return lambda w, b, size: datapath.encode_current(self.arch, conv, sizes if size else analog, w, b), terms
        spikes = self._input(layer)
        return lambda w, b, _: datapath.conv_current(self.arch, conv, spikes, w, b), terms

    def _soma_sum(self, layer: Layer) -> Checked | None:
        """The average of a pool, or the sum of an add, over what its inputs send, with tolerances.

        An input sends spikes, or the current of a non-spiking layer. None if one of those is not known.
        """
        sent = [self._sent(layer, name) for name in layer.inputs]
        shape = (self.meta.timesteps, self.meta.batch, *layer.in_chw)
        known = [(x.reshape(shape), slack.reshape(shape)) for x, slack in filter(None, sent)]
        if len(known) < len(sent):
            return None
        if layer.kind == "pool":
            pool, (x, slack) = self._pool(layer), known[0]
            rounding = summation_tolerance(math.prod(pool[0]), average_pool(np.abs(x), *pool))
            return average_pool(x, *pool), rounding + average_pool(slack, *pool)
        total = known[0][0].astype(np.float32)
        for x, _ in known[1:]:
            total = total + x.astype(np.float32)
        size = sum_of([np.abs(x).astype(np.float32) for x, _ in known])
        return total, summation_tolerance(len(known), size) + sum_of([slack for _, slack in known])

    def _sent(self, layer: Layer, name: str) -> Checked | None:
        """What input `name` sends to a pool or add, with tolerances, which are 0 for spikes."""
        if name == "input" or self.graph.spiking(name):
            spikes = self._input(layer) if name == "input" else self._mask(name, "spikes")
            return spikes.astype(np.float32), np.zeros(spikes.shape, np.float64)
        return self._current(self.meta.layer(name))

    def _pool(self, layer: Layer) -> tuple[Size2, Size2, Size2]:
        shape = self.meta.conv_shape(layer)
        return shape.kernel, shape.stride, shape.padding

    def _forward(self, layer: Layer) -> None:
        if layer.spiking and layer.neuron.equation == "other":
            self._skip(layer, "another neuron equation: spikes, window and membrane not checked")
            return
        current = self._current(layer)
        if current is None:
            self._skip(layer, "no weight recorded: forward pass not checked")
            return
        x, tolerance = current
        x = x.reshape(self._shape(layer.name))
        tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), current[0].shape).reshape(x.shape)
        recorded = self._value(layer.name, "membrane")
        if not layer.spiking:
            if recorded is not None:
                self.rows.append(compare_values(layer.name, "current", x, recorded, tolerance))
            return
        neuron = layer.neuron
        spikes, membrane, window = soma(x, neuron)
        slack = self._carried(tolerance, np.abs(membrane), neuron.decay)
        theirs = self._mask(layer.name, "spikes")
        margin = np.abs(membrane - np.float32(neuron.threshold))
        after = self._after_flip(spikes != theirs, margin <= slack)
        row, _ = compare_bits(layer.name, "spikes", spikes, theirs, margin, slack, after)
        self.rows.append(row)
        low, high = neuron.window
        margin = np.minimum(np.abs(membrane - np.float32(low)), np.abs(membrane - np.float32(high)))
        row, _ = compare_bits(layer.name, "window", window, self._mask(layer.name, "window"), margin, slack, after)
        self.rows.append(row)
        if recorded is not None:
            self.rows.append(compare_values(layer.name, "membrane", membrane, recorded, slack, after))

    @staticmethod
    def _carried(tolerance: Float64s, magnitude: Float32s, decay: float) -> Float64s:
        """Tolerance of m[t]: that of its current, plus decay times that of m[t-1], plus its own rounding."""
        slack = np.empty(tolerance.shape, np.float64)
        before = np.zeros(tolerance.shape[1:])
        for t in range(tolerance.shape[0]):
            slack[t] = tolerance[t] + abs(decay) * before + 4 * UNIT * magnitude[t]
            before = slack[t]
        return slack

    @staticmethod
    def _after_flip(differ: Bools, close: Bools) -> Bools:
        """Which timesteps of a neuron come after a spike that differs and that rounding could decide either way."""
        flipped = np.cumsum(differ & close, axis=0) > 0
        later = np.zeros_like(flipped)
        later[1:] = flipped[:-1]
        return later

    # backward

    def _backward(self, layer: Layer) -> None:
        recorded = self._value(layer.name, "grad_membrane")
        if recorded is None:
            self._skip(layer, "no grad_membrane recorded: gradient not checked")
            return
        mask = self._mask(layer.name, "grad")
        stored = (recorded != 0).astype(np.uint8)
        underflow = np.where(recorded == 0, 0.0 if recorded.dtype == np.float16 else np.inf, np.inf)
        row, _ = compare_bits(layer.name, "grad is dm != 0", stored, mask, underflow, np.zeros(recorded.shape))
        self.rows.append(row)
        if layer.spiking and layer.neuron.equation == "other":
            self._skip(layer, "another neuron equation: gradient not checked")
            return
        spatial = self._spatial(layer)
        if spatial is None:
            return
        ds, tolerance = spatial
        if not layer.spiking:
            self.rows.append(compare_values(layer.name, "grad_membrane", ds, recorded, tolerance + self.flushed))
            return
        membrane = self._value(layer.name, "membrane")
        if layer.neuron.surrogate_scale is None or membrane is None:
            self._skip(layer, "gradient not checked: no membrane recorded or another surrogate shape")
            return
        self._gradient(layer, ds, tolerance, membrane, recorded, mask)

    def _gradient(
        self,
        layer: Layer,
        ds: Float32s,
        tolerance: Float64s,
        membrane: Floats,
        recorded: Floats,
        mask: Bytes,
    ) -> None:
        spikes, window = self._mask(layer.name, "spikes"), self._mask(layer.name, "window")
        state, neuron = membrane.astype(np.float32), layer.neuron
        dm = grad(ds, state, spikes, window, neuron)
        rounding = 0.0 if membrane.dtype == np.float32 else np.abs(state) * 2.0**-11
        stored = stored_rounding(recorded) + self.flushed
        slack = self._carried_back(neuron, tolerance, rounding, dm, state, window, stored) + self.flushed
        self.rows.append(compare_values(layer.name, "grad_membrane", dm, recorded, slack))
        row, _ = compare_bits(layer.name, "grad", (dm != 0).astype(np.uint8), mask, np.abs(dm), slack)
        self.rows.append(row)

    @staticmethod
    def _carried_back(
        neuron: Neuron,
        tolerance: Float64s,
        rounding: Floats | float,
        dm: Float32s,
        membrane: Float32s,
        window: Bytes,
        stored: Float64s | float,
    ) -> Float64s:
        """Tolerance of dm[t] (eq. 2.5), which has three parts.

        They come from ds through the window (`tolerance`), from the later dm, and from the recorded m, which was
        stored with an error of `rounding`. stored: the rounding of recorded gradients, for the trainer may have gone
        on from the rounded later dm.
        """
        scale, decay = abs(neuron.surrogate_scale or 0.0), abs(neuron.decay)
        slack = np.empty(dm.shape, np.float64)
        m_error = np.broadcast_to(rounding, dm.shape)
        size = np.abs(dm).astype(np.float64)
        dm_error = np.broadcast_to(stored, dm.shape)
        later, later_size = np.zeros(dm.shape[1:]), np.zeros(dm.shape[1:])
        for t in reversed(range(dm.shape[0])):
            through = tolerance[t] + decay * (np.abs(membrane[t]) * later + m_error[t] * later_size)
            through = through + 4 * UNIT * decay * np.abs(membrane[t]) * later_size
            slack[t] = scale * window[t] * through + decay * later + 4 * UNIT * (size[t] + decay * later_size)
            later, later_size = slack[t] + dm_error[t], size[t]
        return slack

    def _spatial(self, layer: Layer) -> Checked | None:
        """The spatial part of ds from all consumers, with tolerances (of dx for a non-spiking layer).

        None for an output layer, and where a consumer's weight or gradient is not recorded.
        """
        consumers = self.graph.consumers(layer.name)
        if not consumers:
            return None
        found = [self._from_consumer(layer, consumer) for consumer in consumers]
        parts = [part for part in found if part is not None]
        if len(parts) < len(found):
            self._skip(layer, "gradient not checked: a consumer's weight or gradient is not recorded")
            return None
        ds, size = sum_of([part[0] for part in parts]), sum_of([np.abs(part[0]) for part in parts])
        tolerance = sum_of([part[1] for part in parts]) + summation_tolerance(len(parts), size)
        return ds, tolerance

    def _from_consumer(self, layer: Layer, consumer: Layer) -> Checked | None:
        recorded = self._value(consumer.name, "grad_membrane")
        if recorded is None:
            return None
        dm, shape = recorded.astype(np.float32), self._shape(layer.name)
        stored = np.abs(dm) * 2.0**-11 if recorded.dtype == np.float16 else np.zeros(dm.shape)
        if consumer.kind == "add":
            return dm.reshape(shape), stored.reshape(shape)
        if consumer.kind == "pool":
            pool, spatial = self._pool(consumer), (*shape[:2], *consumer.in_chw)  # a pool may also read features
            slack = spread_pool(stored, spatial, *pool) + 4 * UNIT * spread_pool(np.abs(dm), spatial, *pool)
            return spread_pool(dm, spatial, *pool).reshape(shape), slack.reshape(shape)
        weight = self._value(consumer.name, "weight")
        if weight is None:
            return None
        weight = weight.astype(np.float32)
        if consumer.kind == "fc":
            fc = self.meta.fc_shape(consumer)
            ds = datapath.fc_spatial(self.arch, fc, dm, weight).reshape(shape)
            size = datapath.fc_spatial(self.arch, fc, np.abs(dm), np.abs(weight)).reshape(shape)
            kept = datapath.fc_spatial(self.arch, fc, stored, np.abs(weight)).reshape(shape)
            return ds, summation_tolerance(2 * fc.out_features, size) + kept
        conv = self.meta.conv_shape(consumer)
        masks = self._mask(consumer.name, "grad"), self._mask(layer.name, "window")
        ds = datapath.conv_spatial(self.arch, conv, dm, *masks, weight)
        size = datapath.conv_spatial(self.arch, conv, np.abs(dm), *masks, np.abs(weight))
        kept = datapath.conv_spatial(self.arch, conv, stored, *masks, np.abs(weight))
        return ds, summation_tolerance(2 * conv.out_channels * conv.kernel[0] * conv.kernel[1], size) + kept

    # weight update

    def _weight_gradient(self, layer: Layer) -> None:
        recorded, dm = self._value(layer.name, "weight_grad"), self._value(layer.name, "grad_membrane")
        if recorded is None or dm is None:
            self._skip(layer, "no weight_grad or grad_membrane recorded: weight update not checked")
            return
        stored = 2.0**-11 if dm.dtype == np.float16 else 0.0
        dm = dm.astype(np.float32)
        dw, size, terms = self._engine_weight_gradient(layer, dm)
        self.rows.append(
            compare_values(layer.name, "weight_grad", dw, recorded, summation_tolerance(terms, size) + stored * size)
        )

    def _engine_weight_gradient(self, layer: Layer, dm: Float32s) -> tuple[Float32s, Float32s, int]:
        """dw through the layer's engine, the sums of its terms' absolute values, and how many terms an element sums."""
        samples = self.meta.timesteps * self.meta.batch
        if layer.kind == "fc":
            fc, spikes = self.meta.fc_shape(layer), self._input(layer)
            dw, size = (datapath.fc_weight_gradient(self.arch, fc, spikes, d) for d in (dm, np.abs(dm)))
            return dw, size, samples
        conv = self.meta.conv_shape(layer)
        terms = samples * conv.out_height * conv.out_width
        if layer.kind == "encode":
            analog = self._analog()
            dw = datapath.encode_weight_gradient(self.arch, conv, analog, dm)
            return dw, datapath.encode_weight_gradient(self.arch, conv, np.abs(analog), np.abs(dm)), 2 * terms
        spikes = self._input(layer)
        dw, size = (datapath.conv_weight_gradient(self.arch, conv, spikes, d) for d in (dm, np.abs(dm)))
        return dw, size, terms
