"""The forward pass of a network in fused units: of each spiking layer only its current is kept, and spikes that several
layers read as bits. Recording and the rounding of gradients happen where the backward pass computes them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from h2sim.export.record import LayerRecord, half, pack_bits
from h2sim.export.torchmaps import over_time
from h2sim.fused import plain, unit
from h2sim.fused.choice import chosen
from h2sim.fused.readers import AvgPool2d, Conv2d, Linear, Reader
from h2sim.fused.statistics import statistics
from h2sim.fused.unit import Watch as Watch
from h2sim.fused.unit import Work as Work
from h2sim.fused.values import Norm
from h2sim.neuron import Neuron, membranes, rounded
from h2sim.train import record as kept
from h2sim.train.lif import record_grad
from h2sim.train.norm import Normalisation

if TYPE_CHECKING:
    from h2sim.trace import Layer
    from h2sim.train.network import SpikingNetwork


@dataclass(frozen=True)
class Observed:
    """What a step does beside computing. record: what the layer's goes into, or None. dtype: what gradients are rounded
    to. masked: whether the record's gradient mask is that of dL/dx behind a norm."""

    record: LayerRecord | None
    dtype: str
    masked: bool = True


@dataclass(frozen=True)
class Current:
    """The current of a spiking layer that has not fired yet. norm None: y = x."""

    x: torch.Tensor
    neuron: Neuron
    norm: Normalisation | None
    observed: Observed

    def read(
        self,
        reader: Reader,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        watch: Watch = unit.unwatched,
    ) -> torch.Tensor:
        """What the reader makes of its spikes. watch: see unit.Unit."""
        how = unit.Unit(self.neuron, reader, chosen("auto", self.x), watch=watch)
        if self.norm is None:
            return _unit(self.x, None, None, weight, bias, how, unit.Parameters(), self.observed)
        kept.keep_normalised(self.observed.record, self.x)
        mean, inverse, count = _statistics(self.norm, self.x)
        gamma, beta = self.norm.weight, self.norm.bias
        values = unit.Parameters(Norm(gamma.detach(), beta.detach(), mean, inverse), count)
        return _unit(self.x, gamma, beta, weight, bias, how, values, self.observed)


@dataclass(frozen=True)
class Shared:
    """Spikes that several layers read, and their bits, which those keep."""

    s: torch.Tensor
    bits: torch.Tensor


def _statistics(norm: Normalisation, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Mean, inverse and count of this step, which the running ones follow; in evaluation the running ones."""
    eps = norm.layer.norm[0].eps
    if not norm.training:
        mean, variance = norm.get_buffer("mean0").reshape(-1), norm.get_buffer("variance0").reshape(-1)
        return mean, torch.rsqrt(variance + eps), None
    found = statistics(x.detach(), eps, chosen("auto", x), merged=False)
    norm.remember(0, found.mean, found.variance, x.numel() // x.shape[2])
    return found.mean, found.inverse, found.count


class _Unit(torch.autograd.Function):
    """A unit that keeps x alone, and that records. norm and count are those of `values`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        how: unit.Unit,
        values: unit.Parameters,
        observed: Observed,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.how, ctx.values, ctx.observed = how, values, observed
        if observed.record is not None:
            _keep_membranes(observed.record, plain.normalised(x, values.norm), how.neuron)
        return unit.forward(how, x, replace(values, weight=weight, bias=bias))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        given = replace(ctx.values, weight=weight, bias=bias)
        x = unit.regular(x)
        observed: Observed = ctx.observed
        if observed.record is None and observed.dtype == "float32":
            found = unit.backward(ctx.how, grad, x, given, ctx.needs_input_grad[3])
        else:
            found = _observed_backward(ctx.how, grad, x, given, observed, ctx.needs_input_grad[3])
        return found.x, found.gamma, found.beta, found.weight, found.bias, None, None, None


# torch leaves apply untyped
_unit: Callable[..., torch.Tensor] = _Unit.apply


def _keep_membranes(record: LayerRecord, y: torch.Tensor, neuron: Neuron) -> None:
    membrane, _ = membranes(y, neuron)
    record.spikes = pack_bits(neuron.fires(membrane).cpu().numpy())
    record.window = pack_bits(neuron.in_window(membrane).cpu().numpy())
    if record.values:
        record.membrane = half(membrane.cpu().numpy())


def _observed_backward(
    how: unit.Unit, grad: torch.Tensor, x: torch.Tensor, given: unit.Parameters, observed: Observed, wants_weight: bool
) -> unit.UnitGradients:
    """As unit.backward, in plain torch; dm is rounded at each timestep, and recorded, and so is dL/dx behind a norm."""
    held, of_weight, of_bias = unit.into_spikes(how, grad, x, given, wants_weight)
    how.watch("neurons")
    for part in unit.slices(how, x, given.weight):
        dm = plain.membrane_gradients(x[:, part], held[:, part], given.norm, how.neuron, observed.dtype)
        held[:, part] = dm
    if observed.record is not None:
        record_grad(observed.record, held, observed.dtype)
    if given.norm is None:
        return unit.UnitGradients(held, weight=of_weight, bias=of_bias)
    sums = plain.parameter_sums(x, held, given.norm)
    means = unit.means_of(sums, given.count, how.merged)
    for part in unit.slices(how, x, given.weight):
        dx = plain.through_norm(x[:, part], held[:, part], given.norm, means)
        held[:, part] = rounded(dx, observed.dtype)
    kept.keep_gradient_of_normalised(observed.record, held, observed.dtype, observed.masked)
    return unit.UnitGradients(held, sums[1].clone(), sums[0].clone(), of_weight, of_bias)


class _ReadBits(torch.autograd.Function):
    """A reader of spikes that keeps their bits, an eighth of a byte a neuron and timestep."""

    @staticmethod
    def forward(
        ctx: Any,
        s: torch.Tensor,
        bits: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        reader: Reader,
        watch: Watch,
    ) -> torch.Tensor:
        ctx.save_for_backward(bits, weight)
        ctx.reader, ctx.shape, ctx.dtype, ctx.biased = reader, s.shape, s.dtype, bias is not None
        ctx.watch = watch
        watch("reading")
        return reader(s, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        bits, weight = ctx.saved_tensors
        ctx.watch("spikes")
        s, of_weight, of_bias = unpacked(bits, ctx.shape, ctx.dtype), None, None
        if ctx.needs_input_grad[2]:
            ctx.watch("weights")
            of_weight, of_bias = ctx.reader.of_weights(grad, s, weight, ctx.biased)
        ctx.watch("inputs")
        return ctx.reader.of_spikes(grad, s, weight), None, of_weight, of_bias, None, None


_read_bits: Callable[..., torch.Tensor] = _ReadBits.apply


def packed(s: torch.Tensor) -> torch.Tensor:
    """Spikes as bits, uint8 (elements / 8), the first one the highest."""
    flat = torch.nn.functional.pad((s.detach() != 0).flatten(), (0, -s.numel() % 8)).view(-1, 8)
    return (flat * _places(s)).sum(1, dtype=torch.uint8)


def unpacked(bits: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """The spikes of bits."""
    found = (bits[:, None] & _places(bits)) != 0
    return found.flatten()[: shape.numel()].to(dtype).view(shape)


def _places(like: torch.Tensor) -> torch.Tensor:
    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=like.device)


def reader_of(layer: Layer) -> Reader | None:
    """What a layer does with spikes, if a unit can do it."""
    if layer.kind == "fc":
        return Linear()
    if layer.kind == "conv":
        assert layer.stride is not None
        assert layer.padding is not None
        return Conv2d(tuple(layer.stride), tuple(layer.padding), (1, 1), layer.groups)
    whole = layer.mode == "average" and layer.count_include_pad and layer.divisor is None
    if layer.kind == "pool" and whole and not layer.adaptive and not layer.ceil_mode:
        assert layer.kernel is not None
        assert layer.stride is not None
        assert layer.padding is not None
        return AvgPool2d(tuple(layer.kernel), tuple(layer.stride), tuple(layer.padding))
    return None


class Flow:
    """One forward pass of a network: see SpikingNetwork.forward."""

    def __init__(self, network: SpikingNetwork, timesteps: int, records: dict[str, LayerRecord] | None) -> None:
        self.network, self.timesteps, self.records = network, timesteps, records
        self.readers = Counter(source for layer in network.described.values() for source in layer.inputs)
        self.values: dict[str, torch.Tensor | Current | Shared] = {}

    def output(self, inputs: torch.Tensor) -> torch.Tensor:
        """The last layer's output. What nobody reads any more is let go."""
        self.values["input"] = inputs
        unread, layers = Counter(self.readers), list(self.network.described.values())
        for layer in layers:
            record = None if self.records is None else self.records[layer.name]
            value = over_time(self.made(layer, record), self.timesteps)
            unread.subtract(layer.inputs)
            for source in layer.inputs:
                if not unread[source]:
                    self.values.pop(source, None)
            self.values[layer.name] = self._sent(layer, value, record)
        return self._whole(layers[-1].name)

    def made(self, layer: Layer, record: LayerRecord | None) -> torch.Tensor:
        """The layer's current, or its map."""
        source, reader = layer.inputs[0], reader_of(layer)
        value = self.values[source]
        shaped = isinstance(reader, Linear) or (isinstance(value, Current) and value.x.dim() == 5) or (
            isinstance(value, Shared) and value.s.dim() == 5
        )  # fmt: skip
        if reader is not None and shaped and not isinstance(value, torch.Tensor):
            weight = self.network.weights.get(layer.name)
            bias = self.network.biases.get(layer.name)
            if isinstance(value, Current) and self.readers[source] == 1:
                return value.read(reader, weight, bias, self.watch(source, layer.name))
            shared = self._shared(source)
            return _read_bits(shared.s, shared.bits, weight, bias, reader, self.watch(source, layer.name))
        reads = [self._whole(source) for source in layer.inputs]
        if not layer.has_weights:
            reads = [over_time(read, self.timesteps) for read in reads]
        return self.current(layer, reads, record)

    def current(self, layer: Layer, reads: list[torch.Tensor], record: LayerRecord | None) -> torch.Tensor:
        """The current, or the map, of a layer that no unit computes."""
        return self.network.current({"name": layer.name}, reads, record)

    def watch(self, neurons: str, reader: str) -> Watch:
        """What is told of the work of a unit, of a layer's neurons and the layer that reads them: nothing."""
        return unit.unwatched

    def _shared(self, name: str) -> Shared:
        value = self.values[name]
        if isinstance(value, Current):
            s = value.read(Reader(), watch=self.watch(name, name))
            self.values[name] = value = Shared(s, packed(s))
        assert isinstance(value, Shared)
        return value

    def _whole(self, name: str) -> torch.Tensor:
        """A value as it is, or the spikes of it."""
        value = self.values[name]
        return value if isinstance(value, torch.Tensor) else self._shared(name).s

    def _sent(self, layer: Layer, x: torch.Tensor, record: LayerRecord | None) -> torch.Tensor | Current:
        network = self.network
        if not layer.spiking:
            return network.sent(layer, x, record, None)
        if record is not None and not x.requires_grad:  # no weights below: recorded all the same
            x = x.detach().requires_grad_()
        norm = network.norm(layer.name)
        if norm is not None and [set(one.over) for one in layer.norm] != [set("TNHW")]:
            x, norm = norm(network.before_norm(layer, x, record)), None
        observed = Observed(record, network.gradient_dtype, layer.name not in network.checked.unmasked)
        return Current(x, network.neurons[layer.name], norm, observed)
