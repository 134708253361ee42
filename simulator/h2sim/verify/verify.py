"""Recomputes every layer of a trace through the engines' data paths, and compares the values with PyTorch's.

Each layer starts from what the trace recorded of its neighbours, so an error shows where it happens. The tolerance of a
value is what another order of a float32 sum can change: 8 * sqrt(k) * 2^-24 * sum|terms| for k terms. That is the
probabilistic bound of Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, with lambda = 4 for each of the two orders.
"""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.arrays import Bools, Bytes, Float32s, Float64s, Floats
from h2sim.errors import TraceError
from h2sim.io.progress import Progress
from h2sim.trace import Layer, Neuron, Trace
from h2sim.verify.maps import as_map
from h2sim.verify.neuron import grad, soma
from h2sim.verify.report import Unchecked, VerifyReport, VerifyRow, compare_bits, compare_values, stored_rounding
from h2sim.verify.tolerance import UNIT, Checked
from h2sim.verify.values import Values


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
        batch_norm=trace.meta.norm_unsaid,
        broken_laws=trace.broken_laws,
    )


class _Checker:
    """Checks layer after layer; `rows` are what was compared, `notes` what could not be and why."""

    def __init__(self, arch: Arch, trace: Trace) -> None:
        self.meta, self.values = trace.meta, Values(arch, trace)
        self.rows: list[VerifyRow] = []
        self.unchecked: list[Unchecked] = []
        # a recorder that turned subnormal float16 gradients into 0 moved each by up to the smallest normal one
        self.flushed = 2.0**-14 if trace.meta.source.get("gradient_dtype") == "float16-flush" else 0.0

    def layer(self, layer: Layer) -> None:
        """All checks of one layer that its recorded values allow; those of a map show in its neighbours."""
        if self.values.graph.gradients.is_routed(layer):
            return
        self._forward(layer)
        if "backward" in self.meta.phases and self.values.graph.gradients.trained(layer.name):
            self._backward(layer)
        elif "backward" in self.meta.phases:
            self._skip(layer, "nothing that it reads is trained: the machine computes no gradient for it")
        if "weight_update" in self.meta.phases and layer.has_weights:
            self._weight_gradient(layer)

    def _skip(self, layer: Layer, why: str) -> None:
        self.unchecked.append(Unchecked(layer.name, why))

    def _forward(self, layer: Layer) -> None:
        if layer.spiking and layer.neuron.equation == "other":
            self._skip(layer, "another neuron equation: spikes, window and membrane not checked")
            return
        current = self._before_neurons(layer)
        if current is None:
            return
        x, tolerance = current
        x = x.reshape(self.values.shape(layer.name))
        tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), current[0].shape).reshape(x.shape)
        recorded = self.values.recorded(layer.name, "membrane")
        if not layer.spiking:
            if recorded is not None:
                self.rows.append(compare_values(layer.name, "current", x, recorded, tolerance))
            return
        neuron = layer.neuron
        spikes, membrane, window = soma(x, neuron)
        slack = self._carried(tolerance, np.abs(membrane), neuron.decay)
        theirs = self.values.mask(layer.name, "spikes")
        margin = np.abs(membrane - np.float32(neuron.threshold))
        after = self._after_flip(spikes != theirs, margin <= slack)
        row, _ = compare_bits(layer.name, "spikes", spikes, theirs, margin, slack, after)
        self.rows.append(row)
        low, high = neuron.window
        margin = np.minimum(np.abs(membrane - np.float32(low)), np.abs(membrane - np.float32(high)))
        row, _ = compare_bits(
            layer.name, "window", window, self.values.mask(layer.name, "window"), margin, slack, after
        )
        self.rows.append(row)
        if recorded is not None:
            self.rows.append(compare_values(layer.name, "membrane", membrane, recorded, slack, after))

    def _before_neurons(self, layer: Layer) -> Checked | None:
        """What drives a layer's neurons, or what it passes on: its current, or what a norm of the step makes of it."""
        current = self.values.current(layer)
        if current is None:
            self._skip(layer, "no weight recorded: forward pass not checked")
            return None
        if not layer.trained_norms:
            return current
        recorded = self.values.recorded(layer.name, "current")
        if recorded is not None:
            x, tolerance = (each.reshape(self.values.shape(layer.name)) for each in current)
            stored = np.asarray(tolerance + stored_rounding(recorded), np.float64)
            self.rows.append(compare_values(layer.name, "current", x, recorded, stored))
        found = self.values.normalised(layer)
        if found is None:
            self._skip(layer, "no norm_weight recorded, or several norms: what is behind the norm not checked")
        return found

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
        recorded, sent_on = self.values.recorded(layer.name, "grad_membrane"), self.values.engine_gradient(layer)
        shape, mask = self.values.shape(layer.name), self.values.mask(layer.name, "grad")
        if recorded is None and not (layer.trained_norms and not layer.spiking and sent_on is not None):
            self._skip(layer, "no grad_membrane recorded: gradient not checked")
            return
        if sent_on is not None:
            self._mask_row(layer, np.broadcast_to(sent_on, shape), mask)
        if recorded is None:  # of a current, what stands behind its norm has the same gradient
            if spatial := self._spatial(layer):
                self._behind_norm(layer, spatial, sent_on)
            return
        recorded = np.broadcast_to(recorded, shape)
        if layer.spiking and layer.neuron.equation == "other":
            self._skip(layer, "another neuron equation: gradient not checked")
            return
        if layer.trained_norms:
            stored = np.broadcast_to(stored_rounding(recorded), shape)
            self._behind_norm(layer, (recorded.astype(np.float32), stored), sent_on)
        spatial = self._spatial(layer)
        if spatial is None:
            return
        ds, tolerance = spatial
        if not layer.spiking:
            self.rows.append(compare_values(layer.name, "grad_membrane", ds, recorded, tolerance + self.flushed))
            return
        membrane = self.values.recorded(layer.name, "membrane")
        if layer.neuron.steepest is None or membrane is None:
            self._skip(layer, "gradient not checked: no membrane recorded or another surrogate shape")
            return
        self._gradient(layer, ds, tolerance, membrane, recorded, mask)

    def _mask_row(self, layer: Layer, gradient: Floats, mask: Bytes) -> None:
        """Whether the mask is where the recorded gradient is not 0."""
        what = "grad is dL/dx != 0" if layer.trained_norms else "grad is dm != 0"
        stored = (gradient != 0).astype(np.uint8)
        underflow = np.where(gradient == 0, 0.0 if gradient.dtype == np.float16 else np.inf, np.inf)
        row, _ = compare_bits(layer.name, what, stored, mask, underflow, np.zeros(gradient.shape))
        self.rows.append(row)

    def _behind_norm(self, layer: Layer, given: Checked, sent_on: Floats | None) -> None:
        """dL/dx, which the engines take, from the gradient of what the norm gives."""
        norm = self.values.normal(layer)
        if norm is None or sent_on is None:
            self._skip(layer, "no norm_weight or grad_current recorded: gradient through the norm not checked")
            return
        dy, shape = as_map(given[0], layer.out_chw), given[0].shape
        dx, slack = norm.backward((dy, given[1].reshape(dy.shape)))
        slack = slack.reshape(shape) + stored_rounding(sent_on) + self.flushed
        self.rows.append(compare_values(layer.name, "grad_current", dx.reshape(shape), sent_on, slack))

    def _spatial(self, layer: Layer) -> Checked | None:
        """The spatial part of ds from all readers, with tolerances (of dx for a non-spiking layer).

        None for an output layer, and where a reader's weight or gradient is not recorded.
        """
        if not self.values.graph.consumers(layer.name):
            return None
        found = self.values.gradient(layer.name)
        if found is None:
            self._skip(layer, "gradient not checked: a consumer's weight or gradient is not recorded")
            return None
        shape = self.values.shape(layer.name)
        return found[0].reshape(shape), found[1].reshape(shape)

    def _gradient(
        self,
        layer: Layer,
        ds: Float32s,
        tolerance: Float64s,
        membrane: Floats,
        recorded: Floats,
        mask: Bytes,
    ) -> None:
        spikes, window = self.values.mask(layer.name, "spikes"), self.values.mask(layer.name, "window")
        state, neuron = membrane.astype(np.float32), layer.neuron
        dm = grad(ds, state, spikes, window, neuron)
        rounding = 0.0 if membrane.dtype == np.float32 else np.abs(state) * 2.0**-11
        stored = stored_rounding(recorded) + self.flushed
        slack = self._carried_back(neuron, tolerance, rounding, dm, state, window, stored, np.abs(ds)) + self.flushed
        self.rows.append(compare_values(layer.name, "grad_membrane", dm, recorded, slack))
        if layer.trained_norms:
            return  # the mask is that of dL/dx
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
        ds: Floats,
    ) -> Float64s:
        """Tolerance of dm[t] (eq. 2.5), which has three parts.

        They come from ds through the window (`tolerance`), from the later dm, and from the recorded m, which was
        stored with an error of `rounding`: it stands in the reset's term, and in the slope of a triangle. stored: the
        rounding of recorded gradients, for the trainer may have gone on from the rounded later dm. ds: its size.
        """
        scale, decay = neuron.steepest or 0.0, abs(neuron.decay)
        bent, threshold = (scale / neuron.threshold if neuron.surrogate else 0.0), abs(neuron.threshold)
        slack = np.empty(dm.shape, np.float64)
        m_error = np.broadcast_to(rounding, dm.shape)
        size = np.abs(dm).astype(np.float64)
        dm_error = np.broadcast_to(stored, dm.shape)
        later, later_size = np.zeros(dm.shape[1:]), np.zeros(dm.shape[1:])
        for t in reversed(range(dm.shape[0])):
            through = tolerance[t] + decay * (np.abs(membrane[t]) * later + m_error[t] * later_size)
            through = through + 4 * UNIT * decay * np.abs(membrane[t]) * later_size
            through = through + threshold * (later + 4 * UNIT * later_size) * (neuron.reset != "zero")
            whole = ds[t] + (np.abs(membrane[t]) + threshold) * later_size
            uneven = bent * whole * (m_error[t] + 4 * UNIT * (np.abs(membrane[t]) + threshold))
            slack[t] = (
                window[t] * (scale * through + uneven) + decay * later + 4 * UNIT * (size[t] + decay * later_size)
            )
            later, later_size = slack[t] + dm_error[t], size[t]
        return slack

    # weight update

    def _weight_gradient(self, layer: Layer) -> None:
        recorded, dm = self.values.recorded(layer.name, "weight_grad"), self.values.engine_gradient(layer)
        if recorded is None or dm is None:
            gradient = "grad_current" if layer.trained_norms else "grad_membrane"
            self._skip(layer, f"no weight_grad or {gradient} recorded: weight update not checked")
            return
        stored = 2.0**-11 if dm.dtype == np.float16 else 0.0
        found = self.values.weight_gradient(
            layer, np.broadcast_to(dm, self.values.shape(layer.name)).astype(np.float32)
        )
        if found is None:
            self._skip(layer, "what it reads is not recorded: weight update not checked")
            return
        (dw, tolerance), size = found
        self.rows.append(compare_values(layer.name, "weight_grad", dw, recorded, tolerance + stored * size))
