"""What part a module plays in a trace: weights, average, normalisation, neuron, or one that the machine cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export.neurons import neuron_of
from h2sim.export.protocol import NeuronSpec

RoleName = Literal["conv", "linear", "pool", "norm", "identity", "neuron"]

_CONV = "the machine convolves in two dimensions, forwards"
_AVERAGE = "the machine pools by averaging in two dimensions, with a neuron behind"
_RECURRENT = "recurrent connections, which the machine does not have"
_REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("Conv1d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), _CONV),
    (("MaxPool1d", "MaxPool2d", "MaxPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"), _AVERAGE),
    (("AvgPool1d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool3d", "LPPool1d", "LPPool2d"), _AVERAGE),
    (("FractionalMaxPool2d", "FractionalMaxPool3d"), _AVERAGE),
    (("RNNBase", "RNNCellBase"), _RECURRENT),
    (("MultiheadAttention",), "the machine has no attention"),
    (("Bilinear", "Embedding"), "the machine multiplies spikes by weights"),
)
_NORMS = ("_BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm", "_InstanceNorm")
_DROPOUT = ("_DropoutNd", "Dropout", "Dropout2d")


@dataclass(frozen=True)
class Role:
    """A module's part in a trace. reason: why no trace can hold it, so that a call of it is an error; else None."""

    name: RoleName | None
    reason: str | None = None
    neuron: NeuronSpec | None = None


def role_of(module: nn.Module, path: str) -> Role | None:
    """The part of a module in a trace; None for a container, and for a module that no role fits.

    A module without role is an error only if a layer reads what it computed. Raises ExportError for an `h2sim_neuron`
    that returns something else than a NeuronSpec.
    """
    neuron = neuron_of(module, path)
    if isinstance(neuron, NeuronSpec):
        return Role("neuron", neuron=neuron)
    if isinstance(neuron, str):
        return Role(None, neuron)
    bases = {cls.__name__ for cls in type(module).__mro__}
    for names, reason in _REFUSED:
        if bases & set(names):
            return Role(None, reason)
    return _weights_or_pool(module) or _passing(module, bases)


def _weights_or_pool(module: nn.Module) -> Role | None:
    if isinstance(module, nn.Conv2d):
        return Role("conv", _conv_fault(module) or _own_forward(module, nn.Conv2d))
    if isinstance(module, nn.Linear):
        return Role("linear", _own_forward(module, nn.Linear))
    if isinstance(module, nn.AvgPool2d):
        return Role("pool", _pool_fault(module) or _own_forward(module, nn.AvgPool2d))
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return Role("pool", _own_forward(module, nn.AdaptiveAvgPool2d))
    return None


def _passing(module: Any, bases: set[str]) -> Role | None:
    """Normalisation and dropout."""
    if bases & set(_NORMS):
        return Role("norm")
    if bases & set(_DROPOUT):
        active = module.training and float(module.p) > 0
        return Role("identity", "dropout in training mode scales spikes, so they are not binary" if active else None)
    return None


def _own_forward(module: nn.Module, base: type[nn.Module]) -> str | None:
    """A reason why a subclass is not the layer that it inherits from: its own forward, unless it is SpikingJelly's."""
    forward = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    known = forward is base or (forward.__module__.startswith("spikingjelly.") and forward.__name__ == base.__name__)
    return None if known else f"{type(module).__name__} computes in a way of its own, not as {base.__name__}"


def _conv_fault(module: Any) -> str | None:
    if tuple(module.dilation) != (1, 1):
        return f"dilation {tuple(module.dilation)}; the machine's windows are dense (1, 1)"
    if module.padding_mode != "zeros":
        return f"padding_mode {module.padding_mode!r}; the machine pads with zeros"
    if module.padding == "same" and any(size % 2 == 0 for size in module.kernel_size):
        return "padding 'same' of an even kernel pads one side more than the other"
    return None


def _pool_fault(module: Any) -> str | None:
    if module.divisor_override is not None:
        return f"divisor_override {module.divisor_override}; the machine divides by the window's size"
    if module.ceil_mode:
        return "ceil_mode=True; the machine averages whole windows"
    if _pair(module.padding) != (0, 0) and not module.count_include_pad:
        return "count_include_pad=False; the machine's padding counts as zeros"
    return None


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def geometry(module: Any, in_hw: tuple[int, int], path: str) -> dict[str, Any]:
    """kernel, stride and padding of a convolution or an average pool that reads (H, W), and a convolution's groups.

    Raises ExportError for an adaptive pool whose output does not divide its input.
    """
    if isinstance(module, nn.AdaptiveAvgPool2d):
        wanted = _adaptive_size(module.output_size, in_hw)
        if any(size % out for size, out in zip(in_hw, wanted, strict=True)):
            raise ExportError(at(path, "AdaptiveAvgPool2d", f"an output that divides {list(in_hw)}", list(wanted)))
        kernel = [size // out for size, out in zip(in_hw, wanted, strict=True)]
        return {"kernel": kernel, "stride": list(kernel), "padding": [0, 0]}
    kernel = list(_pair(module.kernel_size))
    if module.padding in ("same", "valid"):
        padding = [size // 2 if module.padding == "same" else 0 for size in kernel]
    else:
        padding = list(_pair(module.padding))
    found = {"kernel": kernel, "stride": list(_pair(module.stride)), "padding": padding}
    return {**found, "groups": module.groups} if getattr(module, "groups", 1) > 1 else found


def _adaptive_size(size: Any, in_hw: tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if size is None or isinstance(size, int) else tuple(size)
    return (in_hw[0] if pair[0] is None else int(pair[0]), in_hw[1] if pair[1] is None else int(pair[1]))
