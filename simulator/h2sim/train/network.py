"""A torch module made of a trace's layer list: plain and residual spiking networks, and what stands between layers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from h2sim.export.record import LayerRecord, pack_bits
from h2sim.export.torchmaps import MAKERS, at_places, places_of_maxima, routes, shaped
from h2sim.export.torchmaps import over_time as over_time
from h2sim.trace import Layer as Described
from h2sim.train import record as kept
from h2sim.train.check import checked
from h2sim.train.lif import Neuron, continued, lif, record_grad, rounded
from h2sim.train.norm import Normalisation
from h2sim.train.units import Flow

Layer = dict[str, Any]
LEAST_THRESHOLD = 1e-3  # [A] of a neuron whose threshold is trained
Carried = dict[str, tuple[torch.Tensor, torch.Tensor]]  # by layer: m and s of the last timestep, (N, ...)
Backend = Literal["plain", "fused"]
DropoutMask = Literal["sample", "timestep"]


class LayerParameters(nn.Module):
    """Parameters by layer name.

    torch allows no dot in a parameter's name, and a layer's name has no '/'; so dots are stored as '/'.
    """

    def __setitem__(self, layer: str, parameter: nn.Parameter) -> None:
        self.register_parameter(layer.replace(".", "/"), parameter)

    def __getitem__(self, layer: str) -> nn.Parameter:
        parameter = self._parameters[layer.replace(".", "/")]
        assert parameter is not None  # none is ever registered as None
        return parameter

    def __contains__(self, layer: str) -> bool:
        return layer.replace(".", "/") in self._parameters

    def get(self, layer: str) -> nn.Parameter | None:
        """The layer's parameter, None where it has none."""
        return self._parameters.get(layer.replace(".", "/"))


class SpikingNetwork(nn.Module):
    """Runs the `layers` of a trace's meta over all timesteps, layer by layer.

    A layer's current is a convolution, a matrix product, a pool, or (kind add) the sum of its inputs. The current is
    normalised where the layer has a norm, then drives LIF neurons, unless the layer says `"spiking": false`. The other
    kinds make one map out of others. Weights and biases are drawn from `generator`, uniform in +-1 / sqrt(fan in); a
    layer with a norm, or that says `"bias": false`, has no bias. Gradients of membranes and currents are rounded to
    `gradient_dtype` (see lif.rounded). trained_neurons: threshold and decay of each spiking layer are parameters too,
    which begin as its neuron says.

    input_entry: what metadata have under `input` (see trace.Network). generator also draws what gates keep in training;
    the attribute may be set to another, and so may backend: 'fused' keeps of each spiking layer its current alone (see
    units.Flow), except where neurons are trained or membranes carried. dropout_mask: a gate keeps the same neurons of a
    sample at all timesteps, or draws anew for each timestep. Raises NetworkError as check.checked does.
    """

    def __init__(
        self,
        layers: list[Layer],
        neuron: Neuron,
        generator: torch.Generator,
        gradient_dtype: str = "float32",
        *,
        input_entry: dict[str, Any] | None = None,
        dropout_mask: DropoutMask = "sample",
        trained_neurons: bool = False,
    ) -> None:
        super().__init__()
        self.layers, self.neuron, self.gradient_dtype = layers, neuron, gradient_dtype
        self.generator, self.dropout_mask, self.trains_neurons = generator, dropout_mask, trained_neurons
        self.backend: Backend = "plain"
        self.checked = checked(layers, input_entry, dropout_mask)
        self.described = {layer.name: layer for layer in self.checked.meta.layers}
        self.neurons = {
            layer["name"]: Neuron.from_meta({**neuron.to_meta(), **layer.get("neuron", {})}) for layer in layers
        }
        self.weights, self.biases = LayerParameters(), LayerParameters()
        for name, layer in self.described.items():
            shape = layer.weight_shape
            if shape is not None:
                bound = 1 / math.sqrt(math.prod(shape[1:]))
                stores = [(self.weights, shape), (self.biases, shape[:1])]
                for store, size in stores if layer.has_bias and not layer.norm else stores[:1]:
                    store[name] = nn.Parameter(torch.empty(size).uniform_(-bound, bound, generator=generator))
        self.thresholds, self.decays = LayerParameters(), LayerParameters()
        for name in [name for name, layer in self.described.items() if layer.spiking] if trained_neurons else []:
            self.thresholds[name] = nn.Parameter(torch.tensor(self.neurons[name].threshold))
            self.decays[name] = nn.Parameter(torch.tensor(self.neurons[name].decay))
        self.norms = nn.ModuleDict(
            {_key(name): Normalisation(layer) for name, layer in self.described.items() if layer.norm}
        )

    def norm(self, layer: str) -> Normalisation | None:
        """The normalisation of a layer, None where it has none."""
        found = dict(self.norms.items()).get(_key(layer))
        assert found is None or isinstance(found, Normalisation)
        return found

    @torch.no_grad()
    def normalise(self, inputs: torch.Tensor, timesteps: int, deviation: float) -> None:
        """Scales each layer's weights and bias until the standard deviation of its current is `deviation`.

        The deviation is taken over `inputs` (T or 1, N, C, H, W), layer by layer, each layer reading the scaled layers
        before it (LSUV, Mishkin and Matas 2016, which scales to 1). Without this the spikes of a deep network die out
        from layer to layer. A layer whose current does not vary keeps its weights; one with a norm has the norm's
        weight set instead.
        """
        values = {"input": inputs}
        for layer in self.layers:
            name, described = layer["name"], self.described[layer["name"]]
            value = self.current(layer, self._reads(described, values, timesteps))
            spread, norm = float(value.std()), self.norm(name)
            if norm is not None and described.kind != "norm":
                norm.weight.fill_(deviation)
            elif name in self.weights and spread > 0:
                for parameter in (self.weights[name], self.biases.get(name)):
                    if parameter is not None:
                        parameter.mul_(deviation / spread)
                value = value * (deviation / spread)
            value = over_time(value, timesteps)
            value = value if norm is None else norm(value)
            values[name] = self._fired(name, value) if described.spiking else value

    @torch.no_grad()
    def round_to_float16(self) -> None:
        """Rounds every weight and bias to the nearest float16 value, which is what an FP16 machine stores."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half().to(parameter.dtype))

    @property
    def reads_analog(self) -> bool:
        """Whether the network reads an analog input (else spikes, or counts)."""
        return self.checked.meta.analog

    @property
    def most_count(self) -> int | None:
        """The largest count of an input of counts, None for any other."""
        entry = self.checked.meta.input
        return entry.most if entry else None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the network input: (C, H, W), or (F,) where fully connected layers alone read it, flattened."""
        meta = self.checked.meta
        flat = all(layer.kind == "fc" for layer in meta.layers if "input" in layer.inputs)
        return meta.input_shape[:1] if flat else meta.input_shape

    @property
    def classes(self) -> int:
        """Number of classes: the features, or channels, of the last layer."""
        return self.checked.meta.layers[-1].out_chw[0]

    def current(self, layer: Layer, inputs: list[torch.Tensor], record: LayerRecord | None = None) -> torch.Tensor:
        """Current x (T, N, ...) of one layer, or its map, from the outputs that it reads, each (T, N, ...).

        It is not normalised yet. record: receives what a gate keeps, and where a maximum of analog values routes.
        """
        described = self.described[layer["name"]]
        if described.has_weights:
            name = layer["name"]
            return product(described, inputs[0], self.weights[name], self.biases.get(name))
        if described.kind == "gate":
            return self._gated(described, inputs[0], record)
        if described.mode == "max":
            return self._maximum(described, shaped(inputs[0], described.in_chw), record)
        return MAKERS[described.kind](described, inputs)

    def _maximum(self, layer: Described, x: torch.Tensor, record: LayerRecord | None) -> torch.Tensor:
        """The largest of each window. Counts are compared as the whole numbers that they are, not by their rounding."""
        operand = self.checked.maps[layer.inputs[0]]
        ranks = x.detach()
        if operand.kind == "counts":
            scales = torch.tensor([float(scale) for scale in operand.scales]).to(x)
            ranks = torch.round(ranks / scales[:, None, None])
        places = places_of_maxima(layer, ranks)
        if layer.name in self.checked.routed and record is not None:
            kept.keep_route(record, routes(layer, places))
        return at_places(x, places)

    def _gated(self, layer: Described, x: torch.Tensor, record: LayerRecord | None) -> torch.Tensor:
        """In training what a gate keeps, times its scale: each neuron with probability 1 / scale; else all of x."""
        if not self.training:
            return x
        steps = x.shape[0] if self.dropout_mask == "timestep" else 1
        draws = torch.rand((steps, *x.shape[1:]), generator=self.generator).to(x.device)
        mask = draws < float(1 / layer.scale)
        kept.keep_kept(record, mask)
        return x * (mask.to(x) * float(layer.scale))

    def forward(
        self,
        inputs: torch.Tensor,
        timesteps: int,
        records: dict[str, LayerRecord] | None = None,
        carried: Carried | None = None,
    ) -> torch.Tensor:
        """Output of the last layer, (T, N, classes), for inputs (T or 1, N, C, H, W).

        It is (1, N, classes) where the last layer reads a mean over time. An input of one timestep is static: the layer
        that reads it sees the same values at every timestep. records: a LayerRecord per layer name, which forward and
        backward pass fill; None records nothing. carried: membranes run on from what is in it, which is nothing before
        the first run, and it receives what they come to; None: they begin at 0.
        """
        inputs = inputs.to(next(self.parameters()).device)
        if self.backend == "fused" and carried is None and not self.trains_neurons:
            return Flow(self, timesteps, records).output(inputs)
        values = {"input": inputs}
        for layer in self.layers:
            name, described = layer["name"], self.described[layer["name"]]
            record = None if records is None else records[name]
            value = self.current(layer, self._reads(described, values, timesteps), record)
            values[name] = self.sent(described, over_time(value, timesteps), record, carried)
        return values[self.layers[-1]["name"]]

    def _reads(self, layer: Described, values: dict[str, torch.Tensor], timesteps: int) -> list[torch.Tensor]:
        """What a layer reads. Weights may read a static input once; maps are made of all timesteps."""
        reads = [values[source] for source in layer.inputs]
        return reads if layer.has_weights else [over_time(value, timesteps) for value in reads]

    def sent(
        self, layer: Described, value: torch.Tensor, record: LayerRecord | None, carried: Carried | None
    ) -> torch.Tensor:
        """What a layer gives to its readers: normalised, then fired where it has neurons."""
        norm = self.norm(layer.name)
        if record is not None and layer.spiking and not value.requires_grad:  # no weights below: recorded all the same
            value = value.detach().requires_grad_()
        if norm is not None:
            value = norm(self.before_norm(layer, value, record))
        if layer.kind == "relu" and record is not None:
            record.window = pack_bits((value > 0).cpu().numpy())
        if layer.spiking:
            return self._fired(layer.name, value, record, carried)
        if value.requires_grad:
            unmasked = norm is not None or layer.name in self.checked.unmasked
            hook = partial(self._current_grad, None if unmasked else record)
            value.register_hook(hook)  # type: ignore[no-untyped-call]
        return value.mean(0, keepdim=True) if layer.mean_over_time else value

    def _fired(
        self,
        layer: str,
        current: torch.Tensor,
        record: LayerRecord | None = None,
        carried: Carried | None = None,
    ) -> torch.Tensor:
        threshold, decay = self.thresholds.get(layer), self.decays.get(layer)
        neuron, left = self.neurons[layer], None
        if carried is not None:
            if layer in carried:
                current = continued(current, neuron, *carried[layer], threshold, decay)
            left = partial(_keep, carried, layer)
        return lif(current, neuron, record, self.gradient_dtype, threshold=threshold, decay=decay, left=left)

    @torch.no_grad()
    def keep_neurons_possible(self) -> None:
        """Puts trained thresholds and decays back where neurons are neurons: v > 0 [A], 0 [A] <= lam <= 1."""
        for threshold in self.thresholds.parameters():
            threshold.clamp_(min=LEAST_THRESHOLD)
        for decay in self.decays.parameters():
            decay.clamp_(0.0, 1.0)

    def before_norm(self, layer: Described, x: torch.Tensor, record: LayerRecord | None) -> torch.Tensor:
        """x as it is; rounds and records dL/dx, which comes after dm: the mask of it is the layer's."""
        kept.keep_normalised(record, x)
        if x.requires_grad:
            x = x.view_as(x)  # a map has other readers, whose gradients are not this norm's
            masked = layer.name not in self.checked.unmasked

            def hook(grad: torch.Tensor) -> torch.Tensor:
                grad = rounded(grad, self.gradient_dtype)
                kept.keep_gradient_of_normalised(record, grad, self.gradient_dtype, masked)
                return grad

            x.register_hook(hook)  # type: ignore[no-untyped-call]
        return x

    def _current_grad(self, record: LayerRecord | None, grad: torch.Tensor) -> torch.Tensor:
        """Rounds and records dL/dx of a layer that does not spike."""
        grad = rounded(grad, self.gradient_dtype)
        if record is not None:
            record_grad(record, grad, self.gradient_dtype)
        return grad


def _keep(carried: Carried, layer: str, membrane: torch.Tensor, spikes: torch.Tensor) -> None:
    carried[layer] = membrane.clone(), spikes.clone()


def product(layer: Described, source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The convolution or matrix product of a layer's input (T or 1, N, ...) by these weights."""
    if layer.kind == "fc":
        return functional.linear(source.flatten(2), weight, bias)
    assert layer.padding is not None
    assert layer.stride is not None
    frames = shaped(source, layer.in_chw).flatten(0, 1)
    frames = functional.conv2d(frames, weight, bias, layer.stride, layer.padding, 1, layer.groups)
    return torch.unflatten(frames, 0, source.shape[:2])


def _key(layer: str) -> str:
    """The name of a layer's module: torch allows no dot, and no name that a module has for itself."""
    return "/" + layer.replace(".", "/")
